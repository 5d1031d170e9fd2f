/** A worker's view of the memories, and of the shards that lie in them. */

import { corrupt } from "../../errors.js"
import { checkCodes, decodeCells } from "../../vectors/cells/file.js"
import { type CellKernel, createCellKernel } from "../../vectors/cells/kernel.js"
import { writeRecords } from "../../vectors/cells/records.js"
import { KernelMemory } from "../../vectors/kernel/memory.js"
import type { ScanTable } from "../../vectors/scan.js"
import { type PlacedRows, placedTable, prepareRows } from "../../vectors/scan-table.js"
import type { ShardSpec } from "../backend.js"
import { rowScratch } from "./memory/scratch.js"
import type { Block, OpenShard } from "./open.js"
import type { Address, ArenaNews, Loaded, LoadPlaces, News, ShardNews, ShardPlaces } from "./protocol.js"
import type { SearchedShard } from "./search.js"

const PAGE_BYTES = 2 ** 16

/** A memory that the main thread divides. */
export class WorkerArena {
  readonly #memory: WebAssembly.Memory | undefined
  #kernel: { readonly memory: KernelMemory | undefined } | undefined
  #cellKernel: { readonly kernel: CellKernel | undefined } | undefined
  /** Where this thread may work, for the search that is being answered. */
  scratch: number | undefined

  constructor({ memory, sizeBytes }: ArenaNews) {
    this.#memory = memory ?? ownMemory(sizeBytes)
  }

  /** Undefined if the system refuses to give so much. Another one whenever the memory has grown. */
  get buffer(): ArrayBufferLike | undefined {
    return this.#memory?.buffer
  }

  get kernel(): KernelMemory | undefined {
    this.#kernel ??= { memory: this.#memory && KernelMemory.over(this.#memory) }
    return this.#kernel.memory
  }

  get cellKernel(): CellKernel | undefined {
    this.#cellKernel ??= { kernel: this.#memory && createCellKernel(this.#memory) }
    return this.#cellKernel.kernel
  }

  /** Lets this thread see how a memory has grown, or makes its own larger. */
  grow(sizeBytes: number): void {
    const missing = sizeBytes - (this.#memory?.buffer.byteLength ?? sizeBytes)
    try {
      // By no pages where another thread has done it and this one has not noticed.
      if (missing > 0) this.#memory?.grow(isShared(this.#memory) ? 0 : Math.ceil(missing / PAGE_BYTES))
    } catch (error) {
      // Loads find no room then.
      if (!(error instanceof RangeError)) throw error
    }
    this.#kernel?.memory?.refresh()
  }
}

const isShared = ({ buffer }: WebAssembly.Memory): boolean => buffer instanceof SharedArrayBuffer

function ownMemory(sizeBytes: number): WebAssembly.Memory | undefined {
  try {
    return new WebAssembly.Memory({ initial: Math.ceil(sizeBytes / PAGE_BYTES) })
  } catch (error) {
    if (error instanceof RangeError) return undefined
    throw error
  }
}

/** Opens a shard's file. */
type OpenFile = (news: ShardNews) => OpenShard

/** What a worker knows. */
export class WorkerMemory {
  readonly #openFile: OpenFile
  readonly #arenas = new Map<number, WorkerArena>()
  readonly #shards = new Map<number, WorkerShard>()
  /** Whose files are open, the one used last at the end. */
  readonly #open = new Set<WorkerShard>()
  readonly #openMax: number

  /** `openMax`: files that are open at the same time, at most. */
  constructor(openFile: OpenFile, openMax = Infinity) {
    this.#openFile = openFile
    this.#openMax = openMax
  }

  tell({ arenas, goneArenas, shards }: News): void {
    for (const id of goneArenas) this.#arenas.delete(id)
    for (const news of arenas) {
      const known = this.#arenas.get(news.id)
      if (known === undefined) this.#arenas.set(news.id, new WorkerArena(news))
      else known.grow(news.sizeBytes)
    }
    for (const news of shards) {
      const known = this.#shards.get(news.handle)
      if (known === undefined) this.#shards.set(news.handle, new WorkerShard(this, this.#openFile, news))
      else known.news = news
    }
  }

  arena(id: number): WorkerArena {
    const arena = this.#arenas.get(id)
    if (arena === undefined) throw new Error(`no memory has the number ${id} in this worker`)
    return arena
  }

  shard(handle: number): WorkerShard {
    const shard = this.#shards.get(handle)
    if (shard === undefined) throw new Error(`no shard has the handle ${handle} in this worker`)
    return shard
  }

  close(handle: number): void {
    const shard = this.#shards.get(handle)
    this.#shards.delete(handle)
    if (shard === undefined) return
    this.#open.delete(shard)
    shard.close()
  }

  /** Closes the file that was not used for longest where there are too many. */
  noteOpen(shard: WorkerShard): void {
    this.#open.delete(shard)
    this.#open.add(shard)
    if (this.#open.size <= this.#openMax) return
    const [oldest] = this.#open as unknown as [WorkerShard]
    this.#open.delete(oldest)
    oldest.close()
  }

  /** Where this thread may work, until it is told otherwise. */
  setScratches(scratches: readonly Address[]): void {
    for (const { arena, at } of scratches) this.arena(arena).scratch = at
  }
}

/** A shard whose file is opened when it is needed, and of which parts may lie in memory. */
export class WorkerShard implements SearchedShard {
  readonly #memory: WorkerMemory
  readonly #openFile: OpenFile
  #news: ShardNews
  #open: OpenShard | undefined
  #table: { readonly table: ScanTable; readonly scratch: number | undefined } | undefined

