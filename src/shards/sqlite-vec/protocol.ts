/**
 * The messages between the pool and its workers. Requests go in batches, one message each way per batch,
 * because a round trip between threads costs more than the scan of a small shard.
 */

import type { CellEffort } from "../../vectors/cells/effort.js"
import type { ShardRecord } from "../../vectors/cells/records.js"
import type { ScanLimits } from "../../vectors/cells/scan.js"
import type { PlacedFacts } from "../../vectors/scan-table.js"
import type { ShardSpec } from "../backend.js"
import type { NumberedReplyOf, NumberedRequestOf, RequestOf } from "../messages.js"
import type { FoundRecords, StoredRows } from "./get.js"
import type { Answers } from "./search.js"

/** A shard's number in the pool. */
type Handle = number

/**
 * What a worker does, by name: the request's fields and the reply's value. Workers know of shards and
 * memories what {@link News} have told them.
 */
export interface Calls {
  /** Opens a shard's file, which checks it. */
  open: { request: OfHandle; reply: OpenedShard }
  /** Puts parts of a shard where there is room for them. False if this worker gets no such memory. */
  load: { request: OfHandle & LoadPlaces; reply: Loaded | false }
  /** One query in some shards of the same snapshot; with `each` in every one by itself. */
  search: { request: SearchRequest; reply: Answers }
  get: { request: OfHandle & { readonly ids: readonly (string | bigint)[] }; reply: FoundRecords }
  read: { request: OfHandle & { readonly first: number; readonly count: number }; reply: StoredRows }
  close: { request: OfHandle; reply: undefined }
}

interface OfHandle {
  readonly handle: Handle
}

export interface OpenedShard {
  readonly rows: number
  /** Of shards with codes: bytes of `cells.bin`, and the cells in it. */
  readonly cells: { readonly bytes: number; readonly count: number } | undefined
}

/** An address in one of the memories. */
export interface Address {
  readonly arena: number
  readonly at: number
}

/** Where to put what. */
export interface LoadPlaces {
  /** Vectors, and behind them a bitmap of the rows that can be ranked. */
  readonly vectors?: (Address & { readonly bitmapAt: number }) | undefined
  /** What whole scans need of vectors that are there or come with it, in the same memory. */
  readonly table?: Address | undefined
  readonly cells?: (Address & { readonly recordsAt: number }) | undefined
}

export interface Loaded {
  /** Whether only rows of the bitmap can be ranked. */
  readonly isPartial?: boolean | undefined
  readonly facts?: PlacedFacts | undefined
  readonly cells?: LoadedCells | undefined
}

export interface LoadedCells {
  readonly record: ShardRecord
  /** Address of the ranks; a quarter of it is the number of the first row. */
  readonly ranksAt: number
}

export interface SearchRequest {
  readonly handles: readonly Handle[]
  readonly query: Float32Array
  readonly k: number
  readonly each: boolean
  readonly effort: CellEffort | undefined
  /** A place for this worker in each memory that it needs one in. */
  readonly scratches: readonly Address[]
  /** What there is room for in the places of scans through cells. */
  readonly limits: ScanLimits
}

/** What has changed since a worker was told before. */
export interface News {
  readonly arenas: readonly ArenaNews[]
  /** Memories that are no more. */
  readonly goneArenas: readonly number[]
  readonly shards: readonly ShardNews[]
}

export interface ArenaNews {
  readonly id: number
  readonly sizeBytes: number
  /** Absent where each worker makes its own. */
  readonly memory: WebAssembly.Memory | undefined
}

export interface ShardNews {
  readonly handle: Handle
  readonly file: string
  readonly spec: ShardSpec
  /** That it must have, if that is known. */
  readonly rows: number | undefined
  readonly places: ShardPlaces
}

/** Where parts of a shard lie. */
export interface ShardPlaces {
  readonly vectors?: (Address & { readonly bitmapAt: number | undefined }) | undefined
  readonly table?: (Address & { readonly facts: PlacedFacts }) | undefined
  readonly cells?: (LoadedCells & { readonly arena: number }) | undefined
}

/** What a worker is started with. */
export interface WorkerData {
  /** URL of the module whose `openShardFile` opens its files. */
  readonly files: string
  /** Files that it has open at the same time, at most. */
  readonly openMax: number
}

export interface Message {
  readonly news: News | undefined
  readonly requests: readonly NumberedRequest[]
}

export type CallName = keyof Calls

export type Request = RequestOf<Calls>

export type Reply<Name extends CallName> = Calls[Name]["reply"]

export type NumberedRequest = NumberedRequestOf<Calls>

export type NumberedReply = NumberedReplyOf<Calls>
