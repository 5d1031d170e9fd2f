import { execFile } from "node:child_process"
import { copyFile, mkdir, mkdtemp, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { setTimeout } from "node:timers/promises"
import { promisify } from "node:util"
import { Worker } from "node:worker_threads"
import Sqlite from "better-sqlite3"
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from "vitest"
import { prepareQuery } from "../../../../src/shards/query.js"
import { buildShard } from "../../../../src/shards/sqlite-vec/build.js"
import { createPool } from "../../../../src/shards/sqlite-vec/pool.js"
import { noise, noiseRows, openShard, rowsOf, specOf, type TestShard } from "../../../contract/shard-rows.js"
import { fitCells } from "../../../support/fit-cells.js"

const SPEC = specOf(8)
const FLAT = { kind: "flat" }
const QUERY = noise(8)

let root: string

beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), "vecsnap-pool-"))
  for (let i = 0; i < 4; i++) {
    const dir = join(root, String(i))
    await mkdir(dir)
    await buildShard(rowsOf(noiseRows(100, 8, i + 1), SPEC), dir, SPEC)
  }
})

afterAll(() => rm(root, { recursive: true }))
afterEach(() => {
  vi.restoreAllMocks()
  vi.unstubAllEnvs()
})

/** Watches the messages to all workers: which worker, and the calls in each message. */
function watchMessages(onFirst?: (worker: Worker) => void) {
  const messages: { worker: Worker; calls: string[] }[] = []
  const post = Worker.prototype.postMessage
  vi.spyOn(Worker.prototype, "postMessage").mockImplementation(function (this: Worker, batch, ...rest) {
    messages.push({
      worker: this,
      calls: batch.requests.map((item: { request: { call: string } }) => item.request.call),
    })
    // What ends the worker comes instead of its message: else a fast one answers before it is gone.
    if (messages.length === 1 && onFirst !== undefined) onFirst(this)
    else post.call(this, batch, ...rest)
  })
  return messages
}

const openAll = (pool: ReturnType<typeof createPool>) =>
  Promise.all([0, 1, 2, 3].map((i) => openShard(pool, join(root, String(i)), SPEC, FLAT)))

const searchAll = (pool: ReturnType<typeof createPool>, shards: readonly TestShard[]) =>
  pool.search(
    shards.map(({ reader }) => reader),
    prepareQuery(QUERY, 1, SPEC),
  )

/** What one of the shards takes in memory once it was searched. */
async function bytesOfShard(): Promise<number> {
  const pool = createPool({ workers: 1 })
  const reader = await openShard(pool, join(root, "0"), SPEC, FLAT)
  await reader.search(QUERY, 1)
  const { bytes } = reader
  await pool.close()
  return bytes
}

