/**
 * The products that a layout spends nearly all of its time in, on the compiled kernel where there is one:
 * rows against points of the space, and rows against each other with the best few kept.
 */
import {
  GUARD_BYTES,
  KernelMemory,
  pack,
  packedLength,
  type ScanSearch,
} from "../../../vectors/kernel/memory.js"
import { innerProducts, squaredDistances } from "../../../vectors/kernel/plain.js"
import { gatherRows, type Points, type SpaceRows, squaredLength } from "./space.js"
import { divide, newFloats, newInts, partOfRows, someOf, type Workers } from "./workers.js"

/**
 * Kernel memories that nobody uses just now. They only grow, and there are as many as callbacks are nested.
 */
const idle: KernelMemory[] = []

/** Undefined without a compiled kernel. Give it back to `idle`. */
function takeMemory(sizeBytes: number): KernelMemory | undefined {
  const memory = idle.pop() ?? KernelMemory.create(sizeBytes)
  return memory?.grow(sizeBytes) ? memory : undefined
}

/** Places in kernel memory, each at a multiple of 16 bytes. */
export function allocate(lengths: readonly number[]): { readonly starts: number[]; readonly end: number } {
  let end = GUARD_BYTES
  const starts = lengths.map((length) => {
    const start = end
    end += Math.ceil(length / 4) * 16
    return start
  })
  return { starts, end }
}

/** What {@link forEachBlock} passes on; views that are good until it goes on. */
export interface Block {
  /** Places `from` to `to - 1` of the members. */
  readonly from: number
  readonly to: number
  /** `(to - from) × stride`, if all similarities are asked for: the first `points.count` of each are good. */
  readonly similarities: Float32Array
  readonly stride: number
  /**
   * Otherwise, for each row: the most similar point (of equal ones the first), and the two largest
   * similarities.
   */
  readonly nearest: Int32Array
  readonly best: Float32Array
  readonly second: Float32Array
}

// A block's rows, and its similarities where there are any, should stay in a core's cache; so should some of
// the points.
const BLOCK_NUMBERS = 2 ** 16

/**
 * Compares rows with points, `x · p - bias(p)`, in float32, a block of rows after the other. `members` are
 * the rows, in that order; all rows if absent. `all`: every similarity of each row, not just the best ones.
 */
export function forEachBlock(
  rows: SpaceRows,
  points: Points,
  members: ArrayLike<number> | undefined,
  all: boolean,
  each: (block: Block) => void,
): void {
  const { dim, vectors } = rows
  const count = members?.length ?? rows.rows
  const stride = points.count + (points.count % 2) // the kernel takes points in pairs
  const most = Math.max(4, Math.floor(BLOCK_NUMBERS / Math.max(dim, all ? stride : 0) / 4) * 4)
  const size = Math.min(most, Math.ceil(count / 4) * 4)
  const length = packedLength(dim)
  const lengths = [stride * length, stride, size * dim, size, size, size, size, all ? size * stride : 0]
  const { starts, end } = allocate(lengths)
  const memory = takeMemory(end)
  if (memory === undefined) {
    forEachPlainBlock(rows, points, members, all, size, stride, each)
    return
  }
  try {
    const [pointsAt, biasAt, rowsAt, nearestAt, bestAt, secondAt, normsAt, allAt] = starts as number[] &
      [number]
    const { floats, integers, exports } = memory
    const view = (i: number) => floats.subarray(starts[i]! / 4, starts[i]! / 4 + lengths[i]!)
    // The kernel gives bias - x · p, smaller is better. With points and biases negated that is the
    // similarity, which then need not be gone over again; but it looks for the smallest, so only where those
    // are not asked for.
    const sign = all ? -1 : 1
    const packed = view(0).fill(0)
    const bias = view(1).fill(sign * Infinity)
    for (let point = 0; point < points.count; point++) {
      pack(packed, point * length, points.vectors, point * dim, dim)
      bias[point] = sign * (points.bias?.[point] ?? 0)
    }
    if (all) for (let i = 0; i < packed.length; i++) packed[i] = -packed[i]!
    const input = view(2)
    const nearest = integers.subarray(nearestAt! / 4, nearestAt! / 4 + size)
    const [best, second, similarities] = [view(4), view(5), view(7)]
    for (let from = 0; from < count; from += size) {
      const to = Math.min(count, from + size)
      if (members === undefined) input.set(vectors.subarray(from * dim, to * dim))
      else gatherRows(rows, members, from, to, input)
      exports.comparePoints(
        rowsAt!,
        to - from,
        dim,
        pointsAt,
        biasAt!,
        stride,
        nearestAt!,
        bestAt!,
        secondAt!,
        normsAt!,
        all ? allAt! : 0,
      )
      if (!all) {
        for (let i = 0; i < to - from; i++) {
          best[i] = 0 - best[i]!
          second[i] = 0 - second[i]!
        }
      }
      each({ from, to, similarities, stride, nearest, best, second })
    }
  } finally {
    idle.push(memory)
  }
}

