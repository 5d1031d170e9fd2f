/**
 * The approximate part of a search: which rows of some shards are worth their exact distance. One thread's
 * place in a memory, and a chain of kernel calls per query.
 */
import { invalidInput } from "../../errors.js"
import { codeLength, roundToIntegers } from "../kernel/codes.js"
import type { Books } from "./books.js"
import { CENTRES } from "./books.js"
import { GROUP_CELLS } from "./cells.js"
import { DIRECTION_MAX } from "./directions.js"
import type { CellKernel } from "./kernel.js"
import type { ShardRecord } from "./records.js"
import { type CellSpace, inSpace } from "./space.js"

/** Bounds of the searches that a scratch place is for. */
export interface ScanLimits {
  /** Shards a query at most. */
  readonly shards: number
  /** Cells of all of them at most. */
  readonly cells: number
  /** Candidates at most; twice {@link ScanOptions.best} and 64 are needed. */
  readonly room: number
}

export interface ScanOptions {
  /** Cells to scan: those whose centres are best. */
  readonly cells: number
  /** Groups whose cells are looked at. Default: all. */
  readonly groups?: number | undefined
  /** About so many rows of the best estimates remain, and those that are equal to the last. */
  readonly best: number
  /** Of these, only rows whose estimate is at most `slack` behind that of the `near`-th. */
  readonly near?: number | undefined
  /** In units of the estimate: under `cosine` of the distance. Default: Infinity. */
  readonly slack?: number | undefined
}

/** What a scan found. */
export interface ScanFindings {
  /** Numbers of rows, in no particular order; a view that is good until the next scan. */
  readonly candidates: Uint32Array
  /** Pairs of a row and, as a float32, its estimate. */
  readonly cells: number
  readonly rows: number
  /** Rows as good as the last ones for which there was no room: copies of one another, very likely. */
  readonly dropped: number
}

const HISTOGRAM_BYTES = 4 * 4096
const STATE_BYTES = 96

/** Where things lie in one thread's place. */
function layoutOf({ dim }: CellSpace, { subspaces, width }: Books, limits: ScanLimits) {
  // Of every shard the last eight groups may be incomplete.
  const groups = Math.ceil(limits.cells / GROUP_CELLS) + 8 * limits.shards
  const cells = groups * GROUP_CELLS
  const pairs = Math.ceil(subspaces / 2)
  const lengths = {
    integers: 2 * codeLength(dim),
    query: 4 * subspaces * width,
    shards: 4 * limits.shards,
    groupScores: 4 * groups,
    groupRecords: 4 * groups,
    groups: 4 * groups,
    cellScores: 4 * cells,
    cellRecords: 4 * cells,
    list: 8 * cells,
    work: 4 * CENTRES * subspaces,
    tables: 2 * CENTRES * pairs,
    found: 16,
    histogram: HISTOGRAM_BYTES,
    candidates: 8 * limits.room,
    state: STATE_BYTES,
  }
  const at = {} as Record<keyof typeof lengths, number>
  let end = 0
  for (const [name, length] of Object.entries(lengths) as [keyof typeof lengths, number][]) {
    at[name] = end
    end += Math.ceil(length / 64) * 64
  }
  return { at, end, pairs }
}

/** Bytes that a {@link CellScan} takes, beside the books. */
export const scanBytes = (space: CellSpace, books: Books, limits: ScanLimits): number =>
  layoutOf(space, books, limits).end

