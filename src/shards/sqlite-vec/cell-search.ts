/**
 * The part of a search that goes through cells: rows that are worth their exact distance, and that. All
 * shards compete in one scan; src/vectors/cells/search.ts has the same for shards in one memory.
 */
import type { SnapshotCodes } from "../../vectors/cells/codebook.js"
import { type CellEffort, cellsFor } from "../../vectors/cells/effort.js"
import { ExactDistances } from "../../vectors/cells/exact.js"
import { CellScan, type ScanLimits } from "../../vectors/cells/scan.js"
import { distance } from "../../vectors/distance.js"
import { TopK } from "../../vectors/topk.js"
import type { ShardSpec } from "../backend.js"
import { candidatesFor, cellScratch, rowScratch } from "./memory/scratch.js"
import type { SearchRequest } from "./protocol.js"
import type { FoundRows, NearRow } from "./search.js"
import type { WorkerArena, WorkerMemory, WorkerShard } from "./worker-memory.js"

/** A shard whose cells are in memory. */
interface CodedShard {
  /** Among those asked. */
  readonly place: number
  readonly shard: WorkerShard
  readonly cells: NonNullable<WorkerShard["places"]["cells"]>
  /** Numbers of its rows in the memory of its cells, where no two shards share one: from here on … */
  readonly first: number
  /** … up to here. */
  readonly end: number
}

/** Candidates of all shards, in columns. */
interface Candidates {
  readonly count: number
  /** Numbers of their shards among those with cells. */
  readonly shards: Uint32Array
  readonly positions: Uint32Array
}

/** A scan for a place in a memory, as long as that is where it was. */
interface KnownScan {
  readonly scan: CellScan
  readonly buffer: ArrayBufferLike
  readonly key: string
}

export class CellSearch {
  readonly #memory: WorkerMemory
  readonly #scans = new WeakMap<WorkerArena, KnownScan>()
  readonly #exacts = new WeakMap<
    WorkerArena,
    { readonly exact: ExactDistances; readonly buffer: ArrayBufferLike; readonly key: string }
  >()

  constructor(memory: WorkerMemory) {
    this.#memory = memory
  }

  /**
   * Rows near the query of those shards that have their cells in memory, and which these are. Undefined if
   * there are none, or no compiled kernels.
   */
  find(
    shards: readonly WorkerShard[],
    { query, k, limits }: Pick<SearchRequest, "query" | "k" | "limits">,
    effort: CellEffort,
  ): FoundRows | undefined {
    const coded: CodedShard[] = []
    for (const [place, shard] of shards.entries()) {
      const { cells } = shard.places
      if (cells === undefined) continue
      const first = cells.ranksAt / 4
      coded.push({ place, shard, cells, first, end: first + shard.rows })
    }
    if (coded.length === 0 || this.#memory.arena(coded[0]!.cells.arena).cellKernel === undefined)
      return undefined
    coded.sort((a, b) => a.cells.arena - b.cells.arena || a.first - b.first)
    const { spec } = coded[0]!.shard
    const candidates = this.#candidates(
      coded,
      spec,
      query,
      { ...effort, best: candidatesFor(k, effort) },
      limits,
    )
    const distances = this.#distances(coded, candidates, spec, query)
    return {
      places: new Set(coded.map(({ place }) => place)),
      nearest: (wanted) => this.#nearest(coded, candidates, distances, wanted),
    }
  }

