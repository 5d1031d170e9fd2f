/** The parts of steps that a crew can do. */
import { searchTreePart, type TreePart } from "./cells.js"
import { type ClosestPart, findClosest, findNearest, type NearestPart } from "./compare.js"
import { type DescribePart, describePart, type RoutePart, routePart } from "./descriptors.js"
import { type CellsPart, searchCells } from "./graph.js"
import { type TunePart, tunePart } from "./judge.js"

/** What one thread is posted: plain data, large arrays in shared memory. */
export type Part = ClosestPart | NearestPart | TreePart | CellsPart | RoutePart | DescribePart | TunePart

export function runPart(part: Part): void {
  switch (part.kind) {
    case "closest":
      findClosest(part)
      break
    case "nearest":
      findNearest(part)
      break
    case "tree":
      searchTreePart(part)
      break
    case "cells":
      searchCells(part.rows, part.plan, part.from, part.to, part.lists)
      break
    case "route":
      routePart(part)
      break
    case "describe":
      describePart(part)
      break
    case "tune":
      tunePart(part)
      break
  }
}
