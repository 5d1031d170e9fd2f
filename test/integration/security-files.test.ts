/** Links, pipes and objects of another size, at a root and in the cache directory. */
import { execFileSync } from "node:child_process"
import {
  chmod,
  lstat,
  mkdir,
  readdir,
  readFile,
  rename,
  rm,
  symlink,
  utimes,
  writeFile,
} from "node:fs/promises"
import { join } from "node:path"
import { expect, it } from "vitest"
import { buildSnapshot, openSnapshot, openStore } from "../../src/index.js"
import { createDiskCache } from "../../src/reader/shards/disk-cache.js"
import { makeRecords } from "../support/records.js"
import { s3Root, withTempDir } from "../support/stores.js"

const RECORDS = makeRecords(30, { dim: 4, shards: 1 }).map(({ id, vector, shard }) => ({
  id,
  vector,
  shard: shard!,
}))
const QUERY = RECORDS[0]!.vector as Float32Array

const build = (to: string) => buildSnapshot(RECORDS, { to, sharding: { strategy: "explicit", shards: 1 } })

async function search(url: string, cacheDir: string): Promise<unknown> {
  await using reader = await openSnapshot(url, { cacheDir, fetch: "whole" })
  return (await reader.search(QUERY, { shards: "all", k: 1 })).hits[0]?.id
}

it("a link in place of a cached shard, or of a file in it, is not followed but replaced", async () => {
  await withTempDir(async (dir) => {
    const [root, cache, outside] = [join(dir, "root"), join(dir, "cache"), join(dir, "outside")]
    await build(root)
    expect(await search(root, cache)).toBe("id-0")
    const [content] = (await readdir(cache)).filter((name) => /^[0-9a-f]{40}$/.test(name))
    const place = join(cache, content!)
    const plant = [
      async () => {
        await rename(place, outside)
        await symlink(outside, place)
      },
      async () => {
        const file = join(place, "shard.db")
        await rename(file, join(dir, "elsewhere.db"))
        await symlink(join(dir, "elsewhere.db"), file)
      },
    ]
    for (const each of plant) {
      await each()
      // Of the same size, so that only the link gives it away.
      const target = (await lstat(outside).catch(() => undefined))
        ? join(outside, "shard.db")
        : join(dir, "elsewhere.db")
      const before = await readFile(target)
      expect(await search(root, cache)).toBe("id-0")
      expect((await lstat(place)).isDirectory()).toBe(true)
      expect((await lstat(join(place, "shard.db"))).isFile()).toBe(true)
      expect((await readFile(target)).equals(before)).toBe(true)
    }
  })
})

it("the cache counts and removes nothing behind a link", async () => {
  await withTempDir(async (dir) => {
    const outside = join(dir, "outside")
    await mkdir(join(dir, "cache"))
    await mkdir(outside)
    await writeFile(join(outside, "precious"), Buffer.alloc(5000))
    await symlink(outside, join(dir, "cache", "a".repeat(40)))
    const cache = createDiskCache(join(dir, "cache"), 1000)
    const claim = await cache.add({ name: "b".repeat(40), files: [{ name: "f", size: 900 }] }, (to) =>
      writeFile(join(to, "f"), Buffer.alloc(900)),
    )
    await claim.release()
    await cache.close()
    expect(await readdir(outside)).toEqual(["precious"])
  })
})

it("a shard that is larger than the disk evicts nothing", async () => {
  await withTempDir(async (dir) => {
    const cache = createDiskCache(dir, 1000)
    const kept = { name: "b".repeat(40), files: [{ name: "f", size: 9 }] }
    await (await cache.add(kept, (to) => writeFile(join(to, "f"), Buffer.alloc(9)))).release()
    const huge = { name: "c".repeat(40), files: [{ name: "f", size: Number.MAX_SAFE_INTEGER }] }
    await expect(cache.add(huge, async () => {})).rejects.toMatchObject({ tag: "Unavailable" })
    const claim = await cache.claim(kept)
    expect(claim).toBeDefined()
    await cache.close()
  })
})

it("a named pipe at a local root is no object, and nobody waits for it", async () => {
  await withTempDir(async (dir) => {
    execFileSync("mkfifo", [join(dir, "_CURRENT")])
    await expect(search(dir, join(dir, "cache"))).rejects.toMatchObject({ tag: "NotFound" })
  })
})

it("listing does not follow links out of a local root, so that nothing behind them is collected", async () => {
  await withTempDir(async (dir) => {
    await mkdir(join(dir, "outside"))
    await writeFile(join(dir, "outside", "x"), "x")
    await mkdir(join(dir, "root"))
    await symlink(join(dir, "outside"), join(dir, "root", "manifests"))
    const keys: string[] = []
    for await (const { key } of openStore(join(dir, "root")).list("")) keys.push(key)
    expect(keys).toEqual([])
  })
})

