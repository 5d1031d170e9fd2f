import { createHash } from "node:crypto"
import { appendFile, open, readdir, rm, stat, truncate, writeFile } from "node:fs/promises"
import { join } from "node:path"
import { describe, expect, it } from "vitest"
import { type Content, createDiskCache } from "../../../../src/reader/shards/disk-cache.js"
import { createRangedFiles } from "../../../../src/reader/shards/ranged-files.js"
import { localDirectory } from "../../../../src/shards/source.js"
import {
  type ByteRange,
  fromStretches,
  joinStretches,
  stretchesOf,
  stretchRange,
} from "../../../../src/shards/stretches.js"
import type { SnapshotShard } from "../../../../src/snapshot/snapshot.js"
import { openStore } from "../../../../src/storage/open.js"
import type { ObjectStore } from "../../../../src/storage/store.js"
import { createCounts, withCounting } from "../../../../src/storage/with-counting.js"
import { SUM_STRETCH } from "../../../../src/vectors/cells/file.js"
import { seededRandom } from "../../../support/records.js"
import { withTempDir } from "../../../support/stores.js"

const sha256 = (bytes: Uint8Array): Buffer => createHash("sha256").update(bytes).digest()

const random = seededRandom(5)
/** The last of its stretches is short. */
const BIG = Buffer.from(Array.from({ length: 40 * SUM_STRETCH + 100 }, () => Math.floor(random() * 256)))
const SMALL = Buffer.from("what is read whole")
const SUMS = Buffer.concat(
  Array.from({ length: 41 }, (_, i) => sha256(BIG.subarray(i * SUM_STRETCH, (i + 1) * SUM_STRETCH))),
)
const ENTRY: SnapshotShard = {
  shard: 3,
  rows: 1,
  folder: "shards/3",
  index: { kind: "any" },
  files: [
    { name: "big", size: BIG.length, sha256: sha256(BIG).toString("hex") },
    { name: "small", size: SMALL.length, sha256: sha256(SMALL).toString("hex") },
  ],
}
const PARTS: Content = { name: `${"0".repeat(40)}.ranges`, files: [] }

let roots = 0
async function setUp(dir: string, limitBytes?: number) {
  const inner = openStore(`memory://ranged-${process.pid}-${roots++}`)
  await inner.put("shards/3/big", BIG)
  await inner.put("shards/3/small", SMALL)
  const cache = createDiskCache(dir, limitBytes)
  const opened = async () => {
    const counts = createCounts()
    const store: ObjectStore = withCounting(inner, counts)
    const claim = (await cache.claim(PARTS)) ?? (await cache.add(PARTS, async () => {}))
    const localDir = async () => dir
    const files = createRangedFiles({ store, entry: ENTRY, cache, dir: claim.dir, localDir })
    const read = async (...ranges: ByteRange[]) => {
      const pieces = await files.source.read!("big", ranges, { sums: SUMS })
      for (const [i, { start, end }] of ranges.entries())
        expect(Buffer.compare(pieces[i]!, BIG.subarray(start, end))).toBe(0)
    }
    const close = async () => {
      await files.close()
      await claim.release()
    }
    return { counts, files, read, close, path: join(claim.dir, "big"), dir: claim.dir }
  }
  return { inner, cache, opened }
}

const at = (stretch: number, bytes = 10): ByteRange => ({
  start: stretch * SUM_STRETCH + 5,
  end: stretch * SUM_STRETCH + 5 + bytes,
})

