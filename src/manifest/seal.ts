/**
 * JSON documents that carry their own checksum.
 *
 * A sealed document is ordinary JSON whose last property is the SHA-256 of all bytes before it:
 *
 * ```
 * {
 *   "format": "vecsnap",
 *   …,
 *   "sha256": "<64 hex digits>"
 * }
 * ```
 *
 * So a flipped byte anywhere in a pointer or manifest is noticed, and no second object is needed for it.
 */
import { createHash } from "node:crypto"
import { corrupt, messageOf } from "../errors.js"
import { parseJson, stringifyJson } from "../json.js"
import type { Json } from "../records.js"

const sealFor = (body: Buffer): string =>
  `,\n  "sha256": "${createHash("sha256").update(body).digest("hex")}"\n}\n`

/**
 * Values in a document, about: room for the most shards there may be, with the files that a LanceDB shard
 * has. An empty object takes two bytes as text, and thirty times that once it is parsed.
 */
const VALUES_MAX = 4_000_000

export const SEAL_BYTES = Buffer.byteLength(sealFor(Buffer.alloc(0)))

/**
 * Writes a non-empty object as a sealed document.
 *
 * @param further properties that depend on the bytes before them, as text: a comma, then all of it
 */
export function seal(
  document: Readonly<Record<string, unknown>>,
  further: (content: Buffer) => string = () => "",
): Buffer {
  const text = stringifyJson(document, 2)
  const content = Buffer.from(text.slice(0, text.lastIndexOf("\n}")))
  const body = Buffer.concat([content, Buffer.from(further(content))])
  return Buffer.concat([body, Buffer.from(sealFor(body))])
}

/** Reads a sealed document. Throws `Corrupt`, naming `key`, if a byte of it has changed. */
export function unseal(bytes: Uint8Array, key: string): Readonly<Record<string, Json>> {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const body = buffer.subarray(0, Math.max(0, buffer.length - SEAL_BYTES))
  if (buffer.subarray(body.length).toString() !== sealFor(body)) {
    throw corrupt(`${key} is damaged: its ${buffer.length} bytes do not end in their own SHA-256`, {
      key,
      sizeBytes: buffer.length,
    })
  }
  const document = parsed(buffer.toString(), key)
  if (document === null || typeof document !== "object" || Array.isArray(document)) {
    throw corrupt(`${key} is not a JSON object`, { key })
  }
  return document as Readonly<Record<string, Json>>
}

function parsed(text: string, key: string): Json {
  try {
    return parseJson(text, VALUES_MAX)
  } catch (error) {
    throw corrupt(`${key} cannot be read as JSON: ${messageOf(error)}`, { key }, error)
  }
}
