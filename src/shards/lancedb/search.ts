import type { Table as ArrowTable } from "apache-arrow"
import { corrupt, unsupported } from "../../errors.js"
import { compareIds } from "../../records.js"
import { distance, inverseNorm } from "../../vectors/distance.js"
import type { Metric } from "../../vectors/metric.js"
import { normalised } from "../../vectors/normalise.js"
import type { StoredColumns } from "../stored.js"
import { type OpenTable, reading } from "./open.js"
import { LENGTH_MAX } from "./schema.js"

// Rows fetched beyond k, so that rounding inside LanceDB seldom calls for a second search.
const MARGIN = 16
const GROWTH = 4

/** The answer to a search, in columns, nearest first. */
export interface Hits extends StoredColumns {
  readonly distances: readonly number[]
}

/**
 * The nearest `k` rows. LanceDB ranks in single precision; we fetch a few more than k, compute the exact
 * distances from their vectors, and search on with a larger margin as long as a row that was not fetched
 * could belong to the k.
 */
export async function searchTable(shard: OpenTable, query: Float32Array, k: number): Promise<Hits> {
  const { metric } = shard.spec
  const probe = toEngine(query, metric)
  let limit = Math.min(k + MARGIN, shard.rows)
  for (;;) {
    const found = await fetchNearest(shard, probe, limit)
    const columns = shard.layout.readColumns(found)
    const vectors = readVectors(found)
    const distances = vectors.map((vector) => distance(metric, query, vector))
    const unknown = distances.findIndex((value) => !Number.isFinite(value))
    if (unknown >= 0) {
      throw corrupt(
        `${shard.file}: the vector of record ${columns.ids[unknown]} is at distance ${distances[unknown]}: it has values that are not finite`,
        { file: shard.file, id: columns.ids[unknown] },
      )
    }
    const order = Array.from(distances.keys()).sort(
      (a, b) => distances[a]! - distances[b]! || compareIds(columns.ids[a]!, columns.ids[b]!),
    )
    const top = order.slice(0, k)
    // Without index all vectors were compared: those that are not among them cannot be ranked.
    if (limit > found.numRows) limit = shard.rows
    if (limit === shard.rows || nearestUnfetched(shard, query, found) > distances[top.at(-1)!]!) {
      return { ...pickRows(columns, top), distances: top.map((row) => distances[row]!) }
    }
    limit = Math.min(limit * GROWTH, shard.rows)
  }
}

/** Exactly `limit` rows, which the table has: LanceDB leaves out rows in silence when it cannot rank them. */
async function fetchNearest(shard: OpenTable, query: Float32Array, limit: number): Promise<ArrowTable> {
  const { probes, partitions } = shard.index
  if (!shard.layout.indexed) return fetchFrom(shard, query, limit, probes)
  let found = await fetchFrom(shard, query, limit, probes)
  // The probed partitions may hold fewer rows. (LanceDB's own way to go on, `maximumNprobes`, always searches
  // all.)
  if (found.numRows < limit && probes < partitions) found = await fetchFrom(shard, query, limit, partitions)
  if (found.numRows !== limit) {
    throw corrupt(`${shard.file}: a search for ${limit} rows found ${found.numRows}`, { file: shard.file })
  }
  return found
}

function fetchFrom(
  { table, spec, file, layout }: OpenTable,
  query: Float32Array,
  limit: number,
  probes: number,
): Promise<ArrowTable> {
  return reading(file, () => {
    const search = table
      .vectorSearch(query)
      .column("vector")
      .distanceType(spec.metric)
      .nprobes(probes)
      .select([...layout.columns, "vector", "_distance"])
      .limit(limit)
    return (layout.indexed ? search : search.bypassVectorIndex()).toArrow()
  })
}

/**
 * The query for LanceDB: of length 1 where its length does not change the ranking, and so far from the limits
 * of single precision. Throws `Unsupported` where that cannot be done.
 */
function toEngine(query: Float32Array, metric: Metric): Float32Array {
  if (metric !== "l2") return normalised(query, query.length)
  const length = 1 / inverseNorm(query)
  if (Number.isFinite(length) && length > LENGTH_MAX) {
    throw unsupported(
      `lancedb cannot search for a vector of length ${length}: expected at most ${LENGTH_MAX}`,
    )
  }
  return query
}

/** A lower bound of the exact distance of all rows that LanceDB ranked behind the fetched ones. */
function nearestUnfetched(shard: OpenTable, query: Float32Array, found: ArrowTable): number {
  const { dim, metric } = shard.spec
  const last: number = found.getChild("_distance")!.get(found.numRows - 1)
  // A float32 sum of `dim` products over at least four lanes is off by at most this part of the sum of their
  // sizes (Higham, Accuracy and Stability of Numerical Algorithms, section 4.2), with a few operations to
  // spare.
  const relativeError = (dim / 4 + 16) * 2 ** -24
  switch (metric) {
    case "cosine":
      // The sizes add up to at most 1, for the product and for both norms.
      return last - 4 * relativeError
    case "l2":
      // LanceDB returns the square, which is coarse where it is very small.
      return Math.sqrt(Math.max(0, last * (1 - relativeError) - 2 ** -120))
    case "dot": {
      // LanceDB returns 1 - dot with the query at length 1; the sizes add up to at most the length of the
      // row.
      const error = relativeError * (1 + shard.index.maxNorm)
      return (last - 1 - error) / (inverseNorm(query) || 1)
    }
  }
}

/** The vectors of an answer, in memory of their own. */
export function readVectors(found: ArrowTable): Float32Array[] {
  return Array.from(found.getChild("vector") ?? [], (vector) => vector.toArray().slice())
}

function pickRows(columns: StoredColumns, rows: readonly number[]): StoredColumns {
  return {
    ids: rows.map((row) => columns.ids[row]!),
    fields: columns.fields.map((column) => rows.map((row) => column[row]!)),
    payloads: rows.map((row) => columns.payloads[row]!),
  }
}
