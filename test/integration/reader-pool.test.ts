/** What readers of one process share. */
import { Worker } from "node:worker_threads"
import { afterEach, beforeAll, describe, expect, it, vi } from "vitest"
import { buildSnapshot, createReaderPool, type OpenOptions, openSnapshot } from "../../src/index.js"
import { makeRecords } from "../support/records.js"

const ROOT = "memory://reader-pool"
const RECORDS = makeRecords(60, { dim: 4, shards: 4 }).map(({ id, vector, shard }) => ({
  id,
  vector,
  shard: shard!,
}))
const QUERY = RECORDS[0]!.vector as Float32Array

beforeAll(async () => {
  await buildSnapshot(RECORDS, { to: ROOT, sharding: { strategy: "explicit", shards: 4 } })
})
afterEach(() => vi.restoreAllMocks())

/** All threads that search, by looking at who is sent messages. */
function watchThreads(): Set<Worker> {
  const threads = new Set<Worker>()
  const post = Worker.prototype.postMessage
  vi.spyOn(Worker.prototype, "postMessage").mockImplementation(function (this: Worker, ...message) {
    threads.add(this)
    post.call(this, ...(message as [unknown]))
  })
  return threads
}

const open = (options: OpenOptions = {}) => openSnapshot(ROOT, options)
const ask = async (reader: Awaited<ReturnType<typeof open>>) =>
  (await reader.search(QUERY, { shards: "all", k: 1 })).hits[0]?.id

describe("readers of one process", () => {
  it("share their threads, which end with the last of them", async () => {
    const threads = watchThreads()
    const readers = await Promise.all(Array.from({ length: 20 }, () => open()))
    expect(await Promise.all(readers.map(ask))).toEqual(readers.map(() => "id-0"))
    const many = threads.size
    await Promise.all(readers.slice(1).map((reader) => reader.close()))
    expect(await ask(readers[0]!)).toBe("id-0")
    expect(many).toBeLessThanOrEqual(8)
    expect(threads.size).toBe(many)
    await readers[0]!.close()
    await vi.waitFor(() =>
      expect([...threads].map(({ threadId }) => threadId)).toEqual([...threads].map(() => -1)),
    )
    // The next one starts others.
    await using next = await open()
    expect(await ask(next)).toBe("id-0")
    expect(threads.size).toBeGreaterThan(many)
  })

  it("have a pool of their own where they set its size", async () => {
    const threads = watchThreads()
    await using one = await open({ workers: 1 })
    await using other = await open({ workers: 1, memoryBytes: 0 })
    expect([await ask(one), await ask(other)]).toEqual(["id-0", "id-0"])
    expect(threads.size).toBe(2)
    expect(one.stats().openShardBytes).toBeGreaterThan(0)
    expect(other.stats().openShardBytes).toBe(0)
  })

  it("may be given one, which outlives them", async () => {
    const threads = watchThreads()
    await using pool = createReaderPool({ workers: 1 })
    for (let i = 0; i < 3; i++) {
      await using reader = await open({ pool })
      expect(await ask(reader)).toBe("id-0")
    }
    expect(threads.size).toBe(1)
    await using late = await open({ pool })
    await pool.close()
    await expect(late.search(QUERY, { shards: "all" })).rejects.toMatchObject({ tag: "Closed" })
  })

  it.each([
    [{ pool: {} as never }, /option pool is not one that createReaderPool has made/],
    [{ pool: createReaderPool(), workers: 2 }, /option workers does not go with option pool/],
    [{ pool: createReaderPool(), memoryBytes: 5 }, /option memoryBytes does not go with option pool/],
    [{ workers: 0 }, /option workers is 0, expected a whole number from 1/],
    [{ memoryBytes: -1 }, /option memoryBytes is -1, expected a whole number from 0/],
  ])("refuse what contradicts itself", async (options, message) => {
    await expect(open(options)).rejects.toMatchObject({
      tag: "InvalidInput",
      message: expect.stringMatching(message),
    })
  })

  it("leave no thread behind when they cannot be opened", async () => {
    const threads = watchThreads()
    await expect(open({ snapshot: "zzzzzzzzzzzz" })).rejects.toMatchObject({ tag: "NotFound" })
    await expect(open({ lease: { seconds: 0 } })).rejects.toMatchObject({ tag: "InvalidInput" })
    expect(threads.size).toBe(0)
  })
})
