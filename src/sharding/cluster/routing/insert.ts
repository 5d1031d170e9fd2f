/** Homes of rows that come when nobody looks for their neighbours. */
import type { SpaceRows } from "../space/space.js"
import { createScoring, type Descriptors, routeAll } from "./descriptors.js"

/** The shard that scores best for each row. */
export function homesByScore(rows: SpaceRows, descriptors: Descriptors, beta: number): Int32Array {
  return Int32Array.from(routeAll(createScoring(descriptors, beta), rows, undefined, 1, false).ranked)
}