describe("a pool of search workers", () => {
  it.each([
    ["not JSON", "{", /cannot be read as JSON/],
    ["millions of values", `[${"{},".repeat(200_000)}{}]`, /about 400002 values, expected at most 200000/],
  ])(
    "loses no hit of sound shards for those of one whose payloads are %s",
    async (name, payload, message) => {
      const dir = join(root, name)
      await mkdir(dir)
      await copyFile(join(root, "0", "shard.db"), join(dir, "shard.db"))
      const db = new Sqlite(join(dir, "shard.db"))
      db.prepare("UPDATE records SET payload = ?").run(payload)
      db.close()
      await fitCells(join(root, "0", "shard.db"), join(dir, "shard.db"))
      const pool = createPool({ workers: 1 })
      const dirs = [dir, join(root, "1"), join(root, "2")]
      const readers = await Promise.all(dirs.map((each) => openShard(pool, each, SPEC, FLAT)))
      const query = prepareQuery(QUERY, 10, SPEC)
      const [damaged, ...sound] = await pool.search(
        readers.map(({ reader }) => reader),
        query,
      )
      expect(damaged).toMatchObject({
        error: { tag: "Corrupt", message: expect.stringMatching(message) },
      })
      expect(sound.map((answer) => "hits" in answer && answer.hits.length)).toEqual([10, 10])
      await Promise.all(readers.map((reader) => reader.close()))
      await pool.close()
    },
  )

  it("sends a query over any shards to the worker that has least to do, in one message", async () => {
    const pool = createPool({ workers: 2 })
    const readers = await openAll(pool)
    await searchAll(pool, readers)
    const messages = watchMessages()
    await Promise.all([searchAll(pool, readers), searchAll(pool, readers)])
    expect(messages.map(({ calls }) => calls)).toEqual([["search"], ["search"]])
    expect(messages[0]!.worker).not.toBe(messages[1]!.worker)
    await Promise.all(readers.map((reader) => reader.close()))
    await pool.close()
  })

  it("sends what came while a worker was busy with one message", async () => {
    const pool = createPool({ workers: 1 })
    const readers = await openAll(pool)
    await searchAll(pool, readers)
    const messages = watchMessages()
    await Promise.all(Array.from({ length: 4 }, () => searchAll(pool, readers)))
    expect(messages.map(({ calls }) => calls)).toEqual([Array.from({ length: 4 }, () => "search")])
    await pool.close()
  })

  it("loads shards in all workers at once, when they are first searched", async () => {
    const pool = createPool({ workers: 2 })
    const readers = await openAll(pool)
    expect(readers.map(({ bytes }) => bytes)).toEqual([0, 0, 0, 0])
    const messages = watchMessages()
    await searchAll(pool, readers)
    expect(messages.map(({ calls }) => calls)).toEqual([["load", "load"], ["load", "load"], ["search"]])
    expect(messages[0]!.worker).not.toBe(messages[1]!.worker)
    expect(readers.every(({ bytes }) => bytes > 100 * 8 * 4)).toBe(true)
    await pool.close()
  })

  it("answers in the order asked, also beyond what fits the messages in flight", async () => {
    const pool = createPool({ workers: 1 })
    const readers = await openAll(pool)
    const [reader, other] = readers
    await searchAll(pool, readers)
    const order: number[] = []
    const searches = Array.from({ length: 500 }, (_, i) =>
      (i === 250 ? other! : reader!).search(QUERY, 1).then(() => order.push(i)),
    )
    await Promise.all(searches)
    expect(order).toEqual(Array.from({ length: 500 }, (_, i) => i))
    await pool.close()
  })

  it("does not send searches that are aborted while they wait", async () => {
    const pool = createPool({ workers: 1 })
    const readers = await openAll(pool)
    const [reader] = readers
    await searchAll(pool, readers)
    const messages = watchMessages()
    const controller = new AbortController()
    const doomed = Array.from({ length: 50 }, () => reader!.search(QUERY, 1, { signal: controller.signal }))
    const wanted = reader!.search(QUERY, 1)
    controller.abort()
    const results = await Promise.allSettled(doomed)
    expect(new Set(results.map(({ status }) => status))).toEqual(new Set(["rejected"]))
    expect(await wanted).toHaveLength(1)
    expect(messages.map(({ calls }) => calls)).toEqual([["search"]])
    await pool.close()
  })

  it("holds vectors in memory up to its budget, and uses the memory of closed shards again", async () => {
    const shardBytes = await bytesOfShard()
    const pool = createPool({ workers: 2, memoryBytes: 2 * shardBytes })
    const readers = await openAll(pool)
    const answers = await Promise.all(readers.map((reader) => reader.search(noise(8, 1), 1)))
    expect(answers[0]![0]).toMatchObject({ id: "r0000", distance: 0 })
    expect(readers.map(({ bytes }) => bytes).sort()).toEqual([0, 0, shardBytes, shardBytes])
    await readers.find(({ bytes }) => bytes > 0)!.close()
    const again = await openShard(pool, join(root, "0"), SPEC, FLAT)
    await again.search(QUERY, 1)
    expect(again.bytes).toBe(shardBytes)
    await pool.close()
  })

  it("lets rows give way to those of a shard that was asked twice since", async () => {
    const shardBytes = await bytesOfShard()
    const pool = createPool({ workers: 2, memoryBytes: shardBytes })
    const [a, b] = await openAll(pool)
    const held = async (asked: typeof a) => {
      expect((await asked!.search(noise(8, asked === a ? 1 : 2), 1))[0]).toMatchObject({ distance: 0 })
      return [a!.bytes, b!.bytes]
    }
    expect(await held(a)).toEqual([shardBytes, 0])
    expect(await held(b)).toEqual([shardBytes, 0])
    expect(await held(b)).toEqual([0, shardBytes])
    // In turn, neither gives way.
    for (const asked of [a, b, a, b]) expect(await held(asked)).toEqual([0, shardBytes])
    await pool.close()
  })

  it("keeps its memory when a thread dies", async () => {
    const shardBytes = await bytesOfShard()
    const pool = createPool({ workers: 1, memoryBytes: shardBytes })
    const reader = await openShard(pool, join(root, "0"), SPEC, FLAT)
    await reader.search(QUERY, 1)
    const messages = watchMessages((worker) => void worker.terminate())
    await expect(reader.search(QUERY, 1)).rejects.toMatchObject({ tag: "Unavailable" })
    expect(await reader.search(QUERY, 1)).toHaveLength(1)
    expect(reader.bytes).toBe(shardBytes)
    expect(messages.map(({ calls }) => calls)).toEqual([["search"], ["search"]])
    await pool.close()
  })

  it("loads again what a thread has taken with it that had its own memory", async () => {
    vi.stubEnv("VECSNAP_SHARED_MEMORY", "off")
    const shardBytes = await bytesOfShard()
    const pool = createPool({ workers: 1, memoryBytes: shardBytes })
    const reader = await openShard(pool, join(root, "0"), SPEC, FLAT)
    await reader.search(QUERY, 1)
    watchMessages((worker) => void worker.terminate())
    await expect(reader.search(QUERY, 1)).rejects.toMatchObject({ tag: "Unavailable" })
    expect(reader.bytes).toBe(0)
    const other = await openShard(pool, join(root, "1"), SPEC, FLAT)
    await other.search(QUERY, 1)
    expect(other.bytes).toBe(shardBytes)
    await other.close()
    expect(await reader.search(QUERY, 1)).toHaveLength(1)
    expect(reader.bytes).toBe(shardBytes)
    await pool.close()
  })

  it("frees what a thread was to load only when that has ended", async () => {
    const shardBytes = await bytesOfShard()
    const pool = createPool({ workers: 1, memoryBytes: shardBytes })
    const reader = await openShard(pool, join(root, "0"), SPEC, FLAT)
    watchMessages((worker) => void worker.terminate())
    await expect(reader.search(QUERY, 1)).rejects.toMatchObject({ tag: "Unavailable" })
    expect(await reader.search(QUERY, 1)).toHaveLength(1)
    expect(reader.bytes).toBe(shardBytes)
    await pool.close()
  })

  it("ends a worker that does not answer in time, names what it read, and goes on", async () => {
    const dialect = { files: new URL("../../../support/stuck-file.js", import.meta.url) }
    const pool = createPool({ workers: 1 }, dialect, { batchMs: 3000 })
    const stuck = join(root, "stuck")
    await mkdir(stuck)
    for (const file of ["shard.db", "cells.bin"]) await copyFile(join(root, "0", file), join(stuck, file))
    const [reader] = await openAll(pool)
    const messages = watchMessages()
    const opening = openShard(pool, stuck, SPEC, FLAT)
    await vi.waitFor(() => expect(messages).toHaveLength(1))
    const next = reader!.get(["r0001"])
    await expect(opening).rejects.toMatchObject({
      tag: "Unavailable",
      message: expect.stringMatching(/has not answered for 3000 ms and was ended; it was reading .*stuck/),
    })
    expect(await next).toMatchObject([{ id: "r0001" }])
    expect(await reader!.search(QUERY, 1)).toHaveLength(1)
    await pool.close()
  })

  it("ends its workers when no shard is open, and starts others for the next", async () => {
    const pool = createPool({ workers: 1 }, undefined, { restMs: 50 })
    const messages = watchMessages()
    const first = await openShard(pool, join(root, "0"), SPEC, FLAT)
    const second = await openShard(pool, join(root, "1"), SPEC, FLAT)
    const { worker } = messages[0]!
    let ended = false
    worker.once("exit", () => {
      ended = true
    })
    await second.close()
    await setTimeout(200)
    expect(ended).toBe(false)
    const answer = await first.search(QUERY, 1)
    await first.close()
    await vi.waitFor(() => expect(ended).toBe(true), 10_000)
    const again = await openShard(pool, join(root, "0"), SPEC, FLAT)
    expect(await again.search(QUERY, 1)).toEqual(answer)
    expect(messages.at(-1)!.worker).not.toBe(worker)
    await pool.close()
  })

  it("survives the death of a worker: what ran fails, what follows is served", async () => {
    const pool = createPool({ workers: 2 })
    const readers = await openAll(pool)
    await searchAll(pool, readers)
    // The first message goes to the first worker.
    watchMessages((worker) => void worker.terminate())
    const [first, second] = await Promise.allSettled([
      readers[0]!.search(QUERY, 1),
      readers[1]!.search(QUERY, 1),
    ])
    expect(first).toMatchObject({
      status: "rejected",
      reason: { tag: "Unavailable", message: "a search worker ended unexpectedly: exit code 1" },
    })
    expect(second.status).toBe("fulfilled")
    for (let i = 0; i < 3; i++) {
      const found = await Promise.all(readers.map((reader) => reader.search(noise(8, 1), 1)))
      expect(found[0]![0]).toMatchObject({ id: "r0000", distance: 0 })
    }
    await Promise.all(readers.map((reader) => reader.close()))
    await pool.close()
  })

  it("fails what waits when a worker dies, with a reason", async () => {
    const pool = createPool({ workers: 1 })
    const readers = await openAll(pool)
    const [reader] = readers
    await searchAll(pool, readers)
    watchMessages((worker) => {
      worker.emit("error", new Error("out of memory"))
      void worker.terminate()
    })
    // More than the messages in flight hold: some wait in the pool.
    const settled = await Promise.allSettled(Array.from({ length: 300 }, () => reader!.search(QUERY, 1)))
    expect(settled.at(-1)).toMatchObject({
      status: "rejected",
      reason: { tag: "Unavailable", message: "a search worker ended unexpectedly: out of memory" },
    })
    expect(await reader!.search(QUERY, 1)).toHaveLength(1)
    await pool.close()
  })

  it("ends its readers when it closes", async () => {
    const pool = createPool({ workers: 1 })
    const [reader] = await openAll(pool)
    await pool.close()
    await expect(reader!.search(QUERY, 1)).rejects.toMatchObject({ tag: "Closed" })
    await reader!.close()
  })

  it("does not keep the process alive once idle", async () => {
    const module = new URL("../../../../src/shards/sqlite-vec/pool.js", import.meta.url).href
    const helpers = new URL("../../../contract/shard-rows.js", import.meta.url).href
    const code = `
      import { createPool } from ${JSON.stringify(module)}
      import { openShard } from ${JSON.stringify(helpers)}
      const pool = createPool({ workers: 2 })
      const reader = await openShard(pool, ${JSON.stringify(join(root, "0"))}, ${JSON.stringify(SPEC)}, { kind: "flat" })
      const hits = await reader.search(Float32Array.from(${JSON.stringify([...QUERY])}), 3)
      console.log(hits.length)`
    const { stdout } = await promisify(execFile)(process.execPath, ["--input-type=module", "-e", code], {
      timeout: 30_000,
    })
    expect(stdout).toBe("3\n")
  })

  it("refuses to have no workers", () => {
    for (const workers of [0, -1, 1.5, Number.NaN]) {
      expect(() => createPool({ workers })).toThrow(expect.objectContaining({ tag: "InvalidInput" }))
    }
  })
})
