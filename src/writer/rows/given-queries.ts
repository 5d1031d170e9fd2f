/** Real queries that a build is given beside its rows. */
import { readQueries, type SplitQueries, splitQueries } from "../../recall/queries.js"
import { type Job, seedOf } from "../job.js"

/**
 * Given queries, read and split; undefined if none are given. `hasDemand`: half of them may ask for copies.
 */
export async function splitGivenQueries(
  { options, sharding, signal }: Pick<Job, "options" | "sharding" | "signal">,
  dim: number,
  hasDemand: boolean,
): Promise<SplitQueries | undefined> {
  const { queries, metric } = options
  if (queries === undefined) return undefined
  return splitQueries(await readQueries(queries, { dim, metric }, signal), dim, seedOf(sharding), hasDemand)
}
