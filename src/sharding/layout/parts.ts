/** The parts of steps that a crew can do. */
import { searchTreePart, type TreePart } from "./cells.js"
import { type ClosestPart, findClosest, findNearest, type NearestPart } from "./compare.js"
import { type DescribePart, describePart, type RoutePart, routePart } from "./descriptors.js"
import { type CellsPart, searchCells } from "./graph.js"

/** What one thread is posted: plain data, large arrays in shared memory. */
export type Part = ClosestPart | NearestPart | TreePart | CellsPart | RoutePart | DescribePart

export function runPart(part: Part): void {
  switch (part.kind) {
    case "closest":
      return findClosest(part)
    case "nearest":
      return findNearest(part)
    case "tree":
      return searchTreePart(part)
    case "cells":
      return searchCells(part.rows, part.plan, part.from, part.to, part.lists)
    case "route":
      return routePart(part)
    case "describe":
      return describePart(part)
  }
}