it("an object of another size than the manifest says is not downloaded", async () => {
  await withTempDir(async (dir) => {
    const { url, store: options } = s3Root("security-sizes")
    for (const store of [openStore(join(dir, "root")), openStore(url, options)]) {
      await store.put("key", Buffer.alloc(100_000))
      for (const expectedBytes of [99_999, 100_001]) {
        await expect(store.getFile("key", join(dir, "file"), { expectedBytes })).rejects.toMatchObject({
          tag: "Corrupt",
          message: expect.stringMatching(`key has 100000 bytes, expected ${expectedBytes}`),
        })
      }
      expect(await readdir(dir)).not.toContain("file")
      store.close()
    }
  })
})

it("files of the cache are written anew: theirs is no permission of the source, and nobody else reads them", async () => {
  await withTempDir(async (dir) => {
    const [root, cache] = [join(dir, "root"), join(dir, "cache")]
    await build(root)
    const names = await readdir(root, { recursive: true, withFileTypes: true })
    for (const entry of names) if (entry.isFile()) await chmod(join(entry.parentPath, entry.name), 0o6777)
    expect(await search(root, cache)).toBe("id-0")
    const cached = await readdir(cache, { recursive: true, withFileTypes: true })
    const modes = cached
      .filter(({ name }) => name === "shard.db" || /^[0-9a-f]{40}$/.test(name))
      .map(async ({ parentPath, name }) => (await lstat(join(parentPath, name))).mode & 0o7777)
    expect((await Promise.all(modes)).sort()).toEqual([0o600, 0o700])
    expect((await lstat(cache)).mode & 0o7777).toBe(0o700)
  })
})

/** A directory with a file that a sweep would take for one that a dead process left behind. */
async function abandoned(dir: string): Promise<string> {
  await mkdir(dir)
  await writeFile(join(dir, "precious"), "x")
  await utimes(join(dir, "precious"), 0, 0)
  return dir
}

it("the cache sweeps nothing behind a link at .partial, and counts nothing behind one in a shard", async () => {
  await withTempDir(async (dir) => {
    const outside = await abandoned(join(dir, "outside"))
    const [root, cache] = [join(dir, "root"), join(dir, "cache")]
    await build(root)
    await mkdir(cache)
    await symlink(outside, join(cache, ".partial"))
    expect(await search(root, cache)).toBe("id-0")
    expect(await readdir(outside)).toEqual(["precious"])
    expect((await lstat(join(cache, ".partial"))).isDirectory()).toBe(true)

    const counted = join(dir, "counted")
    await mkdir(join(counted, "a".repeat(40)), { recursive: true })
    await writeFile(join(outside, "large"), Buffer.alloc(5000))
    await symlink(outside, join(counted, "a".repeat(40), "link"))
    const disk = createDiskCache(counted, 1000)
    const content = { name: "b".repeat(40), files: [{ name: "f", size: 900 }] }
    await (await disk.add(content, (to) => writeFile(join(to, "f"), Buffer.alloc(900)))).release()
    await disk.close()
    expect(await readdir(counted)).toContain("a".repeat(40))
  })
})

it.each([".vecsnap", ".vecsnap/tmp", ".vecsnap/lock"])(
  "a store in a directory writes and removes nothing behind a link at %s",
  async (place) => {
    await withTempDir(async (dir) => {
      const outside = await abandoned(join(dir, "outside"))
      await mkdir(join(outside, "free"))
      await writeFile(join(outside, "free", "precious"), "x")
      const root = join(dir, "root")
      await openStore(root).put("a", Buffer.from("1"))
      await rm(join(root, place), { recursive: true, force: true })
      await symlink(outside, join(root, place))
      const refused = expect.objectContaining({
        tag: "InvalidInput",
        message: expect.stringContaining(place),
      })
      await expect(openStore(root).put("a", Buffer.from("2"))).rejects.toEqual(refused)
      expect(await openStore(root).delete(["a"])).toEqual([
        { key: "a", reason: expect.stringContaining(place) },
      ])
      expect((await readdir(outside, { recursive: true })).sort()).toEqual([
        "free",
        "free/precious",
        "precious",
      ])
    })
  },
)

it("a link in place of the token of a store's lock is dropped, and what is behind it stays", async () => {
  await withTempDir(async (dir) => {
    const outside = await abandoned(join(dir, "outside"))
    const root = join(dir, "root")
    const store = openStore(root)
    await store.put("a", Buffer.from("1"))
    await store.put("a", Buffer.from("2"))
    await rm(join(root, ".vecsnap", "lock", "free"), { recursive: true })
    await symlink(outside, join(root, ".vecsnap", "lock", "free"))
    await store.put("a", Buffer.from("3"))
    expect(await readdir(outside)).toEqual(["precious"])
    expect(String((await store.get("a"))?.body && Buffer.from((await store.get("a"))!.body))).toBe("3")
  })
})
