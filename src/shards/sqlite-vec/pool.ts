import { stat } from "node:fs/promises"
import { abortable } from "../../async/abortable.js"
import { closed, corrupt, errorFromWire, invalidInput, isVecsnapError, throwIfAborted } from "../../errors.js"
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
import type { ShardSource } from "../source.js"
import { type PayloadParser, type RecordView, type StoredColumns, viewRecord } from "../stored.js"
import type { StoredRows } from "./get.js"
import { PoolShard } from "./memory/shard.js"
import { loadSqlite } from "./packages.js"
import { CELLS, FLAT, shardFile } from "./schema.js"
import type { Answers } from "./search.js"
import { type Prepared, Workers } from "./workers.js"

/** What differs between files that this backend builds and those of others. */
export interface FileDialect {
  /** URL of a module whose `openShardFile` opens a file, as that of `open.ts` does. */
  readonly files: URL
  readonly parsePayload?: PayloadParser
}

/** For tests. */
export interface PoolInternals {
  /** How long a worker may take for a batch of requests before it is ended. Default 30,000. */
  readonly batchMs?: number | undefined
  /**
   * Files that each worker has open, at most. Default: its part of a quarter of what the process may have.
   */
  readonly openMax?: number | undefined
  /** How long workers stay when no shard is open. Default 1,000. */
  readonly restMs?: number | undefined
}

const OWN_FILES: FileDialect = { files: new URL("./open.js", import.meta.url) }
const BATCH_MS = 30_000
const REST_MS = 1000
const OPEN_FILES_MIN = 8

/**
 * Makes the worker threads that search the sqlite-vec shards of some readers, and the memories that all of
 * them see. Both come when they are needed.
 */
export function createPool(
  options: PoolOptions,
  dialect: FileDialect = OWN_FILES,
  { batchMs = BATCH_MS, openMax, restMs = REST_MS }: PoolInternals = {},
): ShardPool {
  const defaults = readerDefaults(machineLimits())
  const { workers = defaults.workers } = options
  if (!Number.isSafeInteger(workers) || workers < 1) {
    throw invalidInput(`workers must be an integer of at least 1, got ${workers}`)
  }
  const memoryBytes = options.memoryBytes ?? defaults.memoryBytes
  const { files } = dialect
  return new SqlitePool(
    new Workers({ workers, memoryBytes, files, batchMs, openMax: openMax ?? openFilesFor(workers), restMs }),
    dialect,
  )
}

/** Any worker may open any shard. */
const openFilesFor = (workers: number): number =>
  Math.max(OPEN_FILES_MIN, Math.floor(machineLimits().openFiles / 4 / workers))

class SqlitePool implements ShardPool {
  readonly workers: Workers
  readonly parsePayload: PayloadParser | undefined
  #nextHandle = 0

  constructor(workers: Workers, { parsePayload }: FileDialect) {
    this.workers = workers
    this.parsePayload = parsePayload
  }

  async open(
    source: ShardSource,
    spec: ShardSpec,
    index: IndexDescription,
    rows?: number | undefined,
  ): Promise<ShardReader> {
    await loadSqlite()
    const file = shardFile(await source.localDir())
    if (index.kind !== FLAT && index.kind !== CELLS) {
      throw corrupt(
        `${file} cannot have an index of kind "${index.kind}": expected "${FLAT}" or "${CELLS}"`,
        { file },
      )
    }
    await stat(file).catch((cause: unknown) => {
      throw corrupt(`${file} is missing or cannot be read`, { file }, cause)
    })
    const shard = new PoolShard(this.#nextHandle++, file, spec, rows)
    await this.workers.open(shard)
    return new SqliteReader(this, shard)
  }

  async search(readers: readonly ShardReader[], query: ShardQuery): Promise<readonly ShardAnswer[]> {
    const own = readers.map((reader) => {
      if (reader instanceof SqliteReader && reader.pool === this) return reader
      throw new Error("a shard that is asked is not open in this pool")
    })
    throwIfAborted(query.signal)
    return abortable(this.#search(own, query), query.signal)
  }

  close(): Promise<void> {
    return this.workers.close()
  }

  /** Does not reject: what is wrong with a shard, or with all of them, is their answer. */
  async #search(readers: readonly SqliteReader[], query: ShardQuery): Promise<readonly ShardAnswer[]> {
    const answers = readers.map(({ closedError }): ShardAnswer | undefined =>
      closedError === undefined ? undefined : { error: closedError },
    )
    const open = readers.filter((_, i) => answers[i] === undefined)
    const shards = open.map(({ shard }) => shard)
    for (const shard of shards) shard.begin()
    try {
      const prepared = await this.workers.prepare(shards, query)
      const { failures } = prepared
      const asked = failures.size === 0 ? shards : shards.filter((shard) => !failures.has(shard))
      const found = asked.length === 0 ? [] : await this.#ask(prepared, asked, query)
      const byShard = new Map(asked.map((shard, i) => [shard, found[i]!]))
      return readers.map(({ shard }, i) => answers[i] ?? byShard.get(shard) ?? { error: failures.get(shard) })
    } catch (error) {
      return readers.map((_, i) => answers[i] ?? { error })
    } finally {
      for (const shard of shards) shard.end()
    }
  }

  async #ask(
    prepared: Prepared,
    shards: readonly PoolShard[],
    query: ShardQuery,
  ): Promise<readonly ShardAnswer[]> {
    const joint = await this.workers.search(prepared, shards, query, false)
    const answers = this.#viewEach(shards, joint)
    const isSound = joint.errors.length > 0 || !answers.some((answer) => "error" in answer)
    if (shards.length === 1 || isSound) return answers
    // The hits were the nearest of all shards together: where those of one cannot be read, the others lack
    // what these have displaced.
    return this.#viewEach(shards, await this.workers.search(prepared, shards, query, true))
  }

