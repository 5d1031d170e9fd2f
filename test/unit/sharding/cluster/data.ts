import { hash32 } from "../../../../src/sharding/cluster/space/hash.js"
import { fitPreparation, prepareRows, type SpaceRows } from "../../../../src/sharding/cluster/space/space.js"
import type { Metric } from "../../../../src/vectors/metric.js"
import { createRandom } from "../../../../src/vectors/random.js"

/** The 40 × 4 rows that the figures of the reference trial in these tests were worked out with. */
export function trialRows(): SpaceRows {
  const vectors = Float32Array.from({ length: 40 * 4 }, (_, i) => (hash32(i, 9) / 2 ** 32) * 2 - 1)
  return inSpace(vectors, 4, "cosine")
}

/** Copies `vectors` into the space that fits them. */
export function inSpace(vectors: Float32Array, dim: number, metric: Metric): SpaceRows {
  return prepareRows(fitPreparation(vectors, dim, metric), vectors.slice())
}

/** Rows around `centres` random points, `spread` wide. */
export function groups(rows: number, dim: number, centres: number, spread: number, seed = 1): Float32Array {
  const random = createRandom(seed)
  const points = Array.from({ length: centres * dim }, () => random.gaussian())
  return Float32Array.from({ length: rows * dim }, (_, i) => {
    const centre = hash32(Math.floor(i / dim), 77) % centres
    return points[centre * dim + (i % dim)]! + spread * random.gaussian()
  })
}

export function countsOf(shardOf: ArrayLike<number>, shards: number): number[] {
  const counts = new Array<number>(shards).fill(0)
  for (let row = 0; row < shardOf.length; row++) counts[shardOf[row]!]!++
  return counts
}
