/**
 * A query that is ready to be asked of shards: checked once, whatever the number of shards.
 */
import { invalidInput } from "../errors.js"
import { checkVector } from "../vectors/validate.js"
import type { ShardSpec } from "./backend.js"

export interface QueryOptions {
  readonly signal?: AbortSignal | undefined
  /** What messages call the vector; default "the query vector". */
  readonly name?: string | undefined
}

/**
 * One query over some shards of a snapshot. Whoever asks several shards asks them all with one object, as far
 * as possible in one turn of the event loop: a backend may then answer them together, and leave out what
 * cannot be among the nearest `k` of all of them: hits that k records with other ids beat which other shards
 * of the same query return.
 */
export class ShardQuery {
  readonly #shared = new Map<object, unknown>()

  /** See {@link prepareQuery}, which makes sure of what is said there. */
  constructor(
    /** Never changes. */
    readonly vector: Float32Array,
    readonly k: number,
    readonly signal: AbortSignal | undefined,
  ) {}

  /** What `owner`, for example a pool, keeps for this query: made when it is first asked for. */
  shared<T>(owner: object, make: () => T): T {
    const known = this.#shared.get(owner)
    if (known !== undefined) return known as T
    const made = make()
    this.#shared.set(owner, made)
    return made
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
  { signal, name = "the query vector" }: QueryOptions = {},
): ShardQuery {
  const checked = checkVector(vector, spec.dim, spec.metric, name)
  if (!Number.isSafeInteger(k) || k < 1)
    throw invalidInput(`k must be an integer of 1 or more, got ${k}`, { k })
  return new ShardQuery(checked === vector ? checked.slice() : checked, k, signal)
}
