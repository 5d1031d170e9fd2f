/**
 * The messages between a pool and the process that reads shards for it. All are cloned on the way, so that
 * they are plain data.
 */

import type { WireError } from "../../errors.js"
import type { Id, StoredRecord } from "../../records.js"
import type { CellEffort } from "../../vectors/cells/effort.js"
import type { IndexDescription, PoolOptions, ShardHit, ShardSpec } from "../backend.js"
import type { NumberedReplyOf, NumberedRequestOf, RequestOf } from "../messages.js"

/** The first message: what is to be read, by what, and within which bounds. */
export interface Start {
  readonly backend: string
  /** URL of the module that opens shards, where they are not as the backend builds them. */
  readonly opener?: string | undefined
  /** URLs of modules that register backends. */
  readonly modules: readonly string[]
  readonly pool: PoolOptions
  readonly memoryBytes: number
  /** The process that started this one, without which it ends. */
  readonly parent: number
}

/** The answer to {@link Start}: from now on requests are read. */
export const READY = "ready"

/**
 * What the process does, by name: the request's fields and the reply's value. A shard is known by a number
 * that the pool chooses.
 */
export interface Calls {
  open: {
    request: OfShard & {
      readonly dir: string
      readonly spec: ShardSpec
      readonly index: IndexDescription
      readonly rows: number | undefined
    }
    reply: { readonly rows: number; readonly bytes: number }
  }
  /** One query in some shards of one snapshot: an answer each. */
  search: {
    request: {
      readonly shards: readonly number[]
      readonly vector: Float32Array
      readonly k: number
      readonly effort: CellEffort | undefined
    }
    reply: readonly WireAnswer[]
  }
  get: {
    request: OfShard & { readonly ids: readonly Id[] }
    reply: readonly (StoredRecord | undefined)[]
  }
  /**
   * The records of a shard after the first `skip` batches; undefined after the last. A cursor is the number
   * of a reading, which goes on where it was.
   */
  next: {
    request: OfShard & { readonly cursor: number; readonly skip: number }
    reply: readonly StoredRecord[] | undefined
  }
  /** Ends a reading before its end. */
  leave: { request: { readonly cursor: number }; reply: undefined }
  close: { request: OfShard; reply: undefined }
}

interface OfShard {
  readonly shard: number
}

export type WireAnswer = { readonly hits: readonly ShardHit[] } | { readonly error: WireError }

export type CallName = keyof Calls

export type Request = RequestOf<Calls>

export type Reply<Name extends CallName> = Calls[Name]["reply"]

export type NumberedRequest = NumberedRequestOf<Calls>

export type NumberedReply = NumberedReplyOf<Calls>
