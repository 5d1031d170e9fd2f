/** A shard whose database is read in ranges: what is known of it from its cells, and its rows. */

import type { ShardSpec } from "../../backend.js"
import type { ShardSource } from "../../source.js"
import type { StoredColumns } from "../../stored.js"
import { checkRowCount } from "../../stored.js"
import { type PlacedCells, placeCells } from "../cells.js"
import type { StoredRows } from "../get.js"
import { TextBudget } from "../open.js"
import { PAGE_BYTES, type PagedFile } from "../pages/btree.js"
import { type ReadRanges, readRecords, vectorRanges, vectorsFrom } from "../pages/rows.js"
import { decodePageTable, type PageTable } from "../pages/table.js"
import { CELLS_FILE, shardFile } from "../schema.js"
import { readColumns } from "../search.js"
import { IdIndex } from "./ids.js"

/** A source that gives ranges. */
export type RangedSource = ShardSource & Required<Pick<ShardSource, "read" | "readFile">>

export const isRanged = (source: ShardSource): source is RangedSource =>
  source.read !== undefined && source.readFile !== undefined

/** An open shard, as far as `cells.bin` tells of it. */
export class RangedShard {
  readonly #source: RangedSource
  readonly #table: PageTable
  readonly #texts: TextBudget
  readonly #file: PagedFile
  readonly #index: IdIndex

  private constructor(
    source: RangedSource,
    readonly spec: ShardSpec,
    readonly cells: PlacedCells,
  ) {
    const { database, rows } = cells
    this.#source = source
    this.#file = { name: this.name, pages: database.bytes / PAGE_BYTES }
    const facts = { bytes: database.bytes, rows, rowBytes: spec.dim * 4 }
    this.#table = decodePageTable(database.pages, facts, `${source.name}/${CELLS_FILE}`)
    this.#texts = new TextBudget(this.name, database.bytes)
    this.#index = new IdIndex(this.#file)
  }

  /** For messages. */
  get name(): string {
    return shardFile(this.#source.name)
  }

  /**
   * Opens a shard by its cells. Throws `Corrupt` if they are not what `spec` says, or not of `rows` rows
   * where that is known.
   */
  static async open(source: RangedSource, spec: ShardSpec, rows: number | undefined): Promise<RangedShard> {
    const bytes = await source.readFile(CELLS_FILE)
    const cells = placeCells(bytes, `${source.name}/${CELLS_FILE}`, spec)
    checkRowCount(shardFile(source.name), cells.rows, rows)
    return new RangedShard(source, spec, cells)
  }

  /** The vectors at some positions, row-major. */
  async vectors(positions: readonly number[], signal?: AbortSignal): Promise<Float32Array> {
    const ranges = vectorRanges(this.#table, this.spec.dim, positions)
    const contents = await this.#reader(signal)(ranges)
    return vectorsFrom(this.#table, this.spec.dim, positions, ranges, contents)
  }

  /** The records at some positions, apart from their vectors. */
  async columns(positions: readonly number[], signal?: AbortSignal): Promise<StoredColumns> {
    const rowids = positions.map((position) => position + 1)
    const records = await readRecords(this.#file, this.#table, rowids, this.#reader(signal))
    for (const [i, record] of records.entries()) this.#texts.spend(positions[i]!, record)
    const places = Array.from(positions.keys())
    return readColumns({ file: this.name, spec: this.spec, readRecord: (i) => records[i]! }, places)
  }

  async rows(positions: readonly number[]): Promise<StoredRows> {
    const [columns, vectors] = await Promise.all([this.columns(positions), this.vectors(positions)])
    return { ...columns, vectors }
  }

  /** Where the records of these ids are; undefined for those that are not there. */
  find(ids: readonly (string | bigint)[]): Promise<readonly (number | undefined)[]> {
    return this.#index.find(ids, this.#reader())
  }

  #reader(signal?: AbortSignal): ReadRanges {
    const { sums } = this.cells.database
    return (ranges) => this.#source.read(shardFile("."), ranges, { sums, signal })
  }
}