function forEachPlainBlock(
  rows: SpaceRows,
  points: Points,
  members: ArrayLike<number> | undefined,
  all: boolean,
  size: number,
  stride: number,
  each: (block: Block) => void,
): void {
  const { dim, vectors } = rows
  const count = members?.length ?? rows.rows
  const products = new Float64Array(points.count)
  const similarities = new Float32Array(all ? size * stride : 0)
  const nearest = new Int32Array(size)
  const best = new Float32Array(size)
  const second = new Float32Array(size)
  for (let from = 0; from < count; from += size) {
    const to = Math.min(count, from + size)
    for (let place = from; place < to; place++) {
      const row = (members?.[place] ?? place) * dim
      innerProducts(
        points.vectors,
        0,
        points.count,
        Float64Array.from(vectors.subarray(row, row + dim)),
        products,
      )
      const i = place - from
      nearest[i] = 0
      best[i] = -Infinity
      second[i] = -Infinity
      for (let point = 0; point < points.count; point++) {
        const similarity = Math.fround(products[point]! - (points.bias?.[point] ?? 0))
        if (all) similarities[i * stride + point] = similarity
        if (similarity > best[i]!) {
          second[i] = best[i]!
          best[i] = similarity
          nearest[i] = point
        } else if (similarity > second[i]!) second[i] = similarity
      }
    }
    each({ from, to, similarities, stride, nearest, best, second })
  }
}

/** The points that some rows are nearest to. */
export interface Closest {
  /** The most similar point of each row; of equal ones the first. */
  readonly point: Int32Array
  /**
   * How similar. Under `l2` less half the squared length of the row, so that rows can be compared with one
   * another.
   */
  readonly similarity: Float32Array
  /** By how much more than the second most similar; Infinity with one point. */
  readonly margin: Float32Array
}

/** Fewer rows are not worth a message to another thread. */
const LEAST_ROWS = 1024

/**
 * The most similar point for each of `members` (all rows if absent). With workers the rows must be in shared
 * memory.
 */
export function closestPoints(
  rows: SpaceRows,
  points: Points,
  members?: ArrayLike<number>,
  workers?: Workers,
): Closest {
  const count = members?.length ?? rows.rows
  const closest = {
    point: newInts(count, workers),
    similarity: newFloats(count, workers),
    margin: newFloats(count, workers),
  }
  divide(
    workers,
    count,
    LEAST_ROWS,
    (from, to) => ({
      kind: "closest",
      points,
      ...partOfRows(rows, members, from, to),
      closest: {
        point: closest.point.subarray(from, to),
        similarity: closest.similarity.subarray(from, to),
        margin: closest.margin.subarray(from, to),
      },
    }),
    () => findClosest({ rows, points, members, closest }),
  )
  return closest
}

/** Some of the members of {@link closestPoints}, and where their results go. */
export interface ClosestPart {
  readonly kind: "closest"
  readonly rows: SpaceRows
  readonly points: Points
  readonly members: ArrayLike<number> | undefined
  readonly closest: Closest
}

