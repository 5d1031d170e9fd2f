/**
 * The messages between the pool and its workers. Requests go in batches, one message each way per batch,
 * because a round trip between threads costs more than the scan of a small shard.
 */

import type { ShardSpec } from "../backend.js"
import type { NumberedReplyOf, NumberedRequestOf, RequestOf } from "../messages.js"
import type { FoundRecords, StoredRows } from "./get.js"
import type { Answers } from "./search.js"

/**
 * What a worker does, by name: the request's fields and the reply's value. A handle is the number of an open
 * shard, which the pool chooses.
 */
export interface Calls {
  open: {
    request: OfHandle & {
      readonly file: string
      readonly spec: ShardSpec
      readonly rows: number | undefined
    }
    reply: { readonly rows: number }
  }
  /** Reads the vectors into memory, from where they are searched from then on. */
  load: { request: OfHandle; reply: undefined }
  /** One query in some shards of the same snapshot; with `each` in every one by itself. */
  search: {
    request: {
      readonly handles: readonly number[]
      readonly query: Float32Array
      readonly k: number
      readonly each: boolean
    }
    reply: Answers
  }
  get: { request: OfHandle & { readonly ids: readonly (string | bigint)[] }; reply: FoundRecords }
  read: { request: OfHandle & { readonly first: number; readonly count: number }; reply: StoredRows }
  close: { request: OfHandle; reply: undefined }
}

/** What a worker is started with. */
export interface WorkerData {
  /** URL of the module whose `openShardFile` opens its files. */
  readonly files: string
}

interface OfHandle {
  readonly handle: number
}

export type CallName = keyof Calls

export type Request = RequestOf<Calls>

export type Reply<Name extends CallName> = Calls[Name]["reply"]

export type NumberedRequest = NumberedRequestOf<Calls>

export type NumberedReply = NumberedReplyOf<Calls>
