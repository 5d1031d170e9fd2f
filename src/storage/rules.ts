/**
 * The rules that all stores share: what a key may look like, how keys are ordered, which requests make sense.
 * One rule for all, so that a snapshot can be copied from any store to any other.
 */
import { corrupt, invalidInput } from "../errors.js"
import type { GetFileOptions, GetOptions, PutOptions } from "./store.js"

/** The limit of S3, in bytes of UTF-8. */
const MAX_KEY_BYTES = 1024

// Control characters cannot be carried by the XML of S3 listings; a backslash separates directories on some
// systems.
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
const FORBIDDEN_CHARACTER = /[\u0000-\u001f\u007f\\\ufffe\uffff]/
const LONE_SURROGATE = /\p{Surrogate}/u

/**
 * Throws `InvalidInput` unless `key` is 1 to 1,024 bytes of well-formed text whose "/"-separated segments are
 * neither empty nor "." nor "..", without backslashes and control characters. Such a key cannot leave the
 * root it is joined to.
 */
export function assertKey(key: string): void {
  const fault = keyFault(key)
  if (fault !== undefined) throw invalidInput(`the key ${JSON.stringify(key)} ${fault}`, { key })
}

/** Whether {@link assertKey} would accept `key`. */
export function isKey(key: string): boolean {
  return keyFault(key) === undefined
}

/**
 * Throws `InvalidInput` unless some valid key starts with `prefix`, which may be empty and may end with "/".
 */
export function assertPrefix(prefix: string): void {
  const fault = keyFault(`${prefix}x`)
  if (fault !== undefined) throw invalidInput(`the prefix ${JSON.stringify(prefix)} ${fault}`, { prefix })
}

/**
 * Throws `InvalidInput` unless `key` may be read: one that {@link assertKey} accepts, or such a one behind
 * slashes. Nothing of ours is called so, but programs that take a prefix with a slash at its end put another
 * one behind it, and S3 has objects of that name.
 */
export function assertReadKey(key: string): void {
  const fault = keyFault(withoutSlashes(key))
  if (fault !== undefined) throw invalidInput(`the key ${JSON.stringify(key)} ${fault}`, { key })
}

/** Whether {@link assertReadKey} would accept `key`. */
export const isReadKey = (key: string): boolean => isKey(withoutSlashes(key))

/** {@link assertPrefix} of keys that may be read. */
export function assertReadPrefix(prefix: string): void {
  assertPrefix(withoutSlashes(prefix))
}

/** A key without slashes at its beginning. */
export const withoutSlashes = (key: string): string => key.replace(/^\/+/, "")

function keyFault(key: string): string | undefined {
  if (key === "") return "is empty"
  if (LONE_SURROGATE.test(key)) return "is not well-formed Unicode"
  if (FORBIDDEN_CHARACTER.test(key)) return "contains a backslash or a control character"
  const sizeBytes = Buffer.byteLength(key)
  if (sizeBytes > MAX_KEY_BYTES) return `is ${sizeBytes} bytes long, more than ${MAX_KEY_BYTES}`
  for (const segment of key.split("/")) {
    if (segment === "") return 'has an empty segment: "/" at its start, at its end or twice in a row'
    if (segment === "." || segment === "..") return `has a segment "${segment}"`
  }
  return undefined
}

/** Throws `InvalidInput` unless `0 <= start < end`, both safe integers. */
export function assertRange(range: { readonly start: number; readonly end: number }): void {
  const { start, end } = range
  if (Number.isSafeInteger(start) && Number.isSafeInteger(end) && 0 <= start && start < end) return
  throw invalidInput(`a range needs integers with 0 <= start < end, got ${start} to ${end}`, { start, end })
}

/**
 * Throws `Corrupt` if a whole object of `sizeBytes` is asked for that may not be as large. `place` is its
 * full name.
 */
export function assertFits(
  { range, maxBytes }: GetOptions,
  sizeBytes: number,
  place: string,
  key: string,
): void {
  if (range !== undefined || maxBytes === undefined || sizeBytes <= maxBytes) return
  throw corrupt(`${place} has ${sizeBytes} bytes, expected at most ${maxBytes}`, {
    key,
    expected: maxBytes,
    got: sizeBytes,
  })
}

/** Throws `Corrupt` if the size of an object is known to be another. `place` is its full name. */
export function assertExpectedSize(
  { expectedBytes }: GetFileOptions,
  sizeBytes: number,
  place: string,
  key: string,
): void {
  if (expectedBytes === undefined || sizeBytes === expectedBytes) return
  throw corrupt(`${place} has ${sizeBytes} bytes, expected ${expectedBytes}`, {
    key,
    expected: expectedBytes,
    got: sizeBytes,
  })
}

/** Throws `InvalidInput` if both preconditions are asked for. */
export function assertOnePrecondition({ ifAbsent, ifMatch }: PutOptions): void {
  if (ifAbsent && ifMatch !== undefined) {
    throw invalidInput("a put takes ifAbsent or ifMatch, not both", { ifMatch })
  }
}

/** The URL of what is below `prefix` of a bucket, without a trailing slash. */
export const s3Url = (bucket: string, prefix: string): string =>
  prefix === "" ? `s3://${bucket}` : `s3://${bucket}/${prefix}`

/** Orders keys as stores do: by the bytes of their UTF-8. JavaScript's own order is that of UTF-16 units. */
export function compareKeys(a: string, b: string): number {
  const length = Math.min(a.length, b.length)
  for (let i = 0; i < length; i++) {
    const unitA = a.charCodeAt(i)
    const unitB = b.charCodeAt(i)
    if (unitA !== unitB) return utf8Rank(unitA) - utf8Rank(unitB)
  }
  return a.length - b.length
}

// The two orders differ only here: surrogates stand for code points above U+FFFF, so they rank above U+E000
// to U+FFFF.
function utf8Rank(unit: number): number {
  if (unit < 0xd800) return unit
  return unit < 0xe000 ? unit + 0x2000 : unit - 0x800
}