export function findClosest({ rows, points, members, closest }: Omit<ClosestPart, "kind">): void {
  forEachBlock(rows, points, members, false, ({ from, to, nearest, best, second }) => {
    for (let place = from, i = 0; place < to; place++, i++) {
      closest.point[place] = nearest[i]!
      closest.margin[place] = best[i]! - second[i]!
      const row = members?.[place] ?? place
      closest.similarity[place] =
        rows.metric === "l2" ? best[i]! - squaredLength(rows.vectors, row, rows.dim) / 2 : best[i]!
    }
  })
}

/**
 * Writes the places of the `count` largest of `values` into `out` from `at` on, best first. Overwrites
 * `values`.
 */
export function takeLargest(values: Float32Array, count: number, out: Int32Array, at: number): void {
  for (let i = 0; i < count; i++) {
    let best = 0
    for (let place = 1; place < values.length; place++) if (values[place]! > values[best]!) best = place
    out[at + i] = best
    values[best] = -Infinity
  }
}

/** The best k of each of some rows so far, best first; empty places are -1 and Infinity. */
export interface NearestLists {
  readonly k: number
  /** `rows × k`. */
  readonly ids: Int32Array
  /** Negated inner product, under `l2` the squared distance: smaller is nearer. */
  readonly scores: Float32Array
}

/** Lists for `rows` rows; in shared memory if worker threads are to write them. */
export function createNearestLists(rows: number, k: number, shared = false): NearestLists {
  const bytes = 4 * rows * k
  const buffer = () => (shared ? new SharedArrayBuffer(bytes) : new ArrayBuffer(bytes))
  return { k, ids: new Int32Array(buffer()).fill(-1), scores: new Float32Array(buffer()).fill(Infinity) }
}

const CANDIDATES_AT_ONCE = 512
const QUERIES_AT_ONCE = 512

/**
 * Compares queries with candidates and keeps the best. Query i is number `queryIds[i]` of `queries`, and its
 * list is list `lists[queryIds[i]]`. Candidates are rows, the first `count` of `candidates`, or all rows if
 * absent. `same`: queries are rows too; a row is then no candidate for itself.
 */
export function offerNearest(
  lists: NearestLists,
  queries: SpaceRows,
  queryIds: ArrayLike<number>,
  rows: SpaceRows,
  candidates: Int32Array | undefined,
  count: number,
  same: boolean,
): void {
  const { dim, metric } = rows
  const queryCount = Math.min(QUERIES_AT_ONCE, queryIds.length)
  const length = packedLength(dim)
  const chunk = Math.ceil(Math.min(CANDIDATES_AT_ONCE, count) / 4) * 4
  const lengths = [chunk * dim, queryCount * length, queryCount, queryCount, 2 * queryCount * chunk]
  const { starts, end } = allocate(lengths)
  const memory = takeMemory(end)
  if (memory === undefined) {
    offerPlainly(lists, queries, queryIds, rows, candidates, count, same)
    return
  }
  try {
    const { floats, integers, exports } = memory
    const [rowsAt, queriesAt, thresholdsAt, countsAt, foundAt] = starts as number[] & [number]
    const input = floats.subarray(rowsAt / 4, rowsAt / 4 + lengths[0]!)
    const thresholds = floats.subarray(thresholdsAt! / 4, thresholdsAt! / 4 + queryCount)
    const counts = integers.subarray(countsAt! / 4, countsAt! / 4 + queryCount)
    for (let first = 0; first < queryIds.length; first += queryCount) {
      const some = Math.min(queryCount, queryIds.length - first)
      for (let i = 0; i < some; i++) {
        const query = queryIds[first + i]!
        pack(floats, queriesAt! / 4 + i * length, queries.vectors, query * dim, dim)
        thresholds[i] = lists.scores[(query + 1) * lists.k - 1]!
      }
      for (let from = 0; from < count; from += chunk) {
        const to = Math.min(count, from + chunk)
        if (candidates === undefined) input.set(rows.vectors.subarray(from * dim, to * dim))
        else gatherRows(rows, candidates, from, to, input)
        counts.fill(0)
        const found: ScanSearch = [queriesAt!, some, thresholdsAt!, countsAt!, foundAt!, chunk]
        if (metric === "l2") exports.scanDistances(rowsAt, to - from, dim, 0, ...found)
        else exports.scanProducts(rowsAt, to - from, dim, 0, 0, ...found)
        for (let i = 0; i < some; i++) {
          const query = queryIds[first + i]!
          let at = foundAt! / 4 + i * 2 * chunk
          for (let found = 0; found < counts[i]!; found++, at += 2) {
            const place = from + integers[at]!
            const id = candidates === undefined ? place : candidates[place]!
            if (!same || id !== query) offer(lists, query, id, floats[at + 1]!)
          }
          thresholds[i] = lists.scores[(query + 1) * lists.k - 1]!
        }
      }
    }
  } finally {
    idle.push(memory)
  }
}