  /** What each shard has answered, as users see it. */
  #viewEach(shards: readonly PoolShard[], { hits, ends, errors }: Answers): readonly ShardAnswer[] {
    return shards.map(({ file, spec }, place): ShardAnswer => {
      const failure = errors.find((error) => error.place === place)
      if (failure !== undefined) return { error: errorFromWire(failure.error) }
      const own: ShardHit[] = []
      try {
        for (let i = ends[place - 1] ?? 0; i < ends[place]!; i++)
          own.push({
            ...viewRecord(hits, i, spec, file, this.parsePayload),
            distance: hits.distances[i]!,
          })
      } catch (error) {
        if (!isVecsnapError(error)) throw error
        return { error }
      }
      return { hits: own }
    })
  }
}

class SqliteReader implements ShardReader {
  readonly pool: SqlitePool
  readonly shard: PoolShard
  #closing: Promise<void> | undefined

  constructor(pool: SqlitePool, shard: PoolShard) {
    this.pool = pool
    this.shard = shard
  }

  get rows(): number {
    return this.shard.rows
  }

  get bytes(): number {
    return this.pool.workers.bytesOf(this.shard)
  }

  /** Once it is closed. */
  get closedError(): Error | undefined {
    return this.#closing && closed(`${this.shard.file} is closed`)
  }

  async search(query: ShardQuery): Promise<readonly ShardHit[]> {
    const [answer] = await this.pool.search([this], query)
    if ("error" in answer!) throw answer.error
    return answer!.hits
  }

  async get(ids: readonly Id[]): Promise<readonly (StoredRecord | undefined)[]> {
    const stored = toStoredIds(ids, this.shard.spec)
    const found = await this.#use((workers, shard) => workers.get(shard, stored))
    const records = new Array<StoredRecord | undefined>(ids.length).fill(undefined)
    found.places.forEach((place, i) => {
      records[place] = this.#record(found, i)
    })
    return records
  }

  records(): AsyncIterable<readonly StoredRecord[]> {
    return readAll(this.rows, this.shard.spec.dim, async (first, count) => {
      const found = await this.#use((workers, shard) => workers.read(shard, first, count))
      return found.ids.map((_, i) => this.#record(found, i))
    })
  }

  #record(found: StoredRows, i: number): StoredRecord {
    const { dim } = this.shard.spec
    const vector = found.vectors.slice(i * dim, (i + 1) * dim)
    return { ...this.#view(found, i), vector }
  }

  #view(columns: StoredColumns, row: number): RecordView {
    return viewRecord(columns, row, this.shard.spec, this.shard.file, this.pool.parsePayload)
  }

  close(): Promise<void> {
    this.#closing ??= this.pool.workers.leave(this.shard)
    return this.#closing
  }

  async #use<T>(work: (workers: Workers, shard: PoolShard) => Promise<T>): Promise<T> {
    const { closedError } = this
    if (closedError !== undefined) throw closedError
    const { shard } = this
    shard.begin()
    try {
      return await work(this.pool.workers, shard)
    } finally {
      shard.end()
    }
  }
}
