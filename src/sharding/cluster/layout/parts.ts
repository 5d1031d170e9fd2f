/** The parts of steps that workers can do. */
import { type RoutePart, routePart } from "../routing/descriptors.js"
import { type ClosestPart, findClosest, findNearest, type NearestPart } from "../space/compare.js"
import type { Part } from "../space/workers.js"
import { searchTreePart, type TreePart } from "./cells.js"
import { type DescribePart, describePart } from "./describe.js"
import { type CellsPart, searchCells } from "./graph.js"
import { type TunePart, tunePart } from "./judge.js"

type KnownPart = ClosestPart | NearestPart | TreePart | CellsPart | RoutePart | DescribePart | TunePart

/** Does one part, in whatever thread. */
export function runPart(posted: Part): void {
  const part = posted as KnownPart
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
