/** Faults that the in-process S3 server can be asked to commit, one request each. */
import type { S3Operation } from "./s3-wire.js"

/** The facts of a request that a fault is matched against. */
export interface RequestFacts {
  readonly operation: S3Operation
  readonly method: string
  readonly bucket: string
  readonly key: string
  /** The `Range` header as sent. */
  readonly range: string | undefined
}

/** All given fields must match; a string `key` is the whole key. Or a function, for everything else. */
export type FaultMatch =
  | ((request: RequestFacts) => boolean)
  | { readonly operation?: S3Operation; readonly method?: string; readonly key?: string | RegExp }

export type Fault =
  /** Waits, then proceeds as usual. Ends early when the client leaves; what it asked for is then not done. */
  | { readonly do: "delay"; readonly ms: number }
  /** Keeps the connection open and is silent for good: before the answer, or after half of its body. */
  | { readonly do: "stall"; readonly at: "answer" | "body" }
  /** Answers with an error and does nothing. `code` defaults to what S3 sends with this status. */
  | { readonly do: "status"; readonly status: 403 | 429 | 500 | 503; readonly code?: string }
  /** Resets the connection before the body is read; nothing is done. */
  | { readonly do: "reset-before" }
  /** Does what was asked, then resets the connection: the reply is lost. */
  | { readonly do: "reset-after" }
  /**
   * Announces the full length, sends half of the body, resets the connection, which may take part of that
   * half back.
   */
  | { readonly do: "cut-body" }
  /** Announces the full length, sends half of the body, ends the connection in an orderly way. */
  | { readonly do: "short-body" }
  /** Announces and sends half of the body, in a reply that is well formed. */
  | { readonly do: "truncate" }
  /** Answers a ranged GET with 200 and the whole object. */
  | { readonly do: "ignore-range" }
  /**
   * Flips the bits of one byte of the body sent, by default the middle one. What is stored stays as it is.
   */
  | { readonly do: "flip-byte"; readonly at?: number }
  /** Overlooks If-Match and If-None-Match, as some stores do. */
  | { readonly do: "ignore-preconditions" }
  /** DeleteObjects leaves keys that match and reports AccessDenied for each. */
  | { readonly do: "refuse-delete"; readonly keys: RegExp }

export const FAULT_CODES: Readonly<Record<number, string>> = {
  403: "AccessDenied",
  429: "TooManyRequests",
  500: "InternalError",
  503: "SlowDown",
}

/**
 * The faults still to be committed. The first one registered that matches a request is used, one per request.
 */
export class FaultPlan {
  #pending: { readonly match: FaultMatch; readonly fault: Fault; times: number }[] = []

  add(match: FaultMatch, fault: Fault, times: number): void {
    this.#pending.push({ match, fault, times })
  }

  clear(): void {
    this.#pending = []
  }

  take(request: RequestFacts): Fault | undefined {
    const found = this.#pending.find(({ match }) => matches(match, request))
    if (found === undefined) return undefined
    found.times -= 1
    if (found.times <= 0) this.#pending = this.#pending.filter((one) => one !== found)
    return found.fault
  }
}

function matches(match: FaultMatch, request: RequestFacts): boolean {
  if (typeof match === "function") return match(request)
  const { operation, method, key } = match
  if (operation !== undefined && operation !== request.operation) return false
  if (method !== undefined && method !== request.method) return false
  if (key === undefined) return true
  return typeof key === "string" ? key === request.key : key.test(request.key)
}

/**
 * What goes out for a reply's body: the length announced, the bytes sent, and how the connection ends after
 * them.
 */
export interface OutgoingBody {
  readonly announcedBytes: number
  readonly bytes: Buffer
  readonly ending: "normal" | "close" | "reset" | "none"
}

/** Applies the faults that concern a reply's body. */
export function spoilBody(body: Buffer, fault: Fault | undefined): OutgoingBody {
  const half = body.subarray(0, Math.floor(body.length / 2))
  switch (fault?.do) {
    case "stall":
      return { announcedBytes: body.length, bytes: half, ending: "none" }
    case "cut-body":
      return { announcedBytes: body.length, bytes: half, ending: "reset" }
    case "short-body":
      return { announcedBytes: body.length, bytes: half, ending: "close" }
    case "truncate":
      return { announcedBytes: half.length, bytes: half, ending: "normal" }
    case "flip-byte": {
      const bytes = Buffer.from(body)
      const at = fault.at ?? Math.floor(bytes.length / 2)
      if (at < bytes.length) bytes[at] = bytes[at]! ^ 0xff
      return { announcedBytes: bytes.length, bytes, ending: "normal" }
    }
    default:
      return { announcedBytes: body.length, bytes: body, ending: "normal" }
  }
}
