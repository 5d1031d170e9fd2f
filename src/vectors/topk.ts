/**
 * The `k` nearest rows seen so far, ordered by (distance, row): a binary heap with the worst of them on top.
 */
export class TopK {
  readonly #k: number
  readonly #distances: Float64Array
  readonly #rows: Float64Array
  #size = 0

  /** `k >= 1`; memory is 16 bytes times `k`, so callers cut `k` to the number of rows. */
  constructor(k: number) {
    this.#k = k
    this.#distances = new Float64Array(k)
    this.#rows = new Float64Array(k)
  }

  /** A row at this distance or more, offered after all lower rows, cannot enter. Infinity while there is room. */
  get bound(): number {
    return this.#size < this.#k ? Number.POSITIVE_INFINITY : this.#distances[0]!
  }

  push(distance: number, row: number): void {
    if (this.#size < this.#k) {
      this.#siftUp(this.#size++, distance, row)
    } else if (isBefore(distance, row, this.#distances[0]!, this.#rows[0]!)) {
      this.#siftDown(distance, row, this.#size)
    }
  }

  /** Rows and distances, nearest first. Empties the heap. */
  drain(): { readonly rows: Float64Array; readonly distances: Float64Array } {
    const size = this.#size
    const rows = new Float64Array(size)
    const distances = new Float64Array(size)
    for (let i = size - 1; i >= 0; i--) {
      rows[i] = this.#rows[0]!
      distances[i] = this.#distances[0]!
      this.#siftDown(this.#distances[i]!, this.#rows[i]!, i)
    }
    this.#size = 0
    return { rows, distances }
  }

  #siftUp(at: number, distance: number, row: number): void {
    let slot = at
    while (slot > 0) {
      const parent = (slot - 1) >> 1
      if (!isBefore(this.#distances[parent]!, this.#rows[parent]!, distance, row)) break
      this.#set(slot, this.#distances[parent]!, this.#rows[parent]!)
      slot = parent
    }
    this.#set(slot, distance, row)
  }

  /** Puts an entry in place of the top and lets it sink within the first `size` slots. */
  #siftDown(distance: number, row: number, size: number): void {
    let slot = 0
    for (;;) {
      let child = 2 * slot + 1
      if (child >= size) break
      const right = child + 1
      if (
        right < size &&
        isBefore(this.#distances[child]!, this.#rows[child]!, this.#distances[right]!, this.#rows[right]!)
      ) {
        child = right
      }
      if (!isBefore(distance, row, this.#distances[child]!, this.#rows[child]!)) break
      this.#set(slot, this.#distances[child]!, this.#rows[child]!)
      slot = child
    }
    this.#set(slot, distance, row)
  }

  #set(slot: number, distance: number, row: number): void {
    this.#distances[slot] = distance
    this.#rows[slot] = row
  }
}

function isBefore(distanceA: number, rowA: number, distanceB: number, rowB: number): boolean {
  return distanceA < distanceB || (distanceA === distanceB && rowA < rowB)
}
