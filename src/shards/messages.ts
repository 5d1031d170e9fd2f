/**
 * Calls between a pool and the thread or process that answers them. `Calls` says, by the name of a call, what
 * fields its request has and what value its reply.
 */
import type { WireError } from "../errors.js"

interface AnyCall {
  readonly request: object
  readonly reply: unknown
}
type CallTable<Calls> = { readonly [Name in keyof Calls]: AnyCall }

export type RequestOf<Calls extends CallTable<Calls>> = {
  [Name in keyof Calls]: { readonly call: Name } & Calls[Name]["request"]
}[keyof Calls]

export interface NumberedRequestOf<Calls extends CallTable<Calls>> {
  readonly number: number
  readonly request: RequestOf<Calls>
}

export type NumberedReplyOf<Calls extends CallTable<Calls>> =
  | { readonly number: number; readonly value: Calls[keyof Calls]["reply"] }
  | { readonly number: number; readonly error: WireError }