describe("stretches of a file", () => {
  it("are those that ranges touch, joined where few lie between", () => {
    expect(stretchesOf([at(3), at(1), { start: 7, end: 7 }, at(1, SUM_STRETCH), at(9)])).toEqual([1, 2, 3, 9])
    const joined = joinStretches([1, 2, 3, 9, 14, 20], 4)
    expect(joined).toEqual([
      { first: 1, last: 3 },
      { first: 9, last: 14 },
      { first: 20, last: 20 },
    ])
    expect(stretchRange(40, BIG.length)).toEqual({ start: 40 * SUM_STRETCH, end: BIG.length })
    const parts = new Map([0, 1].map((i) => [i, BIG.subarray(i * SUM_STRETCH, (i + 1) * SUM_STRETCH)]))
    const range = { start: SUM_STRETCH - 3, end: SUM_STRETCH + 4 }
    expect(Buffer.compare(fromStretches(range, parts), BIG.subarray(range.start, range.end))).toBe(0)
  })

  it("of a local file are compared with their sums", () =>
    withTempDir(async (dir) => {
      await writeFile(join(dir, "big"), BIG)
      const source = localDirectory(dir)
      const end = BIG.length
      const [piece] = await source.read("big", [{ start: end - 20, end }], { sums: SUMS })
      expect(Buffer.compare(piece!, BIG.subarray(end - 20))).toBe(0)
      const beyond = source.read("big", [{ start: end - 1, end: end + 1 }], { sums: SUMS })
      await expect(beyond).rejects.toMatchObject({ tag: "Corrupt" })
      const handle = await open(join(dir, "big"), "r+")
      await handle.write(Buffer.from([BIG[7 * SUM_STRETCH]! ^ 1]), 0, 1, 7 * SUM_STRETCH)
      await handle.close()
      await expect(source.read("big", [at(7)], { sums: SUMS })).rejects.toMatchObject({ tag: "Corrupt" })
      await source.read("big", [at(8)], { sums: SUMS })
    }))
})

