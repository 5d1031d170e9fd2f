/** The pointer of the format, `_CURRENT`: compact JSON that names the live manifest. */
import { corrupt, messageOf } from "../../errors.js"
import type { Json } from "../../records.js"
import type { SnapshotPointer } from "../../snapshot/format.js"
import type { StoredObject } from "../../storage/store.js"
import { kindOf, quoted } from "../../wording.js"
import { POINTER_KEY } from "../keys.js"
import { parsePythonJson, pythonJson } from "./json.js"
import { manifestKeyOf } from "./keys.js"
import { formatTime, parseTime } from "./times.js"

const MANIFEST_CONTENT_TYPE = "application/x-sqlite3"

/** Whether the properties of a pointer are those of this format, whatever their values. */
export const isPointerDocument = ({
  manifest_content_type: type,
  manifest_ref: reference,
}: Readonly<Record<string, Json>>): boolean => type !== undefined && reference !== undefined

/** {@link isPointerDocument} of bytes. */
export function isPointer(body: Uint8Array): boolean {
  try {
    return isPointerDocument(documentOf(body))
  } catch {
    return false
  }
}

/** Throws `Corrupt` unless it has what the reference needs to open it; what else it has is ignored. */
export function decodePointer({ body, etag }: StoredObject): SnapshotPointer {
  const document = documentOf(body)
  const text = (name: string): string => {
    const value = document[name]
    if (typeof value === "string") return value
    throw corrupt(`${POINTER_KEY}: ${name} is ${kindOf(value)}, expected text`, { key: POINTER_KEY })
  }
  text("manifest_content_type")
  const updatedAt = document.updated_at
  const publishedAt = parseTime(updatedAt)
  if (publishedAt === undefined) {
    const found = typeof updatedAt === "string" ? quoted(updatedAt) : kindOf(updatedAt)
    throw corrupt(`${POINTER_KEY}: updated_at is ${found}, expected a time`, { key: POINTER_KEY })
  }
  const manifest = manifestKeyOf(text("manifest_ref"), POINTER_KEY)
  return { run: text("run_id"), manifest, publishedAt, etag, condemned: [] }
}

function documentOf(body: Uint8Array): Readonly<Record<string, Json>> {
  let document: Json
  try {
    document = parsePythonJson(new TextDecoder("utf-8", { fatal: true }).decode(body))
  } catch (error) {
    throw corrupt(`${POINTER_KEY} is not JSON: ${messageOf(error)}`, { key: POINTER_KEY }, error)
  }
  if (typeof document === "object" && document !== null && !Array.isArray(document))
    return document as Readonly<Record<string, Json>>
  throw corrupt(`${POINTER_KEY} is ${kindOf(document)}, expected a JSON object`, { key: POINTER_KEY })
}

/** The pointer to a manifest at the URL `manifestRef`, as Python writes it. */
export const encodePointer = (run: string, manifestRef: string, updatedAt: Date): Buffer =>
  Buffer.from(
    pythonJson(
      {
        format_version: 1,
        manifest_content_type: MANIFEST_CONTENT_TYPE,
        manifest_ref: manifestRef,
        run_id: run,
        updated_at: formatTime(updatedAt),
      },
      { compact: true },
    ),
  )
