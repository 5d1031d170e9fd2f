import { mkdir, rename, writeFile } from "node:fs/promises"
import { join } from "node:path"
import { expect, test, vi } from "vitest"
import { type Content, createDiskCache } from "../../../../src/reader/shards/disk-cache.js"
import { withTempDir } from "../../../support/stores.js"

/** What happens each time before a path is resolved: the moment after a directory was seen there. */
const hooks = vi.hoisted(() => ({ beforeRealpath: async (_path: string): Promise<void> => {} }))
vi.mock("node:fs/promises", async (original) => {
  const real = await original<typeof import("node:fs/promises")>()
  const realpath = async (path: string): Promise<string> => {
    await hooks.beforeRealpath(path)
    return real.realpath(path)
  }
  return { ...real, realpath }
})

test.each(["the directory", "a file in it"])(
  "a content that goes while it is looked at is not there: %s",
  (what) =>
    withTempDir(async (dir) => {
      const content: Content = { name: "1".padStart(40, "0"), files: [{ name: "sub/file", size: 10 }] }
      const cache = createDiskCache(dir, 100)
      const claim = await cache.add(content, async (partial) => {
        await mkdir(join(partial, "sub"))
        await writeFile(join(partial, "sub/file"), Buffer.alloc(10))
      })
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