describe("files that are read in ranges", () => {
  it("take a request for what lies together, and none for what was read before", () =>
    withTempDir(async (dir) => {
      const { opened } = await setUp(dir)
      const one = await opened()
      await one.read(at(1), at(2), at(5), at(30), at(40, 95))
      expect(one.counts).toMatchObject({ get: 3, getFile: 0, head: 0, list: 0 })
      // 1 to 5 with what lies between, 30, and the short one at the end.
      expect(one.counts.bytesRead).toBe(6 * SUM_STRETCH + 100)
      await one.read(at(3), at(1), at(30, 5000))
      expect(one.counts.get).toBe(3)
      await one.close()
      const two = await opened()
      await two.read(at(1), at(2), at(3), at(4), at(5), at(40, 95))
      expect(two.counts.get).toBe(0)
      await two.read(at(6))
      expect(two.counts).toMatchObject({ get: 1, bytesRead: SUM_STRETCH })
      await two.close()
    }))

  it("are asked for once by all who want them at the same time", () =>
    withTempDir(async (dir) => {
      const { opened } = await setUp(dir)
      const one = await opened()
      await Promise.all([one.read(at(1), at(8)), one.read(at(8), at(20)), one.read(at(1))])
      expect(one.counts).toMatchObject({ get: 3, bytesRead: 3 * SUM_STRETCH })
      await one.close()
    }))

  it("are given whole, kept, and checked", () =>
    withTempDir(async (dir) => {
      const { inner, opened } = await setUp(dir)
      const one = await opened()
      const [a, b] = await Promise.all([
        one.files.source.readFile!("small"),
        one.files.source.readFile!("small"),
      ])
      expect([a, b].map((bytes) => Buffer.from(bytes!).toString())).toEqual(Array(2).fill(SMALL.toString()))
      const [piece] = await one.files.source.read!("small", [{ start: 5, end: 7 }])
      expect(Buffer.from(piece!).toString()).toBe("is")
      expect(one.counts).toMatchObject({ get: 1, getFile: 0, head: 0 })
      await writeFile(join(one.dir, "small"), "what is read wrong")
      await one.files.source.readFile!("small")
      expect(one.counts.get).toBe(2)
      await rm(join(one.dir, "small"))
      await inner.put("shards/3/small", Buffer.from("what is else there"))
      const damaged = { tag: "Corrupt", message: expect.stringContaining("shards/3/small") }
      await expect(one.files.source.readFile!("small")).rejects.toMatchObject(damaged)
      await expect(one.files.source.readFile!("none")).rejects.toMatchObject({ tag: "Corrupt" })
      expect((await readdir(one.dir)).filter((name) => name.startsWith("small"))).toEqual([])
      await one.close()
    }))

  it("are fetched again where what was kept is damaged, cut, or longer than it was", () =>
    withTempDir(async (dir) => {
      const { opened } = await setUp(dir)
      const one = await opened()
      await one.read(at(1), at(2), at(30))
      const damage = async (work: () => Promise<unknown>, gets: number) => {
        await work()
        const before = one.counts.get
        await one.read(at(1), at(2), at(30))
        expect(one.counts.get - before).toBe(gets)
      }
      const flip = async () => {
        const handle = await open(one.path, "r+")
        await handle.write(Buffer.from([BIG[2 * SUM_STRETCH]! ^ 1]), 0, 1, 2 * SUM_STRETCH)
        await handle.close()
      }
      await damage(flip, 1)
      await damage(() => truncate(one.path, 30 * SUM_STRETCH + 7), 1)
      await damage(() => appendFile(one.path, "more"), 0)
      await damage(() => truncate(one.path, 0), 2)
      await damage(async () => {}, 0)
      await one.close()
    }))

  it("are shared by all who read them, whatever each of them keeps", () =>
    withTempDir(async (dir) => {
      const { opened } = await setUp(dir)
      const [one, two] = [await opened(), await opened()]
      await one.read(at(1), at(30))
      await two.read(at(1), at(12))
      await Promise.all([one.read(at(12)), two.read(at(30))])
      expect([one.counts.get, two.counts.get]).toEqual([2, 1])
      await one.close()
      await two.read(at(30))
      expect(two.counts.get).toBe(1)
      await two.close()
    }))

  it("are Corrupt if the store has other bytes, NotFound if it has none, and Aborted", () =>
    withTempDir(async (dir) => {
      const { inner, opened } = await setUp(dir)
      const one = await opened()
      const read = (signal?: AbortSignal) => one.files.source.read!("big", [at(3)], { sums: SUMS, signal })
      await expect(read(AbortSignal.abort())).rejects.toMatchObject({ tag: "Aborted" })
      const changed = Buffer.from(BIG)
      changed[3 * SUM_STRETCH + 200]! ^= 1
      await inner.put("shards/3/big", changed)
      const message = expect.stringContaining(
        `shards/3/big is damaged in its bytes from ${3 * SUM_STRETCH} on`,
      )
      await expect(read()).rejects.toMatchObject({ tag: "Corrupt", message })
      await inner.put("shards/3/big", Buffer.concat([BIG, BIG]))
      await expect(read()).rejects.toMatchObject({ tag: "Corrupt" })
      await inner.delete(["shards/3/big"])
      await expect(read()).rejects.toMatchObject({ tag: "NotFound" })
      const beyond = { start: BIG.length, end: BIG.length + 1 }
      const far = one.files.source.read!("big", [beyond], { sums: SUMS })
      await expect(far).rejects.toMatchObject({ tag: "Corrupt" })
      await inner.put("shards/3/big", BIG)
      await one.read(at(3))
      await one.close()
    }))

  it("are read though nothing can be kept", () =>
    withTempDir(async (dir) => {
      const { opened } = await setUp(join(dir, "cache"))
      const one = await opened()
      await rm(join(dir, "cache"), { recursive: true })
      await one.read(at(1))
      expect(Buffer.from(await one.files.source.readFile!("small")).toString()).toBe(SMALL.toString())
      expect(one.files.problem).toMatch(/ENOENT|no such/)
      await one.close()
    }))

  it("count in the cache by what is there of them, and make way", () =>
    withTempDir(async (dir) => {
      const { cache, opened } = await setUp(dir, 10 * SUM_STRETCH)
      const one = await opened()
      await one.read(at(1), at(30))
      // In blocks of the file system, which may be larger than a stretch's part of them.
      expect((await stat(one.path)).blocks * 512).toBeLessThan(6 * SUM_STRETCH)
      const whole: Content = { name: "1".repeat(40), files: [{ name: "file", size: 4 * SUM_STRETCH }] }
      const fill = (into: string) => writeFile(join(into, "file"), Buffer.alloc(4 * SUM_STRETCH))
      await (await cache.add(whole, fill)).release()
      // Both fit, though the large file by itself would not.
      expect((await readdir(dir)).filter((name) => !name.startsWith("."))).toEqual([PARTS.name, whole.name])
      await one.read(at(10), at(11), at(12), at(20), at(21))
      await one.read(at(35), at(36), at(37), at(38))
      // What is not in use went for what came.
      expect((await readdir(dir)).filter((name) => !name.startsWith("."))).toEqual([PARTS.name])
      await cache.leave(PARTS)
      expect(await cache.claim(PARTS)).toBeDefined()
      await one.close()
      await cache.close()
      await cache.leave(PARTS)
      expect(await cache.claim(PARTS)).toBeUndefined()
    }))
})
