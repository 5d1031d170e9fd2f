/**
 * The errors that vecsnap throws, chosen by what the caller does next.
 *
 * Each has a `tag` to switch on, `details` for programs, one sentence for people that names the thing and
 * both values (expected, got), and the `cause` where there is one. Narrow with {@link isVecsnapError}, which
 * also works across worker threads and duplicate installations, unlike `instanceof`.
 *
 * | tag            | what happened                                   | what to do next                    |
 * | -------------- | ----------------------------------------------- | ---------------------------------- |
 * | `InvalidInput` | a record, option or query is wrong              | fix it; the caller's fault alone   |
 * | `NotFound`     | no snapshot, run or object there                | check the URL; build first         |
 * | `Conflict`     | someone else published or wrote meanwhile       | look at what is there, then retry  |
 * | `GateRefused`  | a condition for publishing does not hold        | look at it, or allow it by name    |
 * | `Corrupt`      | checksum, size or format of stored data is off  | restore the object, or rebuild     |
 * | `Unavailable`  | the store, the machine or a queue fails us now  | retry later; see `details.lasting` |
 * | `Unsupported`  | not possible with this store, version, snapshot | change the request, or upgrade     |
 * | `Closed`       | used after `close()`                            | open again                         |
 * | `Aborted`      | the caller's `AbortSignal` fired, or a timeout  | nothing; it was asked for          |
 *
 * `Unavailable` with `details.lasting: true` is of what waiting does not mend: a permission that is missing,
 * credentials that are wrong, a directory that is not there. Somebody has to put it right; vecsnap does not
 * try such a call again.
 */
export type ErrorTag =
  | "InvalidInput"
  | "NotFound"
  | "Conflict"
  | "GateRefused"
  | "Corrupt"
  | "Unavailable"
  | "Unsupported"
  | "Closed"
  | "Aborted"

/** Facts for programs: object keys, file names, row numbers, expected and actual values. Never a secret. */
export type ErrorDetails = Readonly<Record<string, unknown>>

export class VecsnapError extends Error {
  override readonly name = "VecsnapError"
  readonly tag: ErrorTag
  readonly details: ErrorDetails

  constructor(tag: ErrorTag, message: string, details: ErrorDetails = {}, cause?: unknown) {
    super(bounded(message), cause === undefined ? undefined : { cause })
    this.tag = tag
    this.details = withBoundedTexts(details)
  }
}

/**
 * Characters of a message, and of a text in the details, about: whatever a stored object or an input has in
 * the place of a name, nobody's screen or log is filled by it.
 */
const TEXT_MOST = 4000
const TEXT_END = 500

/** A text as it is, or, if it is too long, its start and its end, where messages have what they are about. */
function bounded(text: string): string {
  if (text.length <= TEXT_MOST) return text
  const start = text.slice(0, TEXT_MOST - TEXT_END - 100)
  const end = text.slice(-TEXT_END)
  return `${start} … ${text.length - start.length - end.length} characters … ${end}`
}

function withBoundedTexts(details: ErrorDetails): ErrorDetails {
  const isLong = (value: unknown): value is string => typeof value === "string" && value.length > TEXT_MOST
  if (!Object.values(details).some(isLong)) return details
  const entries = Object.entries(details)
  return Object.fromEntries(entries.map(([name, value]) => [name, isLong(value) ? bounded(value) : value]))
}

/** Whether `error` is one of ours, and of the given tag if one is given. */
export function isVecsnapError<T extends ErrorTag = ErrorTag>(
  error: unknown,
  tag?: T,
): error is VecsnapError & { readonly tag: T } {
  if (!(error instanceof Error) || error.name !== "VecsnapError" || !("tag" in error)) return false
  return tag === undefined || error.tag === tag
}

/** Whether nothing is gained by trying again before somebody has put it right. */
export const isLasting = (error: unknown): boolean =>
  isVecsnapError(error, "Unavailable") && error.details.lasting === true

type Raise = (message: string, details?: ErrorDetails, cause?: unknown) => VecsnapError

const raise =
  (tag: ErrorTag): Raise =>
  (message, details, cause) =>
    new VecsnapError(tag, message, details, cause)

// One constructor per tag, so that call sites read `throw invalidInput("...", { row })`.
export const invalidInput = raise("InvalidInput")
export const notFound = raise("NotFound")
export const conflict = raise("Conflict")
export const gateRefused = raise("GateRefused")
export const corrupt = raise("Corrupt")
export const unavailable = raise("Unavailable")
/** `Unavailable` until somebody puts right what is around us: `details.lasting` says so. */
export const lastingFault: Raise = (message, details, cause) =>
  unavailable(message, { ...details, lasting: true }, cause)
export const unsupported = raise("Unsupported")
export const closed = raise("Closed")
export const aborted = raise("Aborted")

/** Throws `Aborted` if the signal has fired; for checks between steps. */
export function throwIfAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw aborted("the operation was aborted", {}, signal.reason)
}

/**
 * Throws `InvalidInput`, naming the option, unless its value is absent or a whole number of at least `least`.
 */
export function assertWholeNumber(option: string, value: number | undefined, least: number): void {
  if (value === undefined || (Number.isSafeInteger(value) && value >= least)) return
  throw invalidInput(`option ${option} is ${value}, expected a whole number from ${least}`, { option, value })
}

/** The longest that a timer of Node waits; with more it would fire at once. */
const TIMER_MAX_MS = 2 ** 31 - 1

/** Throws `InvalidInput` unless `value` is a number of milliseconds above 0 that a timer can wait. */
export function assertMilliseconds(option: string, value: number): void {
  if (value > 0 && value <= TIMER_MAX_MS) return
  throw invalidInput(`option ${option} is ${value}, expected milliseconds from 1 to ${TIMER_MAX_MS}`, {
    option,
    value,
  })
}

/** What an error says, whatever was thrown. */
export const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error))

/**
 * What crosses a thread boundary in place of an error, since `postMessage` drops own properties of errors.
 */
export interface WireError {
  readonly tag: ErrorTag | undefined
  readonly message: string
  readonly details: ErrorDetails
  readonly stack: string | undefined
  /** Of an error of the system: its code and the path it is about. */
  readonly system?: { readonly code: string; readonly path?: string }
}

export function errorToWire(error: unknown): WireError {
  const known = isVecsnapError(error)
  const plain = error instanceof Error ? error : new Error(String(error))
  return {
    tag: known ? error.tag : undefined,
    message: plain.message,
    details: known ? error.details : {},
    stack: plain.stack,
    ...(!known && systemFacts(plain)),
  }
}

function systemFacts(error: Error): Pick<WireError, "system"> {
  const { code, path } = error as { readonly code?: unknown; readonly path?: unknown }
  return typeof code === "string" ? { system: { code, ...(typeof path === "string" && { path }) } } : {}
}

export function errorFromWire(wire: WireError): Error {
  const error =
    wire.tag === undefined
      ? Object.assign(new Error(wire.message), wire.system)
      : new VecsnapError(wire.tag, wire.message, wire.details)
  if (wire.stack !== undefined) error.stack = wire.stack
  return error
}
