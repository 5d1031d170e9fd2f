import { mkdir, mkdtemp, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { Worker } from "node:worker_threads"
import Sqlite from "better-sqlite3"
import * as fc from "fast-check"
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest"
import { prepareQuery } from "../../../../src/shards/query.js"
import { buildShard } from "../../../../src/shards/sqlite-vec/build.js"
import { type OpenShard, openShardFile } from "../../../../src/shards/sqlite-vec/open.js"
import { createPool } from "../../../../src/shards/sqlite-vec/pool.js"
import {
  type Answers,
  type SearchedShard,
  searchEach,
  searchShards,
} from "../../../../src/shards/sqlite-vec/search.js"
import { mergeTopK } from "../../../../src/vectors/topk.js"
import { openShard, rowsOf, specOf } from "../../../contract/shard-rows.js"
import { inMemory } from "../../../support/in-memory.js"

const DIM = 2
const SPEC = specOf(DIM, { metric: "l2" })
const FLAT = { kind: "flat" }

let root: string
let shards: SearchedShard[]
let opened: OpenShard[]

/** Records by number: few places, so that many are equally near. */
const recordOf = (n: number) => ({
  id: `r${String(n).padStart(3, "0")}`,
  vector: Float32Array.of(n % 5, Math.floor(n / 5) % 4),
})

/** Which of 60 records four shards hold: the first ten in all of them, every third of the rest in two. */
const HELD = [0, 1, 2, 3].map((shard) =>
  Array.from({ length: 60 }, (_, n) => n).filter(
    (n) => n < 10 || n % 4 === shard || (n % 3 === 0 && (n + 1) % 4 === shard),
  ),
)

beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), "vecsnap-together-"))
  opened = await Promise.all(
    HELD.map(async (held, shard) => {
      const dir = join(root, String(shard))
      await mkdir(dir)
      await buildShard(rowsOf(held.map(recordOf), SPEC), dir, SPEC)
      return openShardFile(Sqlite, join(dir, "shard.db"), SPEC)
    }),
  )
  shards = opened.map((shard, i) => (i < 2 ? inMemory(shard) : shard))
})

afterAll(async () => {
  for (const shard of opened) shard.close()
  await rm(root, { recursive: true })
})

/** The hits of each shard, as the reader merges them. */
function merged({ hits, ends }: Answers, k: number) {
  const lists = ends.map((end, shard) => {
    const places = Array.from({ length: end - (ends[shard - 1] ?? 0) }, (_, i) => (ends[shard - 1] ?? 0) + i)
    return { shard, hits: places.map((i) => ({ id: hits.ids[i]!, distance: hits.distances[i]! })) }
  })
  return mergeTopK(lists, k).map(({ shard, hit }) => ({ shard, ...hit }))
}

const open = (number: number): SearchedShard => {
  if (shards[number] === undefined) throw new Error(`no shard ${number}`)
  return shards[number]
}

describe("shards that are searched together", () => {
  it("have the same nearest records as when each is searched by itself, copies and ties included", () => {
    fc.assert(
      fc.property(
        fc.uniqueArray(fc.nat(3), { minLength: 1 }),
        fc.tuple(fc.nat(50), fc.nat(40)),
        fc.integer({ min: 1, max: 70 }),
        (asked, [x, y], k) => {
          const query = Float32Array.of(x / 10, y / 10)
          const alone = searchEach(asked, (number) => searchShards([open(number)], query, k))
          expect(merged(searchShards(asked.map(open), query, k), k)).toEqual(merged(alone, k))
        },
      ),
      { numRuns: 300 },
    )
  })

  it("answer with little more than what matters", () => {
    const { hits, ends } = searchShards(shards, Float32Array.of(0.1, 3.2), 3)
    // Three records lie at (0, 3), in one shard each but for the one whose number is a multiple of 3.
    expect([...hits.ids].sort()).toEqual(["r015", "r015", "r035", "r055"])
    expect(ends.at(-1)).toBe(4)
  })

  it("of which one cannot be read answer without it", () => {
    const { errors, ends } = searchEach([1, 9, 2], (number) =>
      searchShards([open(number)], Float32Array.of(0, 0), 2),
    )
    expect(ends).toEqual([2, 2, 4])
    expect(errors).toMatchObject([{ place: 1, error: { message: "no shard 9" } }])
  })

  // Workers with memories of their own each load the shards that they search.
  const isPrivate = process.env.VECSNAP_SHARED_MEMORY === "off"
  it.skipIf(isPrivate)("take one message to one worker, and answer as each alone", async () => {
    const post = vi.spyOn(Worker.prototype, "postMessage")
    const pool = createPool({ workers: 2 })
    const readers = await Promise.all(HELD.map((_, i) => openShard(pool, join(root, String(i)), SPEC, FLAT)))
    const query = Float32Array.of(2.2, 1.1)
    const apart = await Promise.all(readers.map((reader) => reader.search(query, 4)))
    post.mockClear()
    const one = prepareQuery(query, 4, SPEC)
    const answers = await pool.search(
      readers.map(({ reader }) => reader),
      one,
    )
    const together = answers.map((answer) => ("error" in answer ? [] : answer.hits))
    expect(post.mock.calls.map(([{ requests }]) => requests.length)).toEqual([1])
    const mergeAll = (lists: typeof together) =>
      mergeTopK(
        lists.map((hits, shard) => ({ shard, hits })),
        4,
      )
    expect(mergeAll(together)).toEqual(mergeAll(apart))
    await Promise.all(readers.map((reader) => reader.close()))
    await pool.close()
    post.mockRestore()
  })
})
