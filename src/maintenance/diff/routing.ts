/** How far the routing of two snapshots lies apart. Pure. */
import type { Manifest } from "../../manifest/manifest.js"
import type { FieldValue, Id, RecordBatch, StoredRecord } from "../../records.js"
import { assignmentTable } from "../../sharding/cluster/routing/centroids.js"
import { CENTROIDS_FILE } from "../../sharding/cluster/strategy.js"
import { strategyType } from "../../sharding/registry.js"
import type { Strategy } from "../../sharding/strategy.js"
import { distance } from "../../vectors/distance.js"
import { bestPoints } from "../../vectors/kernel.js"
import { type AnyNpyArray, hasFloats } from "../../vectors/npy.js"

/** A centroid of the later snapshot, and the nearest one of the earlier. */
export interface CentroidShift {
  readonly shard: number
  readonly nearest: number
  /** Euclidean under `l2`, else 1 - cos: what records are assigned by. */
  readonly distance: number
}

type Artifacts = Readonly<Record<string, AnyNpyArray>>

/** `undefined` unless both snapshots are clustered, in one space. */
export function centroidShifts(
  before: Manifest,
  after: Manifest,
  arrays: { readonly before: Artifacts; readonly after: Artifacts },
): readonly CentroidShift[] | undefined {
  const { dim, metric } = after.schema
  const old = arrays.before[CENTROIDS_FILE]
  const fresh = arrays.after[CENTROIDS_FILE]
  const comparable = before.schema.dim === dim && before.schema.metric === metric
  if (!comparable || old === undefined || fresh === undefined || !hasFloats(old) || !hasFloats(fresh))
    return undefined
  const centroids = Float32Array.from(fresh.data)
  const others = Float32Array.from(old.data)
  const nearest = bestPoints(centroids, assignmentTable(metric, others, dim))
  const row = (values: Float32Array, i: number): Float32Array => values.subarray(i * dim, (i + 1) * dim)
  return Array.from(nearest, (point, shard) => ({
    shard,
    nearest: point,
    distance: distance(metric === "l2" ? "l2" : "cosine", row(centroids, shard), row(others, point)),
  }))
}

/**
 * Whether another snapshot's strategy can tell the shard of a record of this one: not if that was given with
 * it.
 */
export function canReroute(before: Manifest, after: Manifest): boolean {
  const { queriesBy } = strategyType(before.sharding.strategy)
  if (queriesBy === "shards" || before.schema.dim !== after.schema.dim) return false
  const has = (name: string, type: string): boolean =>
    after.schema.fields.some((field) => field.name === name && field.type === type)
  return queriesBy !== "context" || before.schema.fields.every(({ name, type }) => has(name, type))
}

/** How many of the records, which are in `shard`, the strategy would send elsewhere. */
export function countElsewhere(
  strategy: Strategy,
  records: readonly StoredRecord[],
  shard: number,
  { schema }: Manifest,
  file: string,
): number {
  const assigned = strategy.assign(batchOf(records, schema, file))
  return assigned.reduce((count, other) => count + (other === shard ? 0 : 1), 0)
}

function batchOf(records: readonly StoredRecord[], schema: Manifest["schema"], file: string): RecordBatch {
  const { dim, id, fields } = schema
  const vectors = new Float32Array(records.length * dim)
  records.forEach((record, row) => void vectors.set(record.vector, row * dim))
  const ids = records.map((record): Id => record.id)
  const column = (name: string, type: string): FieldValue[] =>
    records.map(({ fields }) => {
      const value = fields[name] ?? null
      return type === "int64" && typeof value === "number" ? BigInt(value) : value
    })
  return {
    rows: records.length,
    dim,
    ids:
      id.type === "string"
        ? { type: "string", values: ids.map(String) }
        : { type: "int64", values: BigInt64Array.from(ids, (value) => BigInt(value)) },
    vectors,
    fields: Object.fromEntries(fields.map(({ name, type }) => [name, column(name, type)])),
    payloads: records.map(() => null),
    origin: { file, unit: "row", rows: Float64Array.from(records, (_, row) => row + 1) },
  }
}
