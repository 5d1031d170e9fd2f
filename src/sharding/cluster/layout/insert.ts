/** Homes of rows that took no part in making the layout, by their neighbours among those that did. */
import { createScoring, type Descriptors, routeAll } from "../routing/descriptors.js"
import type { SpaceRows } from "../space/space.js"
import type { Truth } from "./judge.js"

/** Scores decide between shards with equal votes only. */
const SCORE_WEIGHT = 0.5

/**
 * The shard that holds most of a row's neighbours, of equal ones the one that scores best. `home` are the
 * shards of the rows that `truth` names.
 */
export function homesByVotes(
  rows: SpaceRows,
  descriptors: Descriptors,
  beta: number,
  truth: Truth,
  home: ArrayLike<number>,
): Int32Array {
  const scoring = createScoring(descriptors, beta)
  const { shards, ranked, scores } = routeAll(scoring, rows)
  const votes = new Float64Array(shards)
  return Int32Array.from({ length: rows.rows }, (_, row) => {
    const first = row * shards
    votes.fill(0)
    for (let i = row * truth.k; i < (row + 1) * truth.k; i++) {
      if (truth.ids[i]! >= 0) votes[home[truth.ids[i]!]!]!++
    }
    for (let rank = 0; rank < shards; rank++) {
      votes[ranked[first + rank]!]! += (SCORE_WEIGHT * scores[first + rank]!) / scores[first]!
    }
    // Along the ranks, so that of shards that nobody votes for the best one wins.
    let best = ranked[first]!
    for (let rank = 1; rank < shards; rank++) {
      if (votes[ranked[first + rank]!]! > votes[best]!) best = ranked[first + rank]!
    }
    return best
  })
}
