import { stat } from "node:fs/promises"
import { abortable } from "../../async/abortable.js"
import { closed, corrupt, errorFromWire, invalidInput, isVecsnapError, throwIfAborted } from "../../errors.js"
import { machineLimits, readerDefaults } from "../../machine.js"
import type { Id, StoredRecord } from "../../records.js"
import { vectorMemoryBytes } from "../../vectors/scan.js"
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
import { searchAlone } from "../search-each.js"
import type { ShardSource } from "../source.js"
import { type PayloadParser, type RecordView, type StoredColumns, viewRecord } from "../stored.js"
import type { StoredRows } from "./get.js"
import { loadSqlite } from "./packages.js"
import type { Calls, Reply } from "./protocol.js"
import { CELLS, FLAT, shardFile } from "./schema.js"
import type { Answers } from "./search.js"
import { WorkerSlot } from "./worker-slot.js"

/** What differs between files that this backend builds and those of others. */
export interface FileDialect {
  /** URL of a module whose `openShardFile` opens a file, as that of `open.ts` does. */
  readonly files: URL
  readonly parsePayload?: PayloadParser
}

const OWN_FILES: FileDialect = { files: new URL("./open.js", import.meta.url) }

/** Makes the worker threads that search the sqlite-vec shards of one reader. They start when needed. */
export function createPool(options: PoolOptions, dialect: FileDialect = OWN_FILES): ShardPool {
  const defaults = readerDefaults(machineLimits())
  const { workers = defaults.workers } = options
  if (!Number.isSafeInteger(workers) || workers < 1) {
    throw invalidInput(`workers must be an integer of at least 1, got ${workers}`)
  }
  return new SqlitePool(workers, options.memoryBytes ?? defaults.memoryBytes, dialect)
}

/** Where a shard is open: a thread that must not have died since, and the number of the open file there. */
interface Home {
  readonly slot: WorkerSlot
  readonly generation: number
  readonly handle: number
  readonly rows: number
  readonly fileBytes: number
  /** Vectors held in memory; 0 if they are read from the file by every search. */
  vectorBytes: number
}

/** What one worker is asked of one query: one request, which shards join until it is sent. */
interface Gathering {
  readonly slot: WorkerSlot
  readonly handles: number[]
  /** Of each handle, for messages. */
  readonly files: string[]
  readonly answers: Promise<readonly ShardAnswer[]>
  isSent: boolean
}

class SqlitePool implements ShardPool {
  readonly #slots: readonly WorkerSlot[]
  readonly #memoryBytes: number
  /** Where vectors are held in memory. */
  readonly #held = new Set<Home>()
  readonly parsePayload: PayloadParser | undefined
  #nextHandle = 0
  #closed = false

  constructor(workers: number, memoryBytes: number, { files, parsePayload }: FileDialect) {
    const script = new URL("./worker.js", import.meta.url)
    this.#slots = Array.from({ length: workers }, () => new WorkerSlot(script, { files: files.href }))
    this.#memoryBytes = memoryBytes
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
    const reader = new SqliteReader(this, file, spec, rows)
    await reader.open()
    return reader
  }