  constructor(memory: WorkerMemory, openFile: OpenFile, news: ShardNews) {
    this.#memory = memory
    this.#openFile = openFile
    this.#news = news
  }

  set news(news: ShardNews) {
    this.#news = news
    this.#table = undefined
  }

  get open(): OpenShard {
    this.#open ??= this.#openFile(this.#news)
    this.#memory.noteOpen(this)
    return this.#open
  }

  get file(): string {
    return this.#news.file
  }

  get spec(): ShardSpec {
    return this.#news.spec
  }

  get rows(): number {
    return this.#news.rows ?? this.open.rows
  }

  get places(): ShardPlaces {
    return this.#news.places
  }

  /** Those of the rows in memory that may be ranked; undefined if all may. */
  get #allowed(): Uint8Array | undefined {
    const { vectors } = this.places
    if (vectors?.bitmapAt === undefined) return undefined
    const { buffer } = this.#memory.arena(vectors.arena)
    return new Uint8Array(buffer!, vectors.bitmapAt, Math.ceil(this.rows / 8))
  }

  blocks(): Iterable<Block> {
    const table = this.#placedTable()
    if (table === undefined) return this.open.blocks()
    return [{ firstRow: 0, ranks: this.open.cells?.ranks, table, allowed: this.#allowed }]
  }

  readRecord(row: number): readonly unknown[] {
    return this.open.readRecord(row)
  }

  findRow(id: string | bigint): number | undefined {
    return this.open.findRow(id)
  }

  readVector(row: number): Float32Array {
    return this.#inMemory(row)?.slice() ?? this.open.readVector(row)
  }

  readVectors(first: number, count: number): Float32Array {
    if (this.#inMemory(first) === undefined) return this.open.readVectors(first, count)
    const { dim } = this.spec
    const vectors = new Float32Array(count * dim)
    for (let i = 0; i < count; i++) vectors.set(this.#inMemory(first + i)!, i * dim)
    return vectors
  }

  /** A row as stored, if it is in memory. */
  #inMemory(row: number): Float32Array | undefined {
    const { vectors } = this.places
    // Rows that cannot be ranked are zeros in memory.
    if (vectors === undefined || vectors.bitmapAt !== undefined) return undefined
    const { dim } = this.spec
    const position = this.open.cells?.positions[row] ?? row
    const { buffer } = this.#memory.arena(vectors.arena)
    return new Float32Array(buffer!, vectors.at + position * dim * 4, dim)
  }

  /** Puts parts of it where there is room for them. False if this thread has no such memory. */
  load({ vectors, table, cells }: LoadPlaces): Loaded | false {
    const { spec, rows } = this
    const vectorBytes = rows * spec.dim * 4
    if (vectors !== undefined && !this.#has(vectors, vectorBytes)) return false
    if (cells !== undefined && !this.#has(cells, cells.recordsAt - cells.at)) return false
    let allowed: Uint8Array | undefined
    if (vectors !== undefined) {
      const { buffer } = this.#memory.arena(vectors.arena)
      allowed = this.open.fill(new Float32Array(buffer!, vectors.at, rows * spec.dim))
      if (allowed !== undefined) new Uint8Array(buffer!, vectors.bitmapAt, allowed.length).set(allowed)
    }
    const vectorsAt = vectors?.at ?? this.places.vectors?.at
    return {
      isPartial: allowed !== undefined,
      facts:
        table && prepareRows(this.#memory.arena(table.arena).buffer!, this.#placed(vectorsAt!, table.at)),
      cells: cells && this.#loadCells(cells),
    }
  }

  /** Closes the file, which is opened again when it is needed. */
  close(): void {
    this.#open?.close()
    this.#open = undefined
  }

  #has({ arena, at }: Address, bytes: number): boolean {
    const { buffer } = this.#memory.arena(arena)
    return buffer !== undefined && at + bytes <= buffer.byteLength
  }

  #placed(vectors: number, rest: number): PlacedRows {
    const { metric, dim } = this.spec
    return { metric, dim, rows: this.rows, vectors, rest }
  }

  #loadCells({ arena, at, recordsAt }: NonNullable<LoadPlaces["cells"]>): Loaded["cells"] {
    const { buffer } = this.#memory.arena(arena)
    const { cells } = this.open
    const { codes } = this.spec
    if (cells?.coded === undefined || codes === undefined)
      throw corrupt(`${this.file} has no codes any more`, { file: this.file })
    const bytes = new Uint8Array(buffer!, at, cells.bytes.length)
    bytes.set(cells.bytes)
    const file = decodeCells(bytes, `the cells of ${this.file}`)
    checkCodes(file, codes.codebook.space, codes.codebook.books, `the cells of ${this.file}`)
    const ranksAt = file.ranks.byteOffset
    const record = writeRecords(buffer!, recordsAt, codes.codebook.space, file, file.coded!, ranksAt / 4)
    return { record, ranksAt }
  }

  /** All rows as they lie in memory; undefined if they do not. */
  #placedTable(): ScanTable | undefined {
    const { vectors, table } = this.places
    if (vectors === undefined || table === undefined) return undefined
    const arena = this.#memory.arena(table.arena)
    const { scratch, buffer } = arena
    if (this.#table?.table.vectors.buffer === buffer && this.#table?.scratch === scratch)
      return this.#table!.table
    const kernel =
      scratch === undefined || arena.kernel === undefined
        ? undefined
        : { memory: arena.kernel, scratch: scratch + rowScratch(this.spec.dim).scan }
    const placed = placedTable(buffer!, this.#placed(vectors.at, table.at), table.facts, kernel)
    this.#table = { table: placed, scratch }
    return placed
  }
}
