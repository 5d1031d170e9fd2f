/**
 * Which rows of an input are drawn, to be learned from or to be held out: those of the lowest keys, which are
 * hashes of their ids and a seed. So the same rows are drawn, and come in the same order, whatever the order
 * of rows, files and batches is, and whoever goes over them.
 */
import type { IdColumn } from "../../records.js"
import { hash32, saltOf } from "../../sharding/cluster/space/hash.js"
import { hashValue } from "../../sharding/hash.js"

/** The hash of each id of a batch. */
export function idHashes({ values }: IdColumn): BigUint64Array {
  const hashes = new BigUint64Array(values.length)
  for (let row = 0; row < hashes.length; row++) hashes[row] = hashValue(values[row]!)
  return hashes
}

/** Bits of a key that are taken from the second round. */
const LOW_BITS = 21

/** The key of each row, 0 <= key < 2^53: two rounds that would undo to the hash of its id, less 11 bits. */
export function drawKeys(hashes: BigUint64Array, seed: number): Float64Array {
  const words = new Uint32Array(hashes.buffer, hashes.byteOffset, 2 * hashes.length)
  const salt = saltOf("draw", seed)
  const keys = new Float64Array(hashes.length)
  for (let row = 0; row < keys.length; row++) {
    const low = words[2 * row]!
    const high = hash32(words[2 * row + 1]! ^ hash32(low, salt), salt)
    keys[row] = high * 2 ** LOW_BITS + (hash32(low ^ high, salt) >>> (32 - LOW_BITS))
  }
  return keys
}

/** Numbers of rows by rising key, equal ones (of rows with the same id) in reading order. */
export function orderByKey(keys: Float64Array): Uint32Array {
  const order = new Uint32Array(keys.length)
  for (let row = 0; row < order.length; row++) order[row] = row
  return order.sort((a, b) => keys[a]! - keys[b]! || a - b)
}

/** Slots that are there from the start. */
const FIRST_SLOTS = 1024

/**
 * The rows of lowest key among those that are offered, `most` at most: each has a slot, in which the caller
 * keeps what it wants of the row. A heap whose root is the row that goes next.
 */
export class LowestKeys {
  readonly #most: number
  /** Slots as a heap: the key of each is at least those of the two below it. */
  #heap = new Uint32Array(FIRST_SLOTS)
  /** By slot. */
  #keys = new Float64Array(FIRST_SLOTS)
  #rows = new Float64Array(FIRST_SLOTS)
  #size = 0

  constructor(most: number) {
    this.#most = most
  }

  /** Rows kept so far; their slots are 0 to `size - 1`. */
  get size(): number {
    return this.#size
  }

  /**
   * The slot that the row takes, maybe from one that is no longer among the lowest; -1 if it is not among
   * them itself. Rows are offered by rising number: of equal keys the first stays.
   */
  offer(key: number, row: number): number {
    if (this.#size < this.#most) {
      const slot = this.#size++
      if (slot === this.#heap.length) this.#grow()
      this.#keys[slot] = key
      this.#rows[slot] = row
      this.#rise(slot)
      return slot
    }
    const slot = this.#heap[0]!
    if (this.#most === 0 || key >= this.#keys[slot]!) return -1
    this.#keys[slot] = key
    this.#rows[slot] = row
    this.#sink(slot)
    return slot
  }

  /** Slots by rising key, equal ones by rising number of the row. */
  sorted(): Uint32Array {
    const slots = this.#heap.slice(0, this.#size)
    return slots.sort((a, b) => this.#keys[a]! - this.#keys[b]! || this.#rows[a]! - this.#rows[b]!)
  }

  /** Whether slot `a` goes before slot `b`. */
  #isHigher(a: number, b: number): boolean {
    const difference = this.#keys[a]! - this.#keys[b]!
    return difference > 0 || (difference === 0 && this.#rows[a]! > this.#rows[b]!)
  }

  #rise(slot: number): void {
    const heap = this.#heap
    let place = this.#size - 1
    while (place > 0) {
      const above = (place - 1) >> 1
      if (!this.#isHigher(slot, heap[above]!)) break
      heap[place] = heap[above]!
      place = above
    }
    heap[place] = slot
  }

  #sink(slot: number): void {
    const heap = this.#heap
    let place = 0
    for (let below = 1; below < this.#size; below = 2 * place + 1) {
      if (below + 1 < this.#size && this.#isHigher(heap[below + 1]!, heap[below]!)) below++
      if (!this.#isHigher(heap[below]!, slot)) break
      heap[place] = heap[below]!
      place = below
    }
    heap[place] = slot
  }

  #grow(): void {
    const slots = 2 * this.#heap.length
    this.#heap = grown(this.#heap, new Uint32Array(slots))
    this.#keys = grown(this.#keys, new Float64Array(slots))
    this.#rows = grown(this.#rows, new Float64Array(slots))
  }
}

function grown<T extends Uint32Array | Float32Array | Float64Array>(from: T, into: T): T {
  into.set(from)
  return into
}

/**
 * So much is reserved at once. Nothing is taken of it before it is used, while to grow is to have all in
 * memory twice for a while.
 */
const RESERVED_BYTES = 2 ** 29

/** Draws the vectors of `most` rows at most from an input that streams by. */
export class DrawnRows {
  readonly #lowest: LowestKeys
  readonly #most: number
  readonly #dim: number
  /** By slot. */
  #vectors: Float32Array
  #seen = 0

  constructor(most: number, dim: number) {
    this.#lowest = new LowestKeys(most)
    this.#most = most
    this.#dim = dim
    const reserved = Math.max(1, Math.floor(RESERVED_BYTES / (4 * dim)))
    this.#vectors = new Float32Array(Math.min(most, reserved) * dim)
  }

  /** Rows offered so far. */
  get seen(): number {
    return this.#seen
  }

  /** Offers the next rows, `keys.length × dim`. */
  add(vectors: Float32Array, keys: Float64Array): void {
    const dim = this.#dim
    for (let row = 0; row < keys.length; row++) {
      const slot = this.#lowest.offer(keys[row]!, this.#seen++)
      if (slot < 0) continue
      if ((slot + 1) * dim > this.#vectors.length) {
        const rows = Math.min(this.#most, 2 * (this.#vectors.length / dim))
        this.#vectors = grown(this.#vectors, new Float32Array(rows * dim))
      }
      this.#vectors.set(vectors.subarray(row * dim, (row + 1) * dim), slot * dim)
    }
  }

  /** In memory that threads share, by rising key: without the `skipped` lowest, `count` rows at most. */
  take(skipped: number, count: number): Float32Array {
    const dim = this.#dim
    const slots = this.#lowest.sorted().subarray(skipped, skipped + count)
    const taken = new Float32Array(new SharedArrayBuffer(4 * slots.length * dim))
    for (const [to, slot] of slots.entries()) {
      taken.set(this.#vectors.subarray(slot * dim, (slot + 1) * dim), to * dim)
    }
    return taken
  }
}
