/** Real queries that a build is given: read, checked and split. */
import { invalidInput } from "../errors.js"
import { hashOrder, saltOf } from "../sharding/cluster/space/hash.js"
import type { Source } from "../sources/source.js"
import type { Metric } from "../vectors/metric.js"
import { checkVector } from "../vectors/validate.js"

/** Fewer would say nothing. */
const FEWEST_QUERIES = 20

/**
 * Queries as a user has them: vectors of `dim` numbers, or a source that has them as the vectors of its rows.
 */
export type QueryInput = Source | readonly ArrayLike<number>[]

/**
 * All queries, `count × dim`. Throws `InvalidInput` if there are fewer than 20, or if one has another
 * dimension or can't be compared under the metric.
 */
export async function readQueries(
  input: QueryInput,
  { dim, metric }: { readonly dim: number; readonly metric: Metric },
  signal?: AbortSignal,
): Promise<Float32Array> {
  const vectors: Float32Array[] = []
  const take = (vector: ArrayLike<number>, place: string): void => {
    vectors.push(checkVector(vector, dim, metric, `${place}: the vector`))
  }
  if ("read" in input) {
    for await (const batch of input.read({ signal, dim })) {
      for (let row = 0; row < batch.rows; row++) {
        const vector = batch.vectors.slice(row * batch.dim, (row + 1) * batch.dim)
        take(vector, `queries, ${batch.origin.file}, ${batch.origin.unit} ${batch.origin.rows[row]}`)
      }
    }
  } else {
    for (const [i, vector] of input.entries()) take(vector, `query ${i}`)
  }
  if (vectors.length < FEWEST_QUERIES) {
    throw invalidInput(`there are ${vectors.length} queries, expected ${FEWEST_QUERIES} or more`, {
      expected: FEWEST_QUERIES,
      got: vectors.length,
    })
  }
  const all = new Float32Array(vectors.length * dim)
  for (const [i, vector] of vectors.entries()) all.set(vector, i * dim)
  return all
}

export interface SplitQueries {
  /** Join the demand for copies; none of them is measured with. */
  readonly demand: Float32Array
  /** Choose thresholds, and measure recall. */
  readonly measuring: Float32Array
}

/** Halves the queries by a hash of their places; if there is no demand for copies, all of them measure. */
export function splitQueries(
  vectors: Float32Array,
  dim: number,
  seed: number,
  hasDemand: boolean,
): SplitQueries {
  const count = vectors.length / dim
  const order = hashOrder(count, saltOf("certificate", seed))
  const half = hasDemand ? Math.floor(count / 2) : 0
  const pick = (places: Uint32Array): Float32Array => {
    const picked = new Float32Array(places.length * dim)
    for (const [to, from] of places.sort().entries()) {
      picked.set(vectors.subarray(from * dim, (from + 1) * dim), to * dim)
    }
    return picked
  }
  return { demand: pick(order.slice(0, half)), measuring: pick(order.slice(half)) }
}
