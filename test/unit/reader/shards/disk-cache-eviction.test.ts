import { mkdir, rename, stat, writeFile } from "node:fs/promises"
import { join } from "node:path"
import { beforeEach, expect, test, vi } from "vitest"
import { type Content, createDiskCache } from "../../../../src/reader/shards/disk-cache.js"
import { withTempDir } from "../../../support/stores.js"

/** What happens each time before a path is resolved: the moment after a directory was seen there. */
const hooks = vi.hoisted(() => ({
  beforeRealpath: async (_path: string): Promise<void> => {},
  beforeRename: async (_to: string): Promise<void> => {},
}))
vi.mock("node:fs/promises", async (original) => {
  const real = await original<typeof import("node:fs/promises")>()
  const realpath = async (path: string): Promise<string> => {
    await hooks.beforeRealpath(path)
    return real.realpath(path)
  }
  const rename = async (from: string, to: string): Promise<void> => {
    await hooks.beforeRename(to)
    return real.rename(from, to)
  }
  return { ...real, realpath, rename }
})

const content: Content = { name: "1".padStart(40, "0"), files: [{ name: "sub/file", size: 10 }] }
async function fill(partial: string): Promise<void> {
  await mkdir(join(partial, "sub"))
  await writeFile(join(partial, "sub/file"), Buffer.alloc(10))
}
beforeEach(() => {
  hooks.beforeRealpath = async () => {}
  hooks.beforeRename = async () => {}
})

test.each(["the directory", "a file in it"])(
  "a content that goes while it is looked at is not there: %s",
  (what) =>
    withTempDir(async (dir) => {
      const cache = createDiskCache(dir, 100)
      const claim = await cache.add(content, fill)
      await claim.release()
      hooks.beforeRealpath = async (path) => {
        if (path.endsWith("file") !== (what === "a file in it")) return
        hooks.beforeRealpath = async () => {}
        await rename(join(dir, content.name), join(dir, ".partial", "evicted"))
      }
      expect(await cache.claim(content)).toBeUndefined()
      await cache.close()
    }),
)

test("what another process filled meanwhile, and evicted before it was claimed, is filled after all", () =>
  withTempDir(async (dir) => {
    const [ours, theirs] = [createDiskCache(dir, 100), createDiskCache(dir, 100)]
    const place = join(dir, content.name)
    let looks = 0
    const claim = await ours.add(content, async (partial) => {
      await fill(partial)
      await (await theirs.add(content, fill)).release()
      // The first look finds it there, so that ours gives way; the second one is to claim it.
      hooks.beforeRealpath = async (path) => {
        if (path === place && ++looks === 2) await rename(place, join(dir, ".partial", "evicted"))
      }
    })
    expect(looks).toBeGreaterThanOrEqual(2)
    expect(claim.dir).toBe(place)
    expect((await stat(join(place, "sub/file"))).size).toBe(10)
    await ours.close()
    await theirs.close()
  }))

test("a place that others fill and evict again and again is had in the end", () =>
  withTempDir(async (dir) => {
    const cache = createDiskCache(dir, 100)
    const place = join(dir, content.name)
    let taken = 0
    hooks.beforeRename = async (to) => {
      if (to !== place || taken === 10) return
      taken++
      // As it looks while it is evicted: there, but not whole any more.
      await mkdir(place, { recursive: true })
      await writeFile(join(place, "left"), "x")
    }
    const claim = await cache.add(content, fill)
    expect([taken, claim.dir]).toEqual([10, place])
    await cache.close()
  }))
