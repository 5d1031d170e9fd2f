/**
 * Keeping the nearest k, with a total order so that answers repeat exactly.
 */
import { invalidInput } from "../errors.js"
import { compareIds, type Id } from "../records.js"

/** Rows and their distances, nearest first; equal distances by rising rank. */
export interface RankedRows {
  readonly ranks: Int32Array
  readonly distances: Float64Array
}

const NO_DISTANCES = new Float64Array(0)
const NO_RANKS = new Int32Array(0)

/**
 * The nearest k of the (distance, rank) pairs pushed so far, ordered by distance, then by rank. The rank is
 * an integer that breaks ties; rows of a shard are sorted by id, so their row number does.
 *
 * A binary heap with the worst pair on top: k pairs of memory, and a pair that is not among the nearest costs
 * one comparison.
 */
export class TopK {
  /**
   * Largest distance that is kept, Infinity while there is room: a pair with a larger one need not be pushed.
   */
  worst = Infinity
  #size = 0
  readonly #places: number
  // Made when they are needed: many tables have nothing near many queries.
  #distances = NO_DISTANCES
  #ranks = NO_RANKS

  /**
   * `pushes`: how many pairs will be pushed at most, if that is known; saves memory where it is less than k.
   * Throws `InvalidInput` unless k is an integer of 1 or more.
   */
  constructor(k: number, pushes = k) {
    assertK(k)
    // One place at least, so that the heap has a top.
    this.#places = Math.max(1, Math.min(k, pushes))
  }

  /** `distance` is not NaN. */
  push(distance: number, rank: number): void {
    if (this.#size < this.#places) {
      if (this.#distances === NO_DISTANCES) {
        this.#distances = new Float64Array(this.#places)
        this.#ranks = new Int32Array(this.#places)
      }
      this.#siftUp(this.#size++, distance, rank)
      if (this.#size === this.#places) this.worst = this.#distances[0]!
    } else if (distance < this.worst || (distance === this.worst && rank < this.#ranks[0]!)) {
      this.#siftDown(distance, rank)
      this.worst = this.#distances[0]!
    }
  }

  /** What was kept, nearest first. Empties this top-k. */
  takeSorted(): RankedRows {
    const size = this.#size
    // Heap sort: the worst goes to the end of what is left, again and again.
    while (this.#size > 0) {
      const last = --this.#size
      const distance = this.#distances[last]!
      const rank = this.#ranks[last]!
      this.#distances[last] = this.#distances[0]!
      this.#ranks[last] = this.#ranks[0]!
      if (last > 0) this.#siftDown(distance, rank)
    }
    this.worst = Infinity
    return { ranks: this.#ranks.slice(0, size), distances: this.#distances.slice(0, size) }
  }

  /** Puts a pair into the free place `at`, or above. */
  #siftUp(at: number, distance: number, rank: number): void {
    let place = at
    while (place > 0) {
      const parent = (place - 1) >> 1
      if (!isAfter(distance, rank, this.#distances[parent]!, this.#ranks[parent]!)) break
      this.#distances[place] = this.#distances[parent]!
      this.#ranks[place] = this.#ranks[parent]!
      place = parent
    }
    this.#distances[place] = distance
    this.#ranks[place] = rank
  }

  /** Puts a pair in place of the top, or below. */
  #siftDown(distance: number, rank: number): void {
    const distances = this.#distances
    const ranks = this.#ranks
    let place = 0
    for (;;) {
      let child = 2 * place + 1
      if (child >= this.#size) break
      const right = child + 1
      if (right < this.#size && isAfter(distances[right]!, ranks[right]!, distances[child]!, ranks[child]!)) {
        child = right
      }
      if (!isAfter(distances[child]!, ranks[child]!, distance, rank)) break
      distances[place] = distances[child]!
      ranks[place] = ranks[child]!
      place = child
    }
    distances[place] = distance
    ranks[place] = rank
  }
}

/** The `count` smallest different numbers pushed so far, of which only the largest is of interest. */
export class SmallestDistinct {
  readonly #values = new Set<number>()
  readonly #count: number
  readonly #top: TopK

  /** As for {@link TopK}. */
  constructor(count: number, pushes = count) {
    this.#count = count
    this.#top = new TopK(count, pushes)
  }

  /** The largest of them, Infinity while there are fewer. */
  get worst(): number {
    return this.#values.size < this.#count ? Infinity : this.#top.worst
  }

  push(value: number): void {
    if (value >= this.worst || this.#values.has(value)) return
    if (this.#values.size === this.#count) this.#values.delete(this.#top.worst)
    this.#values.add(value)
    this.#top.push(value, 0)
  }
}

function isAfter(distanceA: number, rankA: number, distanceB: number, rankB: number): boolean {
  return distanceA > distanceB || (distanceA === distanceB && rankA > rankB)
}

/** The hits of one shard, by (distance, id). */
export interface ShardHits<Hit> {
  readonly shard: number
  readonly hits: readonly Hit[]
}

/** A hit and the shard it came from. */
export interface MergedHit<Hit> {
  readonly shard: number
  readonly hit: Hit
}

/**
 * The nearest k over the sorted hits of several shards, by (distance, shard, id). An id that several shards
 * hold (copies) counts once, at its best place. Throws `InvalidInput` unless k is an integer of 1 or more.
 */
export function mergeTopK<Hit extends { readonly id: Id; readonly distance: number }>(
  lists: readonly ShardHits<Hit>[],
  k: number,
): MergedHit<Hit>[] {
  assertK(k)
  // Few hits beyond k: shards that are asked together leave out what cannot be among the nearest. Where there
  // are more, the sort finds lists that are sorted, and merges them.
  const all: MergedHit<Hit>[] = []
  for (const { shard, hits } of lists) for (const hit of hits) all.push({ shard, hit })
  all.sort((a, b) => a.hit.distance - b.hit.distance || a.shard - b.shard || compareIds(a.hit.id, b.hit.id))
  const seen = new Set<Id>()
  const merged: MergedHit<Hit>[] = []
  for (const each of all) {
    if (merged.length === k) break
    if (seen.has(each.hit.id)) continue
    seen.add(each.hit.id)
    merged.push(each)
  }
  return merged
}

function assertK(k: number): void {
  if (!Number.isSafeInteger(k) || k < 1)
    throw invalidInput(`k must be an integer of 1 or more, got ${k}`, { k })
}
