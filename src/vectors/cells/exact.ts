/** Exact distances of rows that lie in kernel memory, to the last bit those of distance.ts. */
import { cosineDistance, dotDistance, inverseNorm } from "../distance.js"
import type { Metric } from "../metric.js"
import type { CellKernel } from "./kernel.js"

/** Rows that are looked at in one call. */
const ROWS_AT_ONCE = 256

/** Bytes that {@link ExactDistances} takes. */
export const exactBytes = (dim: number): number =>
  Math.ceil(dim / 2) * 16 + ROWS_AT_ONCE * 4 + 2 * (ROWS_AT_ONCE + 4) * 8

/** One thread's place in a memory for exact distances. */
export class ExactDistances {
  /** Rows that {@link ExactDistances.compute} takes at a time. */
  readonly rowsAtOnce = ROWS_AT_ONCE
  /** Where to put the addresses of the rows' float32s, each a multiple of 4. */
  readonly addresses: Uint32Array
  readonly #kernel: CellKernel
  readonly #metric: Metric
  readonly #query: Float64Array
  readonly #products: Float64Array
  readonly #norms: Float64Array
  #inverseNorm = 0

  /** `at`: where its {@link exactBytes} begin, a multiple of 16. */
  constructor(memory: ArrayBufferLike, kernel: CellKernel, metric: Metric, dim: number, at: number) {
    this.#kernel = kernel
    this.#metric = metric
    this.#query = new Float64Array(memory, at, dim)
    const addresses = at + Math.ceil(dim / 2) * 16
    this.addresses = new Uint32Array(memory, addresses, ROWS_AT_ONCE)
    const products = addresses + ROWS_AT_ONCE * 4
    this.#products = new Float64Array(memory, products, ROWS_AT_ONCE + 4)
    this.#norms = new Float64Array(memory, products + (ROWS_AT_ONCE + 4) * 8, ROWS_AT_ONCE + 4)
  }

  /** The query of all that comes. */
  setQuery(query: Float32Array): void {
    this.#query.set(query)
    if (this.#metric === "cosine") this.#inverseNorm = inverseNorm(query)
  }

  /** Public distances of the first `count` rows of {@link ExactDistances.addresses}, into `out`. */
  compute(count: number, out: Float64Array): void {
    const rows = this.addresses.byteOffset
    const products = this.#products
    const dim = this.#query.length
    const at = products.byteOffset
    switch (this.#metric) {
      case "l2":
        this.#kernel.exactSquares(rows, count, dim, this.#query.byteOffset, at)
        for (let i = 0; i < count; i++) out[i] = Math.sqrt(products[i]!)
        return
      case "dot":
        this.#kernel.exactProducts(rows, count, dim, this.#query.byteOffset, at, 0)
        for (let i = 0; i < count; i++) out[i] = dotDistance(products[i]!)
        return
      case "cosine": {
        const norms = this.#norms
        this.#kernel.exactProducts(rows, count, dim, this.#query.byteOffset, at, norms.byteOffset)
        for (let i = 0; i < count; i++) {
          const inverse = norms[i] === 0 ? 0 : 1 / Math.sqrt(norms[i]!)
          out[i] = cosineDistance(products[i]!, this.#inverseNorm, inverse)
        }
      }
    }
  }
}
