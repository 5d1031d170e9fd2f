/** Shards of a root that is a local directory are read where they lie. */
import { existsSync } from "node:fs"
import { readdir, readFile, rename, rm, writeFile } from "node:fs/promises"
import { join } from "node:path"
import { describe, expect, it } from "vitest"
import { BACKEND_NAMES, buildSnapshot, openSnapshot, openStore } from "../../src/index.js"
import { testKey } from "../support/keys.js"
import { makeRecords } from "../support/records.js"
import { ALL } from "../support/scope.js"
import { withTempDir } from "../support/stores.js"

const RECORDS = makeRecords(60, { dim: 4, shards: 2 }).map(({ id, vector, shard }) => ({
  id,
  vector,
  shard: shard!,
}))
const QUERY = RECORDS[0]!.vector as Float32Array

async function filesBelow(dir: string): Promise<string[]> {
  const entries = await readdir(dir, { recursive: true, withFileTypes: true })
  return entries.filter((entry) => entry.isFile()).map(({ parentPath, name }) => join(parentPath, name))
}

describe.each(ALL ? BACKEND_NAMES : BACKEND_NAMES.slice(0, 1))("%s", (backend) => {
  const build = (to: string) =>
    buildSnapshot(RECORDS, { to, backend, sharding: { strategy: "explicit", shards: 2 } })

  it("leaves the cache alone, and reads no object besides pointer, manifest and what routes", async () => {
    await withTempDir(async (dir) => {
      const [root, cacheDir] = [join(dir, "root"), join(dir, "cache")]
      await build(root)
      const before = await filesBelow(root)
      await using reader = await openSnapshot(root, { cacheDir })
      expect((await reader.search(QUERY, { shards: "all", k: 1 })).hits[0]?.id).toBe("id-0")
      expect((await reader.get(["id-7"]))[0]?.id).toBe("id-7")
      expect(await reader.warm()).toEqual({ shards: 2, downloads: 0, bytes: 0 })
      expect(reader.stats()).toMatchObject({ shardDownloads: 0, requests: { getFile: 0, list: 0 } })
      expect(existsSync(cacheDir)).toBe(false)
      expect(await filesBelow(root)).toEqual(before)
    })
  })

  it("goes through the cache with trusted keys: what was compared cannot be changed then", async () => {
    await withTempDir(async (dir) => {
      const [root, cacheDir] = [join(dir, "root"), join(dir, "cache")]
      const key = testKey()
      const sharding = { strategy: "explicit", shards: 2 } as const
      await buildSnapshot(RECORDS, { to: root, backend, sharding, signKey: key.sign })
      await using reader = await openSnapshot(root, { cacheDir, trustedKeys: [key.trust] })
      await reader.search(QUERY, { shards: "all" })
      expect(reader.stats().shardDownloads).toBe(2)
    })
  })

  it.each([{ fetch: "whole" }, { trust: "untrusted" }] as const)(
    "goes through the cache with %j",
    async (how) => {
      await withTempDir(async (dir) => {
        const [root, cacheDir] = [join(dir, "root"), join(dir, "cache")]
        await build(root)
        await using reader = await openSnapshot(root, { cacheDir, ...how })
        await reader.search(QUERY, { shards: "all" })
        expect(reader.stats().shardDownloads).toBe(2)
        await rm(join(root, "shards"), { recursive: true })
        expect((await reader.search(QUERY, { shards: "all", k: 1 })).hits[0]?.id).toBe("id-0")
      })
    },
  )

  it("compares files with their checksums once, and again when they have changed", async () => {
    await withTempDir(async (dir) => {
      const [root, cacheDir] = [join(dir, "root"), join(dir, "cache")]
      await build(root)
      // Readers that open a shard anew for every search.
      await using reader = await openSnapshot(root, { cacheDir, maxOpenShards: 1 })
      const ask = (shard: number) => reader.search(QUERY, { shards: [shard] })
      await ask(0)
      await ask(1)
      const [file] = (await filesBelow(join(root, "shards"))).filter((path) => path.includes("/00000/"))
      const content = await readFile(file!)
      const flipped = Buffer.from(content)
      flipped[flipped.length >> 1]! ^= 1
      await writeFile(file!, flipped)
      await expect(ask(0)).rejects.toMatchObject({
        tag: "Corrupt",
        message: expect.stringMatching(/shards\/.*\/00000\/.* is damaged: its SHA-256 is/),
      })
      // Put right, it serves again.
      await writeFile(file!, content)
      expect((await ask(0)).complete).toBe(true)
      await ask(1)
      await rename(file!, `${file}-aside`)
      await expect(ask(0)).rejects.toMatchObject({
        tag: "NotFound",
        message: expect.stringContaining("which the manifest lists for shard 0"),
      })
    })
  })
})

it("only stores of files tell paths", () => {
  expect(openStore("./somewhere").filePath?.("a/b")).toMatch(/\/somewhere\/a\/b$/)
  expect(openStore("memory://somewhere").filePath).toBeUndefined()
  expect(() => openStore("./somewhere").filePath?.("../b")).toThrow(/key/)
})
