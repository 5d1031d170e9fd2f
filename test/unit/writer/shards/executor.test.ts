import { readdir } from "node:fs/promises"
import { describe, expect, it } from "vitest"
import { backendByName } from "../../../../src/shards/registry.js"
import { localDirectory } from "../../../../src/shards/source.js"
import { openMemoryStore } from "../../../../src/storage/memory.js"
import type { ObjectStore } from "../../../../src/storage/store.js"
import { openScratch } from "../../../../src/writer/scratch.js"
import { draftShard } from "../../../../src/writer/shards/draft.js"
import { draftsAtOnce, type ExecutorCalls, threadExecutor } from "../../../../src/writer/shards/executor.js"
import { runShardTask, type ShardResult } from "../../../../src/writer/shards/task.js"
import { withTempDir } from "../../../support/stores.js"
import { numbered, planOf, SPEC, taskOf } from "./tasks.js"

/** Calls that keep the results by shard. */
function calls(
  signal?: AbortSignal,
): ExecutorCalls & { readonly results: Map<number, ShardResult>; readonly numbers: () => number[] } {
  const results = new Map<number, ShardResult>()
  return {
    results,
    numbers: () => [...results.keys()].sort((a, b) => a - b),
    hint: () => undefined,
    onResult: async (result) => {
      results.set(result.kind === "empty" ? result.shard : result.entry.shard, result)
    },
    signal,
  }
}

it("as many shards are drafted at once as the memory limit holds", () => {
  const MIB = 2 ** 20
  expect(draftsAtOnce(8, 20 * MIB, 1024 * MIB)).toBe(8)
  expect(draftsAtOnce(8, 100 * MIB, 1024 * MIB)).toBe(4)
  expect(draftsAtOnce(2, 180 * MIB, 1024 * MIB)).toBe(2)
  expect(draftsAtOnce(8, 900 * MIB, 1024 * MIB)).toBe(1)
  expect(draftsAtOnce(1, 1, 1024 * MIB)).toBe(1)
  expect(draftsAtOnce(3, 0, 1)).toBe(3)
})

describe("the executor of threads", () => {
  it.each(["sqlite-vec", "lancedb"] as const)(
    "stopped while %s shards are built begins no other, and leaves when those that were begun are whole",
    (backend) =>
      withTempDir(async (dir) => {
        const scratch = openScratch({ directory: dir })
        // Two are begun, and whichever is done first aborts: the smaller one, unless its thread has to wait.
        const sizes = [1, 20_000, 10, 10, 10, 10]
        const tasks = await Promise.all(sizes.map((rows, shard) => taskOf(scratch, shard, numbered(rows))))
        const controller = new AbortController()
        const store = openMemoryStore(`executor-${process.pid}-${backend}`)
        const put: ObjectStore["put"] = async (key, body) => {
          controller.abort()
          return store.put(key, body)
        }
        const { results, numbers, ...others } = calls(controller.signal)
        const executor = threadExecutor({ scratch, store: { put }, parallelism: 2 })
        const building = executor.run(planOf(backend), tasks, others)
        await expect(building).rejects.toMatchObject({ tag: "Aborted" })
        expect([[0], [1]]).toContainEqual(numbers())
        const done = numbers()[0]!
        const first = results.get(done)!
        if (first.kind !== "built") throw new Error(first.kind)

        const names = (await readdir(dir)).filter((name) => name.startsWith("shard-")).sort()
        expect(names).toContain(`shard-${1 - done}-0`)
        expect(names.length).toBeLessThanOrEqual(2)
        const pool = backendByName(backend).createPool({ workers: 1 })
        for (const name of names) {
          const reader = await pool.open(localDirectory(scratch.path(name)), SPEC, first.entry.index)
          expect(reader.rows, name).toBe(sizes[Number(name.split("-")[1])])
          await reader.close()
        }
        await pool.close()
      }),
  )

  it("does what the tasks do one after another in this thread", () =>
    withTempDir(async (dir) => {
      const scratch = openScratch({ directory: dir })
      const plan = planOf("sqlite-vec", [3, 40])
      const tasks = await Promise.all([5, 30, 1].map((rows, shard) => taskOf(scratch, shard, numbered(rows))))
      const store = openMemoryStore(`executor-${process.pid}-same`)
      const { results, ...others } = calls()
      await threadExecutor({ scratch, store, parallelism: 2 }).run(plan, tasks, { ...others })

      const draft = async (...[planned, task]: Parameters<Parameters<typeof runShardTask>[2]["draft"]>) =>
        draftShard(planned, task, undefined, scratch)
      for (const task of [...tasks].reverse()) {
        const again = await runShardTask(plan, { ...task, attempt: 7 }, { draft, scratch, store }, undefined)
        const threaded = results.get(task.shard)!
        if (again.kind !== "built" || threaded.kind !== "built") throw new Error("not built")
        expect(again.nearest).toEqual(threaded.nearest)
        expect({ ...again.entry, folder: "" }).toEqual({ ...threaded.entry, folder: "" })
      }
    }))

  it("passes on what a task throws, with its tag, and begins no other", () =>
    withTempDir(async (dir) => {
      const scratch = openScratch({ directory: dir })
      const store = openMemoryStore(`executor-${process.pid}-fails`)
      const tasks = await Promise.all(numbered(6).map((shard) => taskOf(scratch, shard, [shard])))
      await scratch.remove("spill-0")
      const { results, ...others } = calls()
      const building = threadExecutor({ scratch, store, parallelism: 1 }).run(
        planOf("sqlite-vec"),
        tasks,
        others,
      )
      await expect(building).rejects.toMatchObject({ tag: "NotFound" })
      expect(results.size).toBeLessThan(6)
    }))

  it("fails with the upload that fails, and keeps what the shard was made of", () =>
    withTempDir(async (dir) => {
      const scratch = openScratch({ directory: dir })
      const put: ObjectStore["put"] = async () => {
        throw new Error("the disk is full")
      }
      const tasks = [await taskOf(scratch, 0, [1, 2])]
      const { results, ...others } = calls()
      const run = threadExecutor({ scratch, store: { put }, parallelism: 1 }).run(
        planOf("sqlite-vec"),
        tasks,
        others,
      )
      await expect(run).rejects.toThrow("the disk is full")
      expect(results.size).toBe(0)
      expect(await readdir(dir)).toContain("spill-0")
    }))
})
