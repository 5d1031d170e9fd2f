import { createHash } from "node:crypto"
import fc from "fast-check"
import { describe, expect, it } from "vitest"
import { stringifyJson } from "../../../../src/json.js"
import { createNeighbourLists } from "../../../../src/recall/certificate.js"
import type { ShardSpec } from "../../../../src/shards/backend.js"
import { appendBlocks, takeRows } from "../../../../src/writer/rows/batches.js"
import { openScratch } from "../../../../src/writer/scratch.js"
import { draftShard, fingerprintOf } from "../../../../src/writer/shards/draft.js"
import { ALL } from "../../../support/scope.js"
import { withTempDir } from "../../../support/stores.js"
import { batchOf, numbered, planOf, SPEC, taskOf } from "./tasks.js"

describe("the draft of a shard", () => {
  it("has the same fingerprint whatever the order of the rows and their batches", () =>
    fc.assert(
      fc.asyncProperty(fc.shuffledSubarray(numbered(8), { minLength: 1 }), fc.nat(7), (order, cut) =>
        withTempDir(async (dir) => {
          const scratch = openScratch({ directory: dir })
          const sorted = await taskOf(
            scratch,
            0,
            [...order].sort((a, b) => a - b),
          )
          const parts = [order.slice(0, cut), order.slice(cut)].filter((part) => part.length > 0)
          await appendBlocks(scratch, "spill-1", parts.map(batchOf))
          const plan = planOf("sqlite-vec")
          const expected = await draftShard(plan, sorted, undefined, scratch)
          expect(await draftShard(plan, { ...sorted, shard: 1 }, undefined, scratch)).toEqual(expected)
          expect(expected).toMatchObject({
            kind: "files",
            rows: order.length,
            index: { kind: "cells", cells: 1 },
          })
        }),
      ),
      { numRuns: 15 },
    ))

  it("has another fingerprint for another row, field, payload, metric, or backend", () => {
    const rows = batchOf([1, 2, 3])
    const withField: ShardSpec = { ...SPEC, fields: [{ name: "a", type: "int64", wide: false }] }
    const prints = [
      fingerprintOf(rows, SPEC, "sqlite-vec"),
      fingerprintOf(rows, SPEC, "lancedb"),
      fingerprintOf(rows, { ...SPEC, metric: "dot" }, "sqlite-vec"),
      fingerprintOf({ ...rows, fields: { a: [1n, 2n, null] } }, withField, "sqlite-vec"),
      fingerprintOf({ ...rows, fields: { a: [1n, 2n, 3n] } }, withField, "sqlite-vec"),
      fingerprintOf({ ...rows, payloads: [null, "1", null] }, SPEC, "sqlite-vec"),
      fingerprintOf(
        { ...rows, vectors: rows.vectors.map((x, i) => (i === 40 ? x + 1 : x)) },
        SPEC,
        "sqlite-vec",
      ),
      fingerprintOf(takeRows(rows, [0, 1]), SPEC, "sqlite-vec"),
    ]
    expect(new Set(prints).size).toBe(prints.length)
  })

  it("has the fingerprint of the whole texts", () => {
    const rows = batchOf(Array.from({ length: 50 }, (_, i) => i))
    const payloads = Array.from({ length: 50 }, (_, i) => (i % 7 === 0 ? null : `{"n":${i}}`))
    const a = Array.from({ length: 50 }, (_, i) => (i % 5 === 0 ? null : BigInt(i) << 40n))
    const spec: ShardSpec = { ...SPEC, fields: [{ name: "a", type: "int64", wide: true }] }
    const parameters = {
      backend: "sqlite-vec",
      dim: SPEC.dim,
      metric: SPEC.metric,
      id: SPEC.id.type,
      fields: [["a", "int64"]],
      rows: 50,
      shape: { order: "2", home: null, codes: null },
    }
    const whole = createHash("sha256")
      .update(stringifyJson(parameters))
      .update(stringifyJson(rows.ids.values))
      .update(new Uint8Array(rows.vectors.buffer, rows.vectors.byteOffset, rows.vectors.byteLength))
      .update(stringifyJson(a))
      .update(JSON.stringify(payloads))
    expect(fingerprintOf({ ...rows, fields: { a }, payloads }, spec, "sqlite-vec")).toBe(whole.digest("hex"))
  })

  it.runIf(ALL)("is that of texts which are together longer than a string can be", () => {
    const rows = batchOf(Array.from({ length: 50 }, (_, i) => i))
    const long = JSON.stringify("x".repeat(12 * 2 ** 20))
    const heavy = { ...rows, payloads: Array.from({ length: 50 }, () => long) }
    expect(fingerprintOf(heavy, SPEC, "sqlite-vec")).toMatch(/^[0-9a-f]{64}$/)
  })

  it("finds the nearest rows of the queries, and with a hint no other that would be in the lists of all shards", () =>
    withTempDir(async (dir) => {
      const scratch = openScratch({ directory: dir })
      const plan = planOf("sqlite-vec", [5, 230])
      const shards = [numbered(120), numbered(150, 120)]
      const tasks = await Promise.all(shards.map((rows, shard) => taskOf(scratch, shard, rows)))
      const listsWith = async (hints: boolean, attempt: number) => {
        const neighbours = createNeighbourLists(2)
        for (const task of tasks) {
          const draft = await draftShard(plan, { ...task, attempt }, hints ? neighbours : undefined, scratch)
          if (draft.kind !== "files") throw new Error(draft.kind)
          neighbours.add(task.shard, draft.nearest!)
        }
        return neighbours.lists
      }
      expect(await listsWith(true, 0)).toEqual(await listsWith(false, 1))
    }))
})
