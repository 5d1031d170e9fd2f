/**
 * The layout of all rows of an input, as it is made in a thread of its own. Rows are in shared memory, so
 * that other threads can take part.
 */

import type { Copies } from "../../sharding/cluster/layout/judge.js"
import {
  createLayout,
  type Layout,
  type LayoutInput,
  type LayoutOptions,
} from "../../sharding/cluster/layout/layout.js"
import { HELD_OUT_ROWS, type Split, splitRows } from "../../sharding/cluster/space/hash.js"
import {
  fitPreparation,
  gatherRows,
  prepareQueries,
  prepareRows,
  type SpaceRows,
} from "../../sharding/cluster/space/space.js"
import type { Workers } from "../../sharding/cluster/space/workers.js"
import type { Metric } from "../../vectors/metric.js"

export interface LayoutTask
  extends Required<Pick<LayoutOptions, "shards" | "layout" | "budget" | "seed" | "sampleOf">> {
  /** Rows of the input, for `affinity` all of them, in shared memory; changed. */
  readonly vectors: Float32Array
  readonly dim: number
  readonly metric: Metric
  /** Real queries, if there are any. */
  readonly queries: { readonly demand: Float32Array; readonly thresholds: Float32Array } | undefined
  /** That make the layout. */
  readonly threads: number
}

/** Where the rows of the task go, by their number there. */
export interface LaidOut extends Pick<Layout, "kind" | "judged" | "centroids" | "placement" | "routing"> {
  readonly home: Int32Array
  /** Shards besides the home. */
  readonly copies: Copies | undefined
}

/** `onStep` is called before each step. */
export function runLayoutTask(
  task: LayoutTask,
  workers: Workers | undefined,
  onStep: (step: string) => void,
): LaidOut {
  const { shards, layout, budget, seed, sampleOf } = task
  onStep("prepare")
  const { input, split } = prepare(task)
  const options = { shards, layout, budget, seed, sampleOf, onStep, ...(workers && { workers }) }
  return inReadingOrder(createLayout(input, options), split)
}

/** Rows in the space of the layout, divided into those that make it and those that judge it. */
interface Prepared {
  readonly input: LayoutInput
  readonly split: Split
}

/**
 * Divides the rows and brings them into the space, in place: `vectors` then begins with the rows that make
 * the layout.
 */
function prepare({ vectors, dim, metric, shards, queries }: LayoutTask): Prepared {
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

function inReadingOrder(layout: Layout, { built, validation }: Split): LaidOut {
  const { kind, judged, centroids, placement, routing } = layout
  const rows = built.length + validation.length
  const home = new Int32Array(rows)
  for (const [i, row] of built.entries()) home[row] = layout.home[i]!
  for (const [i, row] of validation.entries()) home[row] = layout.validationHome[i]!
  return {
    kind,
    judged,
    centroids,
    placement,
    routing,
    home,
    copies: layout.copies && copiesOf(layout.copies),
  }

  /**
   * Held-out rows have no copies, and the others keep their order, so only the places where lists begin
   * change.
   */
  function copiesOf({ start, shard }: Copies): Copies {
    const counts = new Int32Array(rows + 1)
    for (const [i, row] of built.entries()) counts[row + 1] = start[i + 1]! - start[i]!
    for (let row = 0; row < rows; row++) counts[row + 1]! += counts[row]!
    return { start: counts, shard }
  }
}