  /** Opens a shard in the least loaded worker, with its vectors in memory as long as they fit. */
  async settle(file: string, spec: ShardSpec, expected: number | undefined): Promise<Home> {
    const info = await stat(file).catch((cause: unknown) => {
      throw corrupt(`${file} is missing or cannot be read`, { file }, cause)
    })
    if (this.#closed) throw closed("the shard pool is closed")
    const slot = this.#slots.reduce((a, b) => (b.load.fileBytes < a.load.fileBytes ? b : a))
    const { generation } = slot
    const handle = this.#nextHandle++
    slot.load.fileBytes += info.size
    let home: Home | undefined
    try {
      const { rows } = await slot.call("open", { handle, file, spec, rows: expected })
      home = { slot, generation, handle, rows, fileBytes: info.size, vectorBytes: 0 }
      const wanted = vectorMemoryBytes(spec.metric, rows, spec.dim)
      // Nothing is taken from others for it: what a thread lets go of stays in memory until it is collected,
      // which in a small container may be too late.
      const fits = this.#heldBytes() + wanted <= this.#memoryBytes
      if (fits && slot.generation === generation) {
        this.#hold(home, wanted)
        await slot.call("load", { handle })
      }
      return home
    } catch (error) {
      if (slot.generation === generation) {
        slot.load.fileBytes -= info.size
        if (home !== undefined) this.#letGo(home)
        // If the file was opened but could not be loaded, it is still open. Failing to say so changes
        // nothing.
        slot.call("close", { handle }).catch(() => {})
      }
      throw error
    }
  }

  async leave(home: Home): Promise<void> {
    const { slot, generation, handle, fileBytes } = home
    this.#letGo(home)
    if (this.#closed || slot.generation !== generation) return
    slot.load.fileBytes -= fileBytes
    await slot.call("close", { handle })
  }

  async search(shards: readonly ShardReader[], query: ShardQuery): Promise<readonly ShardAnswer[]> {
    for (const shard of shards)
      if (!(shard instanceof SqliteReader) || shard.pool !== this)
        throw new Error("a shard that is asked is not open in this pool")
    const answers = await Promise.all(shards.map((shard) => searchAlone(shard, query)))
    throwIfAborted(query.signal)
    return answers
  }

  /**
   * What a shard answers, with its place in the answers. Shards of one query go to a worker in one request.
   */
  gather(
    home: Home,
    file: string,
    spec: ShardSpec,
    query: ShardQuery,
  ): { readonly place: number; readonly answers: Promise<readonly ShardAnswer[]> } {
    const { slot, handle } = home
    const gatherings = query.shared(this, (): Gathering[] => [])
    let gathering = gatherings.find((open) => open.slot === slot && !open.isSent)
    if (gathering === undefined) {
      gathering = gather(slot, spec, query, this.parsePayload)
      gatherings.push(gathering)
    }
    gathering.files.push(file)
    return { place: gathering.handles.push(handle) - 1, answers: gathering.answers }
  }

  async close(): Promise<void> {
    this.#closed = true
    await Promise.all(this.#slots.map((slot) => slot.close()))
  }

  #hold(home: Home, bytes: number): void {
    home.vectorBytes = bytes
    this.#held.add(home)
  }

  #letGo(home: Home): void {
    home.vectorBytes = 0
    this.#held.delete(home)
  }

  #heldBytes(): number {
    let bytes = 0
    for (const home of this.#held) {
      // It went with its thread.
      if (home.slot.generation !== home.generation) this.#letGo(home)
      bytes += home.vectorBytes
    }
    return bytes
  }
}

class SqliteReader implements ShardReader {
  readonly pool: SqlitePool
  readonly #file: string
  readonly #spec: ShardSpec
  readonly #expected: number | undefined
  #home: Promise<Home> | undefined
  #closing: Promise<void> | undefined
  #opened: Home | undefined
  rows = 0

  constructor(pool: SqlitePool, file: string, spec: ShardSpec, expected: number | undefined) {
    this.pool = pool
    this.#file = file
    this.#spec = spec
    this.#expected = expected
  }

