import { join } from "node:path"
import { describe, expect, it } from "vitest"
import { buildSnapshot, isVecsnapError, openSnapshot, openStore } from "../../src/index.js"
import { parseKey } from "../../src/manifest/keys.js"
import { FIELDS, makeRecords } from "../support/records.js"
import { ALL } from "../support/scope.js"
import { s3Root, withTempDir } from "../support/stores.js"

const RECORDS = makeRecords(200, { dim: 8 })

/** Opens the snapshot with an empty cache and reads every shard and the whole id locator. */
async function readAll(url: string, options: Parameters<typeof openSnapshot>[1]): Promise<void> {
  await using reader = await openSnapshot(url, options)
  await reader.search(RECORDS[0]!.vector as Float32Array, { shards: "all" })
  await reader.get(RECORDS.map(({ id }) => id))
}

async function errorOf(work: Promise<unknown>): Promise<unknown> {
  return work.then(
    () => undefined,
    (error) => error,
  )
}

describe.each(["sqlite-vec", "lancedb"] as const)("a damaged %s snapshot", (backend) => {
  const { url, store: storeOptions } = s3Root(`corruption-${backend}`)
  const build = () =>
    buildSnapshot(RECORDS, {
      to: url,
      store: storeOptions,
      backend,
      fields: FIELDS,
      sharding: { strategy: "cluster", shards: 3 },
    })

  it("is noticed whichever byte of whichever object changed, and the error names the object", async () => {
    await build()
    const store = openStore(url, storeOptions)
    const keys: string[] = []
    for await (const { key } of store.list("")) if (parseKey(key)?.kind !== "run") keys.push(key)
    expect(new Set(keys.map((key) => parseKey(key)?.kind))).toEqual(
      new Set(["pointer", "manifest", "routing", "shard"]),
    )
    for (const key of keys) {
      const { body } = (await store.get(key))!
      // First, last and one in the middle: header, tail and payload of every format.
      for (const position of ALL ? [0, body.length >> 1, body.length - 1] : [body.length >> 1]) {
        const damaged = Uint8Array.from(body)
        damaged[position]! ^= 0x20
        await store.put(key, damaged)
        const error = await withTempDir((cacheDir) =>
          errorOf(readAll(url, { store: storeOptions, cacheDir })),
        )
        expect(isVecsnapError(error, "Corrupt"), `${key} byte ${position}: ${error}`).toBe(true)
        expect((error as Error).message).toContain(key)
      }
      await store.put(key, body.subarray(0, body.length - 1))
      const cut = await withTempDir((cacheDir) => errorOf(readAll(url, { store: storeOptions, cacheDir })))
      expect(isVecsnapError(cut, "Corrupt"), `${key} cut: ${cut}`).toBe(true)
      expect((cut as Error).message).toContain(key)
      await store.put(key, body)
    }
    await withTempDir((cacheDir) => readAll(url, { store: storeOptions, cacheDir }))
    store.close()
  })

  it("with a missing object is NotFound, naming the object", async () => {
    await build()
    const store = openStore(url, storeOptions)
    await withTempDir(async (dir) => {
      const { shards } = await (async () => {
        await using reader = await openSnapshot(url, { store: storeOptions, cacheDir: join(dir, "a") })
        return reader.search(RECORDS[0]!.vector as Float32Array, { shards: "all" })
      })()
      expect(shards.answered.length).toBe(3)
      for await (const { key } of store.list("shards/"))
        if (parseKey(key)?.kind === "shard") await store.delete([key])
      const error = await errorOf(readAll(url, { store: storeOptions, cacheDir: join(dir, "b") }))
      expect(isVecsnapError(error, "NotFound"), String(error)).toBe(true)
      expect((error as Error).message).toMatch(/shards\/[0-9a-z]{12}\/0000\d\/0\//)
    })
    store.close()
  })
})