  #candidates(
    coded: readonly CodedShard[],
    spec: ShardSpec,
    query: Float32Array,
    { rows, cells, best, ...effort }: CellEffort,
    limits: ScanLimits,
  ): Candidates {
    const allRows = coded.reduce((sum, { shard }) => sum + shard.rows, 0)
    const allCells = coded.reduce((sum, { cells }) => sum + cells.record.cells, 0)
    const wanted = cellsFor({ rows, cells }, { rows: allRows, cells: allCells })
    const options = { ...effort, cells: wanted, best }
    const parts: { readonly from: number; readonly end: number; readonly pairs: Uint32Array }[] = []
    for (let from = 0, end = 0; from < coded.length; from = end) {
      const { arena } = coded[from]!.cells
      while (end < coded.length && coded[end]!.cells.arena === arena) end++
      const records = coded.slice(from, end).map(({ cells: { record } }) => record)
      const scan = this.#scanOf(this.#memory.arena(arena), spec.codes!, limits)
      parts.push({ from, end, pairs: scan.find(records, query, options).candidates })
    }
    const limit =
      parts.length === 1
        ? Infinity
        : limitOf(
            parts.map(({ pairs }) => pairs),
            best,
          )
    const most = parts.reduce((sum, { pairs }) => sum + pairs.length / 2, 0)
    const found = { shards: new Uint32Array(most), positions: new Uint32Array(most) }
    let count = 0
    for (const { from, end, pairs } of parts) {
      const estimates = new Float32Array(pairs.buffer, pairs.byteOffset, pairs.length)
      let at = from
      let shard = coded[at]!
      for (let i = 0; i < pairs.length; i += 2) {
        if (estimates[i + 1]! > limit) continue
        const number = pairs[i]!
        // Rows of a cell come one after the other.
        if (number < shard.first || number >= shard.end) {
          at = shardOf(coded, from, end, number)
          shard = coded[at]!
        }
        found.shards[count] = at
        found.positions[count++] = number - shard.first
      }
    }
    return { count, ...found }
  }

  /** Exact distances of the candidates, wherever their rows are. */
  #distances(
    coded: readonly CodedShard[],
    candidates: Candidates,
    spec: ShardSpec,
    query: Float32Array,
  ): Float64Array {
    const { count, shards, positions } = candidates
    const distances = new Float64Array(count)
    const places = coded.map(({ shard }) => shard.places.vectors)
    const arenas = new Set(places.map((vectors) => vectors?.arena))
    for (const id of arenas) {
      if (id === undefined) continue
      const exact = this.#exactOf(this.#memory.arena(id), spec)
      exact.setQuery(query)
      const starts = Float64Array.from(places, (vectors) => (vectors?.arena === id ? vectors.at : -1))
      const targets = new Uint32Array(exact.rowsAtOnce)
      const out = new Float64Array(exact.rowsAtOnce)
      let waiting = 0
      const settle = () => {
        exact.compute(waiting, out)
        for (let j = 0; j < waiting; j++) distances[targets[j]!] = out[j]!
        waiting = 0
      }
      for (let i = 0; i < count; i++) {
        const start = starts[shards[i]!]!
        if (start < 0) continue
        exact.addresses[waiting] = start + positions[i]! * spec.dim * 4
        targets[waiting++] = i
        if (waiting === exact.rowsAtOnce) settle()
      }
      settle()
    }
    if (arenas.has(undefined)) readDistances(coded, candidates, query, distances)
    return distances
  }

  /** Of the candidates the nearest, and what is as near as the last of them. */
  #nearest(
    coded: readonly CodedShard[],
    { count, shards, positions }: Candidates,
    distances: Float64Array,
    wanted: number,
  ): { readonly rows: readonly NearRow[]; readonly isAll: boolean } {
    let worst = Infinity
    if (wanted < count) {
      const top = new TopK(wanted, count)
      for (let i = 0; i < count; i++) if (distances[i]! <= top.worst) top.push(distances[i]!, i)
      worst = top.worst
    }
    const rows: NearRow[] = []
    for (let i = 0; i < count; i++) {
      if (distances[i]! > worst) continue
      const { place, shard, cells } = coded[shards[i]!]!
      const { buffer } = this.#memory.arena(cells.arena)
      const ranks = new Uint32Array(buffer!, cells.ranksAt, shard.rows)
      rows.push({ place, row: ranks[positions[i]!]!, distance: distances[i]! })
    }
    return { rows, isAll: rows.length === count }
  }

  #scanOf(arena: WorkerArena, codes: SnapshotCodes, limits: ScanLimits): CellScan {
    const { scratch } = arena
    const buffer = arena.buffer!
    const sha256 = Buffer.from(codes.sha256).toString("base64")
    const key = `${sha256} ${scratch} ${limits.shards} ${limits.cells} ${limits.room}`
    const known = this.#scans.get(arena)
    if (known?.key === key && known.buffer === buffer) return known.scan
    const { codebook } = codes
    const places = cellScratch(codes, limits)
    const booksAt = scratch! + places.books
    new Float32Array(buffer, booksAt, codebook.books.centres.length).set(codebook.books.centres)
    const scan = new CellScan(
      buffer,
      arena.cellKernel!,
      codebook.space,
      codebook.books,
      booksAt,
      limits,
      scratch! + places.scan,
    )
    this.#scans.set(arena, { scan, buffer, key })
    return scan
  }

  #exactOf(arena: WorkerArena, { metric, dim }: ShardSpec): ExactDistances {
    const buffer = arena.buffer!
    const at = arena.scratch! + rowScratch(dim).exact
    const key = `${metric} ${dim} ${at}`
    const known = this.#exacts.get(arena)
    if (known?.key === key && known.buffer === buffer) return known.exact
    const exact = new ExactDistances(buffer, arena.cellKernel!, metric, dim, at)
    this.#exacts.set(arena, { exact, buffer, key })
    return exact
  }
}

/** Distances of the candidates whose rows are not in memory. */
function readDistances(
  coded: readonly CodedShard[],
  { count, shards, positions }: Candidates,
  query: Float32Array,
  distances: Float64Array,
): void {
  const byShard = new Map<number, number[]>()
  for (let i = 0; i < count; i++) {
    const number = shards[i]!
    if (coded[number]!.shard.places.vectors !== undefined) continue
    const some = byShard.get(number)
    if (some === undefined) byShard.set(number, [i])
    else some.push(i)
  }
  for (const [number, some] of byShard) {
    const { open, spec } = coded[number]!.shard
    some.sort((a, b) => positions[a]! - positions[b]!)
    const rows = open.readStored(Uint32Array.from(some, (i) => positions[i]!))
    for (const [j, i] of some.entries())
      distances[i] = distance(spec.metric, query, rows.subarray(j * spec.dim, (j + 1) * spec.dim))
  }
}

/** Which of some shards, in order of their first rows, has the row of this number. */
function shardOf(coded: readonly CodedShard[], from: number, end: number, number: number): number {
  let [low, high] = [from, end]
  while (high - low > 1) {
    const middle = (low + high) >> 1
    if (coded[middle]!.first <= number) low = middle
    else high = middle
  }
  return low
}

/** The `best`-th estimate of all, or Infinity if there are fewer. */
function limitOf(parts: readonly Uint32Array[], best: number): number {
  const estimates = parts.flatMap((pairs) =>
    Array.from(new Float32Array(pairs.buffer, pairs.byteOffset, pairs.length)).filter((_, i) => i % 2 === 1),
  )
  return estimates.sort((a, b) => a - b)[best - 1] ?? Infinity
}
