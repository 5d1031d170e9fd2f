import type { Session } from "@lancedb/lancedb"
import { abortable } from "../../async/abortable.js"
import { closed, throwIfAborted } from "../../errors.js"
import { machineLimits, readerDefaults } from "../../machine.js"
import type { Id, StoredRecord } from "../../records.js"
import type {
  IndexDescription,
  PoolOptions,
  ShardAnswer,
  ShardHit,
  ShardPool,
  ShardReader,
  ShardSpec,
} from "../backend.js"
import { toStoredIds } from "../checks.js"
import type { ShardQuery } from "../query.js"
import { readAll } from "../read-all.js"
import { ReadersApart } from "../search-each.js"
import type { ShardSource } from "../source.js"
import { viewRecord } from "../stored.js"
import { getRecords, readRows } from "./get.js"
import { type OpenTable, openTable } from "./open.js"
import { loadLanceDb } from "./packages.js"
import { searchTable } from "./search.js"

// Schemas, manifests and file footers. LanceDB's own default is 1 GiB.
export const METADATA_CACHE_BYTES = 64 * 2 ** 20

/**
 * Makes what all LanceDB shards of one reader share: one session, whose index cache is bounded by
 * `memoryBytes`. LanceDB searches in threads of its own, so `workers` means nothing here.
 */
export function createPool(options: PoolOptions, open: TableOpener = openTable): ShardPool {
  return new LancePool(options.memoryBytes ?? readerDefaults(machineLimits()).memoryBytes, open)
}

/** Opens and validates the table in a directory: {@link openTable} for those that this backend builds. */
export type TableOpener = typeof openTable

class LancePool implements ShardPool {
  readonly #memoryBytes: number
  readonly #openTable: TableOpener
  readonly #readers = new ReadersApart()
  #session: Session | undefined
  #closed = false

  constructor(memoryBytes: number, open: TableOpener) {
    this.#memoryBytes = memoryBytes
    this.#openTable = open
  }

  async open(
    source: ShardSource,
    spec: ShardSpec,
    index: IndexDescription,
    rows?: number | undefined,
  ): Promise<ShardReader> {
    const lancedb = await loadLanceDb()
    if (this.#closed) throw closed("the shard pool is closed")
    this.#session ??= new lancedb.Session(BigInt(this.#memoryBytes), BigInt(METADATA_CACHE_BYTES))
    const dir = await source.localDir()
    const table = await this.#openTable(lancedb, this.#session, dir, spec, index, rows)
    return this.#readers.add(new LanceReader(table))
  }

  search(shards: readonly ShardReader[], query: ShardQuery): Promise<readonly ShardAnswer[]> {
    return this.#readers.search(shards, query)
  }

  async close(): Promise<void> {
    this.#closed = true
    this.#session = undefined
  }
}

class LanceReader implements ShardReader {
  readonly #shard: OpenTable
  readonly #running = new Set<Promise<unknown>>()
  #closing: Promise<void> | undefined

  constructor(shard: OpenTable) {
    this.#shard = shard
  }

  get rows(): number {
    return this.#shard.rows
  }

  /** The index's copy of the vectors; the cache of the session may hold less of it. */
  get bytes(): number {
    return this.#shard.rows * this.#shard.spec.dim * 4
  }

  async search({ vector, k, signal }: ShardQuery): Promise<readonly ShardHit[]> {
    const { spec, file, layout } = this.#shard
    throwIfAborted(signal)
    const hits = await abortable(
      this.#run(() => searchTable(this.#shard, vector, k)),
      signal,
    )
    return hits.distances.map((distance, row) => ({
      ...viewRecord(hits, row, spec, file, layout.parsePayload),
      distance,
    }))
  }

  async get(ids: readonly Id[]): Promise<readonly (StoredRecord | undefined)[]> {
    const storedIds = toStoredIds(ids, this.#shard.spec)
    const records = await this.#run(() => getRecords(this.#shard, storedIds))
    return storedIds.map((id) => records.get(id))
  }

  records(): AsyncIterable<readonly StoredRecord[]> {
    const { rows, spec } = this.#shard
    return readAll(rows, spec.dim, (first, count) => this.#run(() => readRows(this.#shard, first, count)))
  }

  close(): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  async #close(): Promise<void> {
    await Promise.allSettled(this.#running)
    this.#shard.close()
  }

  async #run<T>(work: () => Promise<T>): Promise<T> {
    if (this.#closing !== undefined) throw closed(`${this.#shard.file} is closed`)
    const running = work()
    this.#running.add(running)
    try {
      return await running
    } finally {
      this.#running.delete(running)
    }
  }
}
