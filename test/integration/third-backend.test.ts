/** A backend that is one file and one line is built, published, opened, searched and verified like those of vecsnap. */
import { join } from "node:path"
import { beforeAll, describe, expect, it } from "vitest"
import {
  BACKEND_NAMES,
  type BackendName,
  buildSnapshot,
  openSnapshot,
  openStore,
  planSnapshot,
  readLive,
  verifyRoot,
} from "../../src/index.js"
import { registerBackend } from "../../src/shards/registry.js"
import { distance } from "../../src/vectors/distance.js"
import { noiseRows } from "../contract/shard-rows.js"
import { withTempDir } from "../support/stores.js"

const THIRD = "memory-array" as BackendName
const RECORDS = noiseRows(300, 8).map(({ id, vector }, n) => ({
  id: String(id),
  vector: Float32Array.from(vector),
  payload: { n },
}))
const SHARDING = { strategy: "cluster", shards: 4 } as const

beforeAll(async () => {
  await registerBackend(new URL("../support/memory-array.js", import.meta.url))
})

describe("a third backend", () => {
  it("is known by its name, once, and is not the default", async () => {
    await registerBackend(new URL("../support/memory-array.js", import.meta.url))
    expect(BACKEND_NAMES).toEqual(["sqlite-vec", "lancedb", THIRD])
  })

  it("builds a snapshot that is published, searched and sound", () =>
    withTempDir(async (dir) => {
      const root = join(dir, "root")
      await buildSnapshot(RECORDS, { to: root, backend: THIRD, metric: "l2", sharding: SHARDING })
      const { manifest } = (await readLive(openStore(root)))!
      expect(manifest.backend).toBe(THIRD)
      expect(manifest.shards.map(({ index }) => index.kind)).toEqual(manifest.shards.map(() => "array"))

      await using reader = await openSnapshot(root, { cacheDir: join(dir, "cache") })
      const query = Float32Array.from(RECORDS[7]!.vector, (x) => x + 0.01)
      const truth = RECORDS.map(({ id, vector }) => ({ id, distance: distance("l2", query, vector) }))
        .sort((a, b) => a.distance - b.distance)
        .slice(0, 10)
      const { hits, complete } = await reader.search(query, { k: 10, probes: "all" })
      expect(hits.map(({ id, distance }) => ({ id, distance }))).toEqual(truth)
      expect(complete).toBe(true)
      expect((await reader.get(["r0042"]))[0]).toMatchObject({ id: "r0042", payload: { n: 42 } })

      expect(await verifyRoot(openStore(root), { deep: true })).toMatchObject({ faults: [] })
    }))

  it("has options of its index, which are part of a shard's fingerprint where they are given", () =>
    withTempDir(async (dir) => {
      const shardsOf = async (name: string, index?: Readonly<Record<string, number>>) => {
        const to = join(dir, name)
        const options = { to, backend: THIRD, metric: "l2", sharding: SHARDING } as const
        await buildSnapshot(RECORDS, index === undefined ? options : { ...options, index })
        return (await readLive(openStore(to)))!.manifest.shards
      }
      const [plain, again, set] = [
        await shardsOf("plain"),
        await shardsOf("again"),
        await shardsOf("set", { readRows: 7 }),
      ]
      expect(again.map(({ fingerprint }) => fingerprint)).toEqual(plain.map(({ fingerprint }) => fingerprint))
      for (const [i, { fingerprint, index }] of set.entries()) {
        expect(fingerprint).not.toBe(plain[i]!.fingerprint)
        expect([plain[i]!.index.readRows, index.readRows]).toEqual([500, 7])
      }
      await expect(shardsOf("wrong", { readRows: 0 })).rejects.toMatchObject({
        tag: "InvalidInput",
        message: "option index.readRows is 0, expected a whole number from 1 to 1048576",
      })
      await expect(shardsOf("unknown", { rows: 1 })).rejects.toMatchObject({
        tag: "InvalidInput",
        message: "the memory-array backend has no option index.rows; it has readRows",
      })
    }))

  it("is planned for by what it says of itself", () => {
    const facts = { rows: 1000, dim: 8, otherBytesPerRow: 20 } as Parameters<typeof planSnapshot>[0]
    expect(planSnapshot(facts, { cores: 2 }).backend).toBe("sqlite-vec")
    expect(planSnapshot(facts, { cores: 2, backend: THIRD })).toMatchObject({
      backend: THIRD,
      reasons: { backend: "memory-array, as asked for" },
    })
  })
})
