import { spawn, spawnSync } from "node:child_process"
import { once } from "node:events"
import { mkdir, readdir, rename, stat, utimes, writeFile } from "node:fs/promises"
import { join } from "node:path"
import fc from "fast-check"
import { describe, expect, it } from "vitest"
import { ABANDONED_MS, isOwnerGone, newOwnerName } from "../../../../src/async/owner.js"
import {
  byLastUse,
  type Content,
  createDiskCache,
  defaultBytes,
} from "../../../../src/reader/shards/disk-cache.js"
import { withTempDir } from "../../../support/stores.js"

/** A content of one file; its name tells its number. */
const content = (n: number, size = 10): Content => ({
  name: n.toString(16).padStart(40, "0"),
  files: [{ name: "sub/file", size }],
})

const fillWith =
  ({ files }: Content) =>
  async (dir: string): Promise<void> => {
    await mkdir(join(dir, "sub"))
    for (const { name, size } of files) await writeFile(join(dir, name), Buffer.alloc(size))
  }

const contentsOf = async (dir: string): Promise<number[]> =>
  (await readdir(dir)).filter((name) => name.length === 40).map((name) => Number.parseInt(name, 16))

describe("disk cache", () => {
  it("removes what was not used for longest, beyond its bound, and nothing that is not its own", () =>
    withTempDir(async (dir) => {
      await writeFile(join(dir, "notes.txt"), "x".repeat(1000))
      const cache = createDiskCache(dir, 35)
      for (const n of [1, 2, 3]) {
        await (await cache.add(content(n), fillWith(content(n)))).release()
        await utimes(join(dir, content(n).name), n, n)
      }
      await (await cache.claim(content(1)))!.release()
      await cache.add(content(4), fillWith(content(4)))
      expect(await contentsOf(dir)).toEqual([1, 3, 4])
      expect(await readdir(dir)).toContain("notes.txt")
      expect(await readdir(join(dir, ".partial"))).toEqual([])
    }))

  it("removes nothing that is claimed, here or by another cache, and exceeds its bound instead", () =>
    withTempDir(async (dir) => {
      const [one, two] = [createDiskCache(dir, 15), createDiskCache(dir, 15)]
      const claims = [
        await one.add(content(1), fillWith(content(1))),
        await two.add(content(2), fillWith(content(2))),
      ]
      expect((await one.claim(content(2)))?.dir).toBe(join(dir, content(2).name))
      await two.add(content(3), fillWith(content(3)))
      expect(await contentsOf(dir)).toEqual([1, 2, 3])
      for (const claim of claims) await claim.release()
      await one.close()
      await two.add(content(4), fillWith(content(4)))
      expect(await contentsOf(dir)).toEqual([3, 4])
    }))

  it("removes what a process that is gone had claimed, and its leftovers", () =>
    withTempDir(async (dir) => {
      const first = createDiskCache(dir, 15)
      await (await first.add(content(1), fillWith(content(1)))).release()
      const { pid } = spawnSync(process.execPath, ["--version"])
      const gone = newOwnerName().replace(/-\d+-/, `-${pid}-`)
      await writeFile(join(dir, content(1).name, `.use-${gone}`), "")
      await mkdir(join(dir, ".partial", gone))
      await mkdir(join(dir, ".partial", newOwnerName()))
      const second = createDiskCache(dir, 15)
      await second.add(content(2), fillWith(content(2)))
      expect(await contentsOf(dir)).toEqual([2])
      expect((await readdir(join(dir, ".partial"))).length).toBe(1)
    }))

  it("waits for an eviction under way, and does not believe in one that has died", () =>
    withTempDir(async (dir) => {
      const cache = createDiskCache(dir, 100)
      const path = join(dir, content(1).name)
      await (await cache.add(content(1), fillWith(content(1)))).release()
      const mark = join(path, `.evict-${newOwnerName()}`)
      await writeFile(mark, "")
      const claiming = cache.claim(content(1))
      expect(await Promise.race([claiming, new Promise((resolve) => setTimeout(resolve, 50, "waits"))])).toBe(
        "waits",
      )
      await rename(path, join(dir, ".partial", "evicted"))
      expect(await claiming).toBeUndefined()

      await (await cache.add(content(1), fillWith(content(1)))).release()
      await writeFile(mark, "")
      await utimes(mark, 1, 1)
      expect(await cache.claim(content(1))).toMatchObject({ dir: path })
    }))

  it("lets two fill the same content at once, and a filling that fails leave nothing", () =>
    withTempDir(async (dir) => {
      const caches = [createDiskCache(dir, 100), createDiskCache(dir, 100)]
      const claims = await Promise.all(caches.map((cache) => cache.add(content(1), fillWith(content(1)))))
      expect(claims.map((claim) => claim.dir)).toEqual(Array(2).fill(join(dir, content(1).name)))
      await expect(caches[0]!.add(content(2), () => Promise.reject(new Error("broken")))).rejects.toThrow(
        "broken",
      )
      expect(await contentsOf(dir)).toEqual([1])
      expect(await readdir(join(dir, ".partial"))).toEqual([])
      for (const cache of caches) await cache.close()
      expect(await readdir(join(dir, content(1).name))).toEqual(["sub"])
    }))

  it("replaces a content that lacks a file", () =>
    withTempDir(async (dir) => {
      await mkdir(join(dir, content(1).name))
      const cache = createDiskCache(dir, 100)
      expect(await cache.claim(content(1))).toBeUndefined()
      const claim = await cache.add(content(1), fillWith(content(1)))
      expect((await stat(join(claim.dir, "sub/file"))).size).toBe(10)
    }))

  it("says how much room a full disk lacks", () =>
    withTempDir(async (dir) => {
      const cache = createDiskCache(dir)
      const huge = content(1, 2 ** 60)
      await expect(cache.add(huge, async () => {})).rejects.toMatchObject({
        tag: "Unavailable",
        details: { code: "ENOSPC", expected: 2 ** 60 },
      })
    }))

  it("counts what it holds as free for its default bound, up to 20 GiB", () => {
    expect(defaultBytes(10, 21)).toBe(15)
    expect(defaultBytes(2 ** 40, 0)).toBe(20 * 2 ** 30)
  })

  it("orders any contents by last use, then by name", () =>
    fc.assert(
      fc.property(
        fc.array(fc.record({ name: fc.string(), sizeBytes: fc.nat(), lastUsedMs: fc.nat(3) })),
        (contents) => {
          const ordered = byLastUse(contents)
          expect(ordered.length).toBe(contents.length)
          for (const [i, { lastUsedMs, name }] of ordered.slice(1).entries()) {
            const before = ordered[i]!
            expect(
              before.lastUsedMs < lastUsedMs || (before.lastUsedMs === lastUsedMs && before.name <= name),
            ).toBe(true)
          }
        },
      ),
    ))
})

describe("owners of cached files", () => {
  it("are gone when their process is, or when they have not renewed for long", async () => {
    const own = newOwnerName()
    expect(isOwnerGone(own, 1000, 1000)).toBe(false)
    expect(isOwnerGone(own, 1000, 1000 + ABANDONED_MS + 1)).toBe(true)
    const child = spawn(process.execPath, ["-e", "setInterval(() => {}, 1000)"])
    const other = own.replace(`-${process.pid}-`, `-${child.pid}-`)
    expect(isOwnerGone(other, 1000, 1000)).toBe(false)
    child.kill("SIGKILL")
    await once(child, "close")
    expect(isOwnerGone(other, 1000, 1000)).toBe(true)
  })

  it("of another host or an unknown form are gone by their age only", () => {
    const elsewhere = newOwnerName().replace(/^.{8}-\d+/, "00000000-999999999")
    for (const name of [elsewhere, "something"]) {
      expect(isOwnerGone(name, 0, ABANDONED_MS)).toBe(false)
      expect(isOwnerGone(name, 0, ABANDONED_MS + 1)).toBe(true)
    }
  })
})
