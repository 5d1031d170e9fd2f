import { describe, expect, test } from "vitest"
import { createLayout } from "../../../../../src/sharding/cluster/layout/layout.js"
import { runPart } from "../../../../../src/sharding/cluster/layout/parts.js"
import { fitPreparation, prepareRows, sliceRows } from "../../../../../src/sharding/cluster/space/space.js"
import type { Part, Workers } from "../../../../../src/sharding/cluster/space/workers.js"
import { METRICS } from "../../../../../src/vectors/metric.js"
import { groups } from "../data.js"

/** Does the parts of each step in the other order, as threads may, and notes their kinds. */
function backwards(kinds: Set<Part["kind"]>): Workers {
  return {
    threads: 2,
    run(parts) {
      for (const part of parts.toReversed()) {
        kinds.add(part.kind)
        runPart(part)
      }
    },
  }
}

describe("workers", () => {
  test.each(METRICS)("make the same fast layout under %s as one thread", (metric) => {
    const dim = 6
    const vectors = groups(6000, dim, 30, 0.4)
    const preparation = fitPreparation(vectors, dim, metric)
    const all = prepareRows(preparation, vectors)
    const input = { preparation, validation: sliceRows(all, 0, 700), rows: sliceRows(all, 700, 6000) }
    const kinds = new Set<Part["kind"]>()
    const options = { shards: 8, layout: "fast" } as const
    const alone = createLayout(input, options)
    expect(createLayout(input, { ...options, workers: backwards(kinds) })).toEqual(alone)
    expect([...kinds].sort()).toEqual(["closest", "describe", "nearest", "route", "tune"])
  })
})