  async open(): Promise<void> {
    this.rows = (await this.#findHome()).rows
  }

  get bytes(): number {
    return this.#opened?.vectorBytes ?? 0
  }

  async search(query: ShardQuery): Promise<readonly ShardHit[]> {
    throwIfAborted(query.signal)
    if (this.#closing !== undefined) throw closed(`${this.#file} is closed`)
    const { place, answers } = this.pool.gather(await this.#findHome(), this.#file, this.#spec, query)
    const answer = (await answers)[place]!
    if ("error" in answer) throw answer.error
    return answer.hits
  }

  async get(ids: readonly Id[]): Promise<readonly (StoredRecord | undefined)[]> {
    const found = await this.#call("get", { ids: toStoredIds(ids, this.#spec) })
    const records = new Array<StoredRecord | undefined>(ids.length).fill(undefined)
    found.places.forEach((place, i) => {
      records[place] = this.#record(found, i)
    })
    return records
  }

  records(): AsyncIterable<readonly StoredRecord[]> {
    return readAll(this.rows, this.#spec.dim, async (first, count) => {
      const found = await this.#call("read", { first, count })
      return found.ids.map((_, i) => this.#record(found, i))
    })
  }

  #record(found: StoredRows, i: number): StoredRecord {
    const { dim } = this.#spec
    const vector = found.vectors.slice(i * dim, (i + 1) * dim)
    return { ...this.#view(found, i), vector }
  }

  #view(columns: StoredColumns, row: number): RecordView {
    return viewRecord(columns, row, this.#spec, this.#file, this.pool.parsePayload)
  }

  close(): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  async #close(): Promise<void> {
    const home = await this.#home?.catch(() => undefined)
    // Requests are answered in order, so that this one waits for those before it.
    if (home !== undefined) await this.pool.leave(home)
  }

  async #call<Name extends "get" | "read">(
    call: Name,
    fields: Omit<Calls[Name]["request"], "handle">,
  ): Promise<Reply<Name>> {
    if (this.#closing !== undefined) throw closed(`${this.#file} is closed`)
    const { slot, handle } = await this.#findHome()
    return slot.call(call, { handle, ...fields } as Calls[Name]["request"])
  }

  /** Where the shard is open; opens it again if its worker has died since. */
  async #findHome(): Promise<Home> {
    const known = this.#home
    if (known !== undefined) {
      const home = await known
      if (home.slot.generation === home.generation) return home
    }
    // Whoever noticed first has begun already.
    if (this.#home === known) {
      const opening = this.pool.settle(this.#file, this.#spec, this.#expected)
      this.#home = opening
      opening.then(
        (home) => {
          this.#opened = home
        },
        () => {
          if (this.#home === opening) this.#home = undefined
        },
      )
    }
    return this.#home!
  }
}

function gather(
  slot: WorkerSlot,
  spec: ShardSpec,
  query: ShardQuery,
  parsePayload: PayloadParser | undefined,
): Gathering {
  const asked: Asked = { slot, spec, query, parsePayload, handles: [], files: [] }
  const end = (): void => {
    gathering.isSent = true
  }
  // One wait for the signal serves all shards.
  const answers = abortable(ask(asked, end), query.signal)
  const gathering: Gathering = { slot, handles: asked.handles, files: asked.files, answers, isSent: false }
  // Nor may anyone join a request that fails before it is sent.
  answers.catch(end)
  return gathering
}

/** One query for some shards of a worker; others may join until it is sent. */
interface Asked {
  readonly slot: WorkerSlot
  readonly spec: ShardSpec
  readonly query: ShardQuery
  readonly parsePayload: PayloadParser | undefined
  readonly handles: number[]
  readonly files: string[]
}

async function ask(asked: Asked, onSend: () => void): Promise<readonly ShardAnswer[]> {
  const { slot, handles, query } = asked
  const { vector, k, signal } = query
  const joint = await slot.call("search", { handles, query: vector, k, each: false }, signal, onSend)
  const answers = viewEach(asked, joint)
  const isSound = joint.errors.length > 0 || !answers.some((answer) => "error" in answer)
  if (handles.length === 1 || isSound) return answers
  // The hits were the nearest of all shards together: where those of one cannot be read, the others lack
  // what these have displaced.
  return viewEach(asked, await slot.call("search", { handles, query: vector, k, each: true }, signal))
}

/** What each shard has answered, as users see it. */
function viewEach(
  { files, spec, parsePayload }: Asked,
  { hits, ends, errors }: Answers,
): readonly ShardAnswer[] {
  return files.map((file, place): ShardAnswer => {
    const failure = errors.find((error) => error.place === place)
    if (failure !== undefined) return { error: errorFromWire(failure.error) }
    const own: ShardHit[] = []
    try {
      for (let i = ends[place - 1] ?? 0; i < ends[place]!; i++)
        own.push({ ...viewRecord(hits, i, spec, file, parsePayload), distance: hits.distances[i]! })
    } catch (error) {
      if (!isVecsnapError(error)) throw error
      return { error }
    }
    return { hits: own }
  })
}
