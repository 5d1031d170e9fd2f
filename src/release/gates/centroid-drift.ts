/** How far the centroids of a snapshot are from those of the live one: data that has moved moves them too. */
import { corrupt } from "../../errors.js"
import { readArtifacts } from "../../manifest/artifacts.js"
import type { Manifest } from "../../manifest/manifest.js"
import { CENTROIDS_FILE } from "../../sharding/cluster/strategy.js"
import type { CallOptions, ObjectStore } from "../../storage/store.js"
import { distance } from "../../vectors/distance.js"
import type { Metric } from "../../vectors/metric.js"
import { type AnyNpyArray, hasFloats } from "../../vectors/npy.js"
import type { Measurement } from "./judge.js"

export async function measureCentroidDrift(
  store: ObjectStore,
  candidate: Manifest,
  live: Manifest,
  options: CallOptions,
): Promise<Measurement> {
  const arrays = await Promise.all([candidate, live].map((one) => readArtifacts(store, one, options)))
  const other = [candidate, live].find((_, i) => arrays[i]![CENTROIDS_FILE] === undefined)
  if (other)
    return { missing: `snapshot ${other.run} has the strategy ${other.sharding.strategy}: no centroids` }
  const { dim, metric } = candidate.schema
  if (dim !== live.schema.dim || metric !== live.schema.metric)
    return { missing: "centroids of another dimension or metric can't be compared" }
  const [now, before] = [candidate, live].map((one, i) => centroidsOf(one, arrays[i]![CENTROIDS_FILE]!))
  const drift = centroidDrift(metric, dim, now!, before!)
  if (drift === undefined) return { missing: "all centroids of the live snapshot are zero" }
  const count = now!.length / dim
  return {
    value: drift,
    reason: `the ${count} centroids are ${drift.toPrecision(3)} from the nearest live ones on average`,
  }
}

function centroidsOf({ run }: Manifest, centroids: AnyNpyArray): Float32Array {
  if (!hasFloats(centroids)) throw corrupt(`the centroids of snapshot ${run} are integers`)
  return Float32Array.from(centroids.data)
}

/**
 * Mean over the centroids of `now` of the distance to the nearest one of `before`. Under cosine the cosine
 * distance, from 0 to 2; else the Euclidean distance in units of the mean length of `before`, `undefined` if
 * that is 0.
 *
 * @param now row-major, `dim` columns, at least one row; as is `before`
 */
export function centroidDrift(
  metric: Metric,
  dim: number,
  now: Float32Array,
  before: Float32Array,
): number | undefined {
  const live = rowsOf(before, dim)
  // Under dot too: the length of a centroid is as much a part of it as its direction.
  const measure = metric === "cosine" ? "cosine" : "l2"
  const nearest = rowsOf(now, dim).map((centroid) =>
    live.reduce((least, other) => Math.min(least, distance(measure, centroid, other)), Infinity),
  )
  if (measure === "cosine") return mean(nearest)
  const zero = new Float32Array(dim)
  const unit = mean(live.map((centroid) => distance("l2", centroid, zero)))
  return unit === 0 ? undefined : mean(nearest) / unit
}

const rowsOf = (matrix: Float32Array, dim: number): Float32Array[] =>
  Array.from({ length: matrix.length / dim }, (_, row) => matrix.subarray(row * dim, (row + 1) * dim))

const mean = (values: readonly number[]): number =>
  values.reduce((sum, value) => sum + value, 0) / values.length