/** One thread's scans over the shards of a memory. */
export class CellScan {
  readonly #kernel: CellKernel
  readonly #space: CellSpace
  readonly #books: Books
  readonly #booksAt: number
  readonly #limits: ScanLimits
  readonly #at: ReturnType<typeof layoutOf>["at"]
  readonly #pairs: number
  readonly #hasOffsets: number
  readonly #view: {
    readonly integers: Int16Array
    readonly query: Float32Array
    readonly shards: Uint32Array
    readonly found: Float32Array
    readonly state: Int32Array
    readonly candidates: Uint32Array
  }

  /**
   * `at`: where its {@link scanBytes} begin, a multiple of 64; `booksAt`: where the centres of the books lie.
   * The memory must not grow afterwards, unless it is shared.
   */
  constructor(
    memory: ArrayBufferLike,
    kernel: CellKernel,
    space: CellSpace,
    books: Books,
    booksAt: number,
    limits: ScanLimits,
    at: number,
  ) {
    const layout = layoutOf(space, books, limits)
    this.#kernel = kernel
    this.#space = space
    this.#books = books
    this.#booksAt = booksAt
    this.#limits = limits
    this.#at = { ...layout.at }
    for (const name of Object.keys(layout.at) as (keyof typeof layout.at)[]) this.#at[name] += at
    this.#pairs = layout.pairs
    this.#hasOffsets = space.comparison === "distances" ? 1 : 0
    const places = this.#at
    this.#view = {
      integers: new Int16Array(memory, places.integers, codeLength(space.dim)),
      query: new Float32Array(memory, places.query, books.subspaces * books.width),
      shards: new Uint32Array(memory, places.shards, limits.shards),
      found: new Float32Array(memory, places.found, 4),
      state: new Int32Array(memory, places.state, STATE_BYTES / 4),
      candidates: new Uint32Array(memory, places.candidates, 2 * limits.room),
    }
  }

  /**
   * Candidates of some shards for a query (`dim` finite numbers). Throws `InvalidInput` for more shards,
   * cells or candidates than there is room for.
   */
  find(shards: readonly ShardRecord[], query: Float32Array, options: ScanOptions): ScanFindings {
    const { cells, groups = Infinity, best, near = best, slack = Infinity } = options
    const kernel = this.#kernel
    const at = this.#at
    this.#check(shards, best)
    const vector = inSpace(this.#space, query)
    const { integers, query: padded, found, state } = this.#view
    padded.set(vector)
    const step = roundToIntegers(vector, DIRECTION_MAX + 1, integers)
    for (const [i, shard] of shards.entries()) this.#view.shards[i] = shard.address

    const bytes = integers.length
    const groupCount = kernel.scoreGroups(
      at.shards,
      shards.length,
      bytes,
      at.integers,
      step,
      at.groupScores,
      at.groupRecords,
    )
    const groupLimit = kernel.limitOf(at.groupScores, groupCount, Math.min(groups, groupCount))
    const chosen = kernel.collectRecords(at.groupScores, groupCount, groupLimit, at.groupRecords, at.groups)
    kernel.scoreCells(at.groups, chosen, bytes, at.integers, step, at.cellScores, at.cellRecords)
    const scored = chosen * GROUP_CELLS
    const limit = kernel.limitOf(at.cellScores, scored, cells)
    // The best cells come first and bring the limit down; the others in the order in which they lie.
    const first = Math.min(limit, kernel.limitOf(at.cellScores, scored, Math.max(1, cells >> 3)))
    const few = kernel.collectPairs(at.cellScores, scored, -Infinity, first, at.cellRecords, at.list)
    const rest = kernel.collectPairs(at.cellScores, scored, first, limit, at.cellRecords, at.list + 8 * few)
    const count = few + rest

    const { subspaces, width } = this.#books
    kernel.buildTables(at.query, this.#booksAt, subspaces, width, this.#pairs, at.work, at.tables, at.found)
    const scale = found[0]!
    const least = found[1]!
    const most = found[2]!
    const { room } = this.#limits
    kernel.beginScan(at.list, count, least, most, best, room, at.histogram, at.candidates, at.state)
    kernel.scanCells(
      at.list,
      count,
      this.#pairs,
      at.tables,
      scale,
      Math.round(scale * least),
      this.#hasOffsets,
      at.state,
    )
    const left = kernel.endScan(near, slack, at.state)
    return {
      candidates: this.#view.candidates.subarray(0, 2 * left),
      cells: count,
      rows: state[10]!,
      dropped: state[11]!,
    }
  }

  #check(shards: readonly ShardRecord[], best: number): void {
    const { shards: most, cells, room } = this.#limits
    const sum = shards.reduce((total, shard) => total + shard.cells, 0)
    if (shards.length > most || sum > cells) {
      throw invalidInput(
        `${shards.length} shards with ${sum} cells, expected at most ${most} with ${cells}: this scan has room for no more`,
        { shards: shards.length, cells: sum },
      )
    }
    if (!Number.isInteger(best) || best < 1 || 2 * best + 64 > room) {
      throw invalidInput(`best must be an integer from 1 to ${(room >> 1) - 32}, got ${best}`, { best })
    }
  }
}
