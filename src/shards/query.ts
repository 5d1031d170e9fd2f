/**
 * A query that is ready to be asked of shards: checked once, whatever the number of shards.
 */
import { invalidInput } from "../errors.js"
import type { CellEffort } from "../vectors/cells/effort.js"
import { checkVector } from "../vectors/validate.js"
import type { ShardSpec } from "./backend.js"

export interface QueryOptions {
  readonly signal?: AbortSignal | undefined
  /** How much of the shards is looked at, where they have cells. Default: all rows, exactly. */
  readonly effort?: CellEffort | undefined
  /** What messages call the vector; default "the query vector". */
  readonly name?: string | undefined
}

/** One query over some shards of a snapshot. */
export class ShardQuery {
  /** See {@link prepareQuery}, which makes sure of what is said there. */
  constructor(
    /** Never changes. */
    readonly vector: Float32Array,
    readonly k: number,
    readonly signal: AbortSignal | undefined,
    /**
     * Over all shards of the query together. Undefined: all rows, exactly, as always of shards without cells.
     */
    readonly effort: CellEffort | undefined,
  ) {}

  /** The same query with another effort. */
  withEffort(effort: CellEffort | undefined): ShardQuery {
    return effort === this.effort ? this : new ShardQuery(this.vector, this.k, this.signal, effort)
  }
}

/**
 * A query for the nearest `k` rows of shards of a snapshot. The vector is copied. Throws `InvalidInput`
 * unless it has the snapshot's dimension, finite values and, under cosine, a direction, and unless `k` is a
 * whole number from 1.
 */
export function prepareQuery(
  vector: ArrayLike<number>,
  k: number,
  spec: Pick<ShardSpec, "dim" | "metric">,
  { signal, effort, name = "the query vector" }: QueryOptions = {},
): ShardQuery {
  const checked = checkVector(vector, spec.dim, spec.metric, name)
  if (!Number.isSafeInteger(k) || k < 1)
    throw invalidInput(`k must be an integer of 1 or more, got ${k}`, { k })
  return new ShardQuery(checked === vector ? checked.slice() : checked, k, signal, effort)
}
