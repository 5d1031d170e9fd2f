/**
 * The documents of a root (pointer, manifests, leases): one envelope of format and version around a schema.
 */
import { z } from "zod"
import { corrupt, isVecsnapError, unsupported, type VecsnapError } from "../errors.js"
import type { Json } from "../records.js"
import { isRunId } from "./keys.js"
import { seal, unseal } from "./seal.js"

export interface DocumentKind<S extends z.ZodType> {
  /** Value of the property `format`. */
  readonly format: string
  /** Value of the property `version`, the only one that is read. */
  readonly version: number
  readonly schema: S
}

// What most documents hold.
export const time = z.iso.datetime().transform((text) => new Date(text))
export const count = z.number().int().nonnegative()
export const runId = z.string().refine(isRunId, "a run id of 12 characters of [0-9a-z]")

/** Writes a sealed document, see `seal.ts`. */
export function encodeDocument(
  { format, version }: Pick<DocumentKind<z.ZodType>, "format" | "version">,
  body: Readonly<Record<string, unknown>>,
): Buffer {
  return seal({ format, version, ...body })
}

/**
 * Reads a sealed document. Throws `Corrupt` if its bytes or its meaning are damaged and `Unsupported` if a
 * later version of vecsnap wrote it; both name `key`.
 */
export function decodeDocument<S extends z.ZodType>(
  { format, version, schema }: DocumentKind<S>,
  bytes: Uint8Array,
  key: string,
): z.output<S> {
  const document: Readonly<Record<string, Json>> = unseal(bytes, key)
  if (document.format !== format)
    throw corrupt(`${key} has the format ${JSON.stringify(document.format)}, expected "${format}"`, { key })
  if (document.version !== version) {
    throw unsupported(
      `${key} has version ${document.version}; this vecsnap reads version ${version}: use a newer one`,
      {
        key,
        version: document.version,
      },
    )
  }
  const parsed = schema.safeParse(document)
  if (parsed.success) return parsed.data
  const [issue] = parsed.error.issues
  throw corrupt(
    `${key} is not valid: ${issue!.path.join(".") || "document"}: ${issue!.message}`,
    { key },
    parsed.error,
  )
}

/** Whether a document is at fault and not the store: to whoever looks at a whole root that is a finding. */
export const isUnreadable = (
  error: unknown,
): error is VecsnapError & { readonly tag: "Corrupt" | "Unsupported" } =>
  isVecsnapError(error, "Corrupt") || isVecsnapError(error, "Unsupported")
