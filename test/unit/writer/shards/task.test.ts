import { readdir } from "node:fs/promises"
import { describe, expect, it } from "vitest"
import { openMemoryStore } from "../../../../src/storage/memory.js"
import type { ObjectStore } from "../../../../src/storage/store.js"
import { openScratch, type Scratch } from "../../../../src/writer/scratch.js"
import { draftShard } from "../../../../src/writer/shards/draft.js"
import { runShardTask, type ShardPlan, type ShardTask } from "../../../../src/writer/shards/task.js"
import { withTempDir } from "../../../support/stores.js"
import { numbered, planOf, taskOf } from "./tasks.js"

let stores = 0
const newStore = (): ObjectStore => openMemoryStore(`task-${process.pid}-${stores++}`)

/** Runs the task in this thread. */
const runHere = (plan: ShardPlan, task: ShardTask, scratch: Scratch, store: ObjectStore) =>
  runShardTask(
    plan,
    task,
    { draft: (planned, drafted) => draftShard(planned, drafted, undefined, scratch), scratch, store },
    undefined,
  )

async function keysOf(store: ObjectStore): Promise<string[]> {
  const keys: string[] = []
  for await (const { key } of store.list("")) keys.push(key)
  return keys
}

describe("a shard's task", () => {
  const plan = planOf("sqlite-vec")

  it("stores the shard below its attempt, and leaves its rows so that it can run again", () =>
    withTempDir(async (dir) => {
      const scratch = openScratch({ directory: dir })
      const store = newStore()
      const task = await taskOf(scratch, 3, numbered(5))
      const first = await runHere(plan, task, scratch, store)
      expect(first).toMatchObject({
        kind: "built",
        entry: {
          shard: 3,
          rows: 5,
          folder: "shards/k3v9x2m4q7ab/00003/0",
          index: { kind: "cells", cells: 1 },
        },
      })
      expect(await readdir(dir)).toEqual(["spill-3"])
      const second = await runHere(plan, { ...task, attempt: 1 }, scratch, store)
      if (first.kind !== "built" || second.kind !== "built") throw new Error("not built")
      expect(second.entry).toEqual({ ...first.entry, folder: "shards/k3v9x2m4q7ab/00003/1" })
      expect(await keysOf(store)).toEqual([
        "shards/k3v9x2m4q7ab/00003/0/cells.bin",
        "shards/k3v9x2m4q7ab/00003/0/shard.db",
        "shards/k3v9x2m4q7ab/00003/1/cells.bin",
        "shards/k3v9x2m4q7ab/00003/1/shard.db",
      ])
    }))

  it("never overwrites what an attempt with its number has stored", () =>
    withTempDir(async (dir) => {
      const scratch = openScratch({ directory: dir })
      const store = newStore()
      const task = await taskOf(scratch, 3, numbered(5))
      await runHere(plan, task, scratch, store)
      await expect(runHere(plan, task, scratch, store)).rejects.toMatchObject({ tag: "Conflict" })
    }))

  it("stores nothing if the reusable shard has the same rows", () =>
    withTempDir(async (dir) => {
      const scratch = openScratch({ directory: dir })
      const task = await taskOf(scratch, 3, numbered(5))
      const built = await runHere(plan, task, scratch, newStore())
      if (built.kind !== "built") throw new Error(built.kind)
      const store = newStore()
      const reusable = { ...built.entry, folder: "shards/anotherrun00/00003/2" }
      expect(await runHere(plan, { ...task, reusable }, scratch, store)).toEqual({
        kind: "reused",
        entry: reusable,
        nearest: undefined,
      })
      expect(await runHere(plan, { ...task, drop: [0], reusable }, scratch, store)).toMatchObject({
        kind: "built",
        entry: { rows: 4 },
      })
      expect(await keysOf(store)).toEqual([
        "shards/k3v9x2m4q7ab/00003/0/cells.bin",
        "shards/k3v9x2m4q7ab/00003/0/shard.db",
      ])
    }))

  it("of rows that are all dropped is empty", () =>
    withTempDir(async (dir) => {
      const scratch = openScratch({ directory: dir })
      const store = newStore()
      const task = await taskOf(scratch, 3, [1, 2])
      expect(await runHere(plan, { ...task, drop: [1, 0] }, scratch, store)).toEqual({
        kind: "empty",
        shard: 3,
      })
      expect(await keysOf(store)).toEqual([])
    }))
})
