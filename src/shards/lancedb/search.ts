import type { Table as ArrowTable } from "apache-arrow"
import { compareIds, type FieldValue } from "../../records.js"
import { distance, inverseNorm } from "../../vectors/distance.js"
import type { StoredColumns } from "../stored.js"
import { recordColumns } from "./layout.js"
import { type OpenTable, reading } from "./open.js"

// Rows fetched beyond k, so that rounding inside LanceDB seldom calls for a second search.
const MARGIN = 16
const GROWTH = 4

/** The answer to a search, in columns, nearest first. */
export interface Hits extends StoredColumns {
  readonly distances: readonly number[]
}

/**
 * The nearest `k` rows. LanceDB ranks in single precision; we fetch a few more than k, compute the exact distances from
 * their vectors, and search on with a larger margin as long as a row that was not fetched could belong to the k.
 */
export async function searchTable(shard: OpenTable, query: Float32Array, k: number): Promise<Hits> {
  const { metric } = shard.spec
  let limit = Math.min(k + MARGIN, shard.rows)
  for (;;) {
    const found = await fetchNearest(shard, query, limit)
    const columns = readColumns(found, shard)
    const vectors = readVectors(found)
    const distances = vectors.map((vector) => distance(metric, query, vector))
    const order = Array.from(distances.keys()).sort(
      (a, b) => distances[a]! - distances[b]! || compareIds(columns.ids[a]!, columns.ids[b]!),
    )
    const top = order.slice(0, k)
    const complete = limit >= shard.rows || order.length < limit
    if (complete || nearestUnfetched(shard, query, found) > distances[top.at(-1)!]!) {
      return { ...pickRows(columns, top), distances: top.map((row) => distances[row]!) }
    }
    limit = Math.min(limit * GROWTH, shard.rows)
  }
}

function fetchNearest(shard: OpenTable, query: Float32Array, limit: number): Promise<ArrowTable> {
  const { table, spec, index, file } = shard
  return reading(file, () =>
    table
      .vectorSearch(query)
      .column("vector")
      .distanceType(spec.metric)
      .minimumNprobes(index.probes)
      // More partitions are searched only where the first ones hold fewer rows than were asked for.
      .maximumNprobes(index.partitions)
      .select([...recordColumns(spec), "vector", "_distance"])
      .limit(limit)
      .toArrow(),
  )
}

/** A lower bound of the exact distance of all rows that LanceDB ranked behind the fetched ones. */
function nearestUnfetched(shard: OpenTable, query: Float32Array, found: ArrowTable): number {
  const { dim, metric } = shard.spec
  const last: number = found.getChild("_distance")!.get(found.numRows - 1)
  // A float32 sum of `dim` products over at least four lanes is off by at most this part of the sum of their sizes
  // (Higham, Accuracy and Stability of Numerical Algorithms, section 4.2), with a few operations to spare.
  const relativeError = (dim / 4 + 16) * 2 ** -24
  switch (metric) {
    case "cosine":
      // The sizes add up to at most 1, for the product and for both norms.
      return last - 4 * relativeError
    case "l2":
      // LanceDB returns the square.
      return Math.sqrt(last * (1 - relativeError))
    case "dot":
      // LanceDB returns 1 - dot; the sizes add up to at most the product of the lengths.
      return last - 1 - relativeError * (1 + shard.index.maxNorm / (inverseNorm(query) || 1))
  }
}

/** The records of an answer, apart from their vectors. */
export function readColumns(found: ArrowTable, shard: OpenTable): StoredColumns {
  const column = (name: string): FieldValue[] => [...found.getChild(name)!]
  return {
    ids: column("id") as (string | bigint)[],
    fields: shard.spec.fields.map((_, i) => column(`c${i}`)),
    payloads: column("payload") as (string | null)[],
  }
}

/** The vectors of an answer, in memory of their own. */
export function readVectors(found: ArrowTable): Float32Array[] {
  return Array.from(found.getChild("vector")!, (vector) => vector.toArray().slice())
}

function pickRows(columns: StoredColumns, rows: readonly number[]): StoredColumns {
  return {
    ids: rows.map((row) => columns.ids[row]!),
    fields: columns.fields.map((column) => rows.map((row) => column[row]!)),
    payloads: rows.map((row) => columns.payloads[row]!),
  }
}