/** As {@link offerNearest}, without the kernel. */
const offerPlainly: typeof offerNearest = (lists, queries, queryIds, rows, candidates, count, same) => {
  const { dim, metric } = rows
  const chunk = Math.min(CANDIDATES_AT_ONCE, count)
  const gathered = new Float32Array(chunk * dim)
  const scores = new Float64Array(chunk)
  for (let from = 0; from < count; from += chunk) {
    const to = Math.min(count, from + chunk)
    if (candidates === undefined) gathered.set(rows.vectors.subarray(from * dim, to * dim))
    else gatherRows(rows, candidates, from, to, gathered)
    for (let i = 0; i < queryIds.length; i++) {
      const query = queryIds[i]!
      const vector = Float64Array.from(queries.vectors.subarray(query * dim, (query + 1) * dim))
      const compare = metric === "l2" ? squaredDistances : innerProducts
      compare(gathered, 0, to - from, vector, scores)
      for (let place = from; place < to; place++) {
        const id = candidates === undefined ? place : candidates[place]!
        const score = scores[place - from]!
        if (!same || id !== query) offer(lists, query, id, Math.fround(metric === "l2" ? score : 0 - score))
      }
    }
  }
}

/**
 * Puts a row into a list if it is better than the last one and not there yet; of equals what was there stays.
 */
function offer({ k, ids, scores }: NearestLists, list: number, id: number, score: number): void {
  const first = list * k
  const last = first + k - 1
  if (!(score < scores[last]!)) return
  for (let place = first; place <= last; place++) if (ids[place] === id) return
  let place = last
  while (place > first && scores[place - 1]! > score) {
    scores[place] = scores[place - 1]!
    ids[place] = ids[place - 1]!
    place--
  }
  scores[place] = score
  ids[place] = id
}

/** Each part goes through all rows, which are only in the cache of a core for some queries together. */
const LEAST_QUERIES = 64

/**
 * The k nearest rows of every query, exactly (in float32), best first: `queries × k` ids, -1 where there are
 * fewer rows. `same`: queries are the rows, and no row is its own neighbour. With workers both must be in
 * shared memory.
 */
export function exactNeighbours(
  queries: SpaceRows,
  rows: SpaceRows,
  k: number,
  same = false,
  workers?: Workers,
): NearestLists {
  const lists = createNearestLists(queries.rows, k, workers !== undefined)
  const partOf = (from: number, to: number) =>
    ({ kind: "nearest", queries, members: someOf(undefined, from, to), rows, lists, same }) as const
  divide(workers, queries.rows, LEAST_QUERIES, partOf, () => findNearest(partOf(0, queries.rows)))
  return lists
}

/** Some of the queries of {@link exactNeighbours}. */
export interface NearestPart {
  readonly kind: "nearest"
  readonly queries: SpaceRows
  readonly members: Int32Array
  readonly rows: SpaceRows
  readonly lists: NearestLists
  readonly same: boolean
}

export function findNearest({ queries, members, rows, lists, same }: NearestPart): void {
  offerNearest(lists, queries, members, rows, undefined, rows.rows, same)
}
