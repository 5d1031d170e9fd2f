/**
 * The documents of a root (pointer, manifests, leases): one envelope of format and version around a schema.
 */
import { z } from "zod"
import { corrupt, isVecsnapError, unsupported, type VecsnapError } from "../errors.js"
import { stringifyJson } from "../json.js"
import type { Json } from "../records.js"
import { shortened } from "../wording.js"
import { isRunId } from "./keys.js"
import { seal, unseal } from "./seal.js"

/**
 * A list of at most `most` items. Unlike that of zod it is done with at the first item that does not fit: in
 * a hostile document there may be millions, and a complaint about each would take gigabytes.
 */
export const boundedList = <S extends z.ZodType>(item: S, most: number) =>
  z
    .array(z.unknown())
    .max(most)
    .transform((values, context): z.output<S>[] => {
      const fitting: z.output<S>[] = []
      for (const [place, value] of values.entries()) {
        const parsed = item.safeParse(value)
        if (!parsed.success) {
          const [issue] = parsed.error.issues
          context.addIssue({ code: "custom", path: [place, ...issue!.path], message: issue!.message })
          return z.NEVER
        }
        fitting.push(parsed.data)
      }
      return fitting
    })

/** An object with at most `most` properties, before anything is said of their values. */
export const boundedObject = (most: number) =>
  z
    .record(z.string(), z.unknown())
    .refine((object) => Object.keys(object).length <= most, `an object of at most ${most} properties`)

export interface DocumentKind<S extends z.ZodType> {
  /** Value of the property `format`. */
  readonly format: string
  /** Value of the property `version`: the only one that is read, besides that of `requiring`. */
  readonly version: number
  readonly schema: S
  /**
   * The version that documents have which name in `requires` what a reader must know, and the names that are
   * known here. Nothing else of a document with another name is looked at.
   */
  readonly requiring?: { readonly version: number; readonly known: readonly string[] } | undefined
}

// What most documents hold.
export const time = z.iso.datetime().transform((text) => new Date(text))
export const count = z.number().int().nonnegative()
export const sha256 = z.string().regex(/^[0-9a-f]{64}$/)
export const runId = z.string().refine(isRunId, "a run id of 12 characters of [0-9a-z]")

/** Writes a sealed document, see `seal.ts`. `requires`: names of `requiring.known`. */
export function encodeDocument(
  { format, version, requiring }: Pick<DocumentKind<z.ZodType>, "format" | "version" | "requiring">,
  body: Readonly<Record<string, unknown>>,
  further?: (content: Buffer) => string,
  requires: readonly string[] = [],
): Buffer {
  if (requiring === undefined || requires.length === 0) return seal({ format, version, ...body }, further)
  const names = [...new Set(requires)].sort()
  return seal({ format, version: requiring.version, requires: names, ...body }, further)
}

/**
 * Reads a sealed document. Throws `Corrupt` if its bytes or its meaning are damaged and `Unsupported` if a
 * later version of vecsnap wrote it; both name `key`.
 */
export function decodeDocument<S extends z.ZodType>(
  { format, version, schema, requiring }: DocumentKind<S>,
  bytes: Uint8Array,
  key: string,
): z.output<S> {
  const document: Readonly<Record<string, Json>> = unseal(bytes, key)
  if (document.format !== format)
    throw corrupt(`${key} has the format ${shown(document.format)}, expected "${format}"`, { key })
  if (requiring !== undefined && document.version === requiring.version) {
    assertKnown(document.requires, requiring.known, key)
  } else if (document.version !== version) {
    const found = shown(document.version)
    const read =
      requiring === undefined ? `version ${version}` : `versions ${version} and ${requiring.version}`
    throw unsupported(`${key} has version ${found}; this vecsnap reads ${read}: use a newer one`, {
      key,
      version: typeof document.version === "number" ? document.version : found,
    })
  }
  const parsed = schema.safeParse(document)
  if (parsed.success) return parsed.data
  const [issue] = parsed.error.issues
  const place = shortened(issue!.path.map(String).join(".") || "document")
  throw corrupt(
    `${key} is not valid: ${place}: ${shortened(issue!.message, MESSAGE_LENGTH)}`,
    { key },
    parsed.error,
  )
}

/** More than there will ever be. */
const REQUIRED_MAX = 100

function assertKnown(requires: Json | undefined, known: readonly string[], key: string): void {
  const isList = Array.isArray(requires) && requires.length > 0 && requires.length <= REQUIRED_MAX
  if (!isList || !requires.every((name) => typeof name === "string")) {
    throw corrupt(`${key} is not valid: requires: expected a list of 1 to ${REQUIRED_MAX} names`, { key })
  }
  const name = requires.find((name) => !known.includes(name))
  if (name === undefined) return
  throw unsupported(
    `${key} requires ${shown(name)}, which this vecsnap does not know: use a newer one, and upgrade all that read a root before what builds it`,
    { key, requires: name },
  )
}

/** Room for what a schema says of a value that does not fit; longer ones repeat the value. */
const MESSAGE_LENGTH = 1000

/** A value of whatever type, as much of it as a message has room for. */
const shown = (value: Json | undefined): string =>
  value === undefined ? "undefined" : shortened(stringifyJson(value))

/** Whether a document is at fault and not the store: to whoever looks at a whole root that is a finding. */
export const isUnreadable = (
  error: unknown,
): error is VecsnapError & { readonly tag: "Corrupt" | "Unsupported" } =>
  isVecsnapError(error, "Corrupt") || isVecsnapError(error, "Unsupported")
