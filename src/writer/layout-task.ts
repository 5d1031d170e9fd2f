/**
 * The parts of a layout that run in worker threads. Rows and neighbour lists are in shared memory, and what is
 * computed does not depend on which thread does which part.
 */
import type { MessagePort } from "node:worker_threads"
import type { NearestLists } from "../sharding/layout/compare.js"
import { type GraphPlan, planGraph, searchCells } from "../sharding/layout/graph.js"
import { HELD_OUT_ROWS, type Split, splitRows } from "../sharding/layout/hash.js"
import type { Copies } from "../sharding/layout/judge.js"
import { createLayout, type Layout, type LayoutInput, type LayoutOptions } from "../sharding/layout/layout.js"
import {
  fitPreparation,
  gatherRows,
  prepareQueries,
  prepareRows,
  type SpaceRows,
} from "../sharding/layout/space.js"
import type { Metric } from "../vectors/metric.js"

export type LayoutTask =
  | {
      readonly kind: "prepare"
      /** All rows of the input, in shared memory; changed. */
      readonly vectors: Float32Array
      readonly dim: number
      readonly metric: Metric
      readonly shards: number
      /** Real queries, if there are any. */
      readonly queries: { readonly demand: Float32Array; readonly thresholds: Float32Array } | undefined
    }
  | { readonly kind: "plan"; readonly rows: SpaceRows; readonly clustering: number; readonly seed: number }
  | {
      readonly kind: "search"
      readonly rows: SpaceRows
      readonly plan: GraphPlan
      readonly from: number
      readonly to: number
      readonly lists: NearestLists
    }
  | {
      readonly kind: "layout"
      readonly prepared: Prepared
      readonly options: Omit<LayoutOptions, "onStep">
      /** Is sent the name of each step when it begins. */
      readonly steps: MessagePort
    }

export interface LayoutTaskResult {
  readonly prepare: Prepared
  readonly plan: GraphPlan
  readonly search: undefined
  readonly layout: LaidOut
}

/** Rows in the space of the layout, divided into those that make it and those that judge it. */
export interface Prepared {
  readonly input: LayoutInput
  readonly split: Split
}

/** Where all rows go, by their number in the input. */
export interface LaidOut extends Pick<Layout, "kind" | "judged" | "centroids" | "routing"> {
  readonly home: Int32Array
  /** Shards besides the home. */
  readonly copies: Copies | undefined
}

export function runLayoutTask(task: LayoutTask): LayoutTaskResult[keyof LayoutTaskResult] {
  switch (task.kind) {
    case "prepare":
      return prepare(task)
    case "plan":
      return shared(planGraph(task.rows, task.clustering, task.seed))
    case "search":
      searchCells(task.rows, task.plan, task.from, task.to, task.lists)
      return undefined
    case "layout": {
      const { prepared, options, steps } = task
      // The graph has been made, or is not wanted.
      const onStep: LayoutOptions["onStep"] = (step) => step !== "graph" && steps.postMessage(step)
      try {
        return inReadingOrder(createLayout(prepared.input, { ...options, onStep }), prepared.split)
      } finally {
        steps.close()
      }
    }
  }
}

/** Divides the rows and brings them into the space, in place: `vectors` then begins with the rows that make the layout. */
function prepare({
  vectors,
  dim,
  metric,
  shards,
  queries,
}: Extract<LayoutTask, { kind: "prepare" }>): Prepared {
  const rows = vectors.length / dim
  // As many rows as shards must be left.
  const heldOut = Math.min(HELD_OUT_ROWS, Math.floor(rows / 20), rows - shards)
  const split = splitRows(rows, heldOut)
  const validation = new Float32Array(new SharedArrayBuffer(4 * heldOut * dim))
  gatherRows({ vectors, dim }, split.validation, 0, heldOut, validation)
  // Rows only move towards the start, and in rising order: none is overwritten before it has moved.
  for (const [to, from] of split.built.entries()) {
    if (to !== from) vectors.copyWithin(to * dim, from * dim, (from + 1) * dim)
  }
  const built = vectors.subarray(0, split.built.length * dim)
  const preparation = fitPreparation(built, dim, metric)
  const space = (some: Float32Array): SpaceRows => {
    const prepared = prepareQueries(preparation, some)
    return { metric, dim, rows: prepared.length / dim, vectors: prepared }
  }
  const input = {
    preparation,
    rows: prepareRows(preparation, built),
    validation: prepareRows(preparation, validation),
    ...(queries && { queries: { demand: space(queries.demand), thresholds: space(queries.thresholds) } }),
  }
  return { input, split }
}

/** A plan whose arrays threads share, rather than each part of the search having a copy. */
function shared({ start, members, near, ...plan }: GraphPlan): GraphPlan {
  const share = (array: Int32Array): Int32Array => {
    const copy = new Int32Array(new SharedArrayBuffer(array.byteLength))
    copy.set(array)
    return copy
  }
  return { ...plan, start: share(start), members: share(members), near: share(near) }
}

function inReadingOrder(layout: Layout, { built, validation }: Split): LaidOut {
  const { kind, judged, centroids, routing } = layout
  const rows = built.length + validation.length
  const home = new Int32Array(rows)
  for (const [i, row] of built.entries()) home[row] = layout.home[i]!
  for (const [i, row] of validation.entries()) home[row] = layout.validationHome[i]!
  return { kind, judged, centroids, routing, home, copies: layout.copies && copiesOf(layout.copies) }

  /** Held-out rows have no copies, and the others keep their order, so only the places where lists begin change. */
  function copiesOf({ start, shard }: Copies): Copies {
    const counts = new Int32Array(rows + 1)
    for (const [i, row] of built.entries()) counts[row + 1] = start[i + 1]! - start[i]!
    for (let row = 0; row < rows; row++) counts[row + 1]! += counts[row]!
    return { start: counts, shard }
  }
}
