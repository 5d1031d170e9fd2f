import { mkdtemp, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { buildSnapshot, openSnapshot, recordsSource } from "../../src/index.js"

let to = ""
beforeAll(async () => {
  to = await mkdtemp(join(tmpdir(), "vecsnap-packed-"))
})
afterAll(() => rm(to, { recursive: true, force: true }))

const VECTORS = [
  [1, 0, 0],
  [0, 1, 0],
]
const blob = (vector: readonly number[]) => Buffer.from(Float32Array.from(vector).buffer)

describe("vectors as bytes, as SQLite, Redis and Postgres hand them out", () => {
  it("are read by the dimension of the snapshot that is replaced, as queries are", async () => {
    const records = VECTORS.map((vector, id) => ({ id, vector: blob(vector) }))
    const options = { to, sharding: { strategy: "cluster", shards: 1 }, certificate: false } as const
    await expect(buildSnapshot(records, options)).rejects.toThrow(
      'column "vector" is 12 bytes: 3 float32 or 12 int8; set the vector encoding to float32, int8 or uint8',
    )
    await buildSnapshot(recordsSource(records, { vectorEncoding: "float32" }), options)
    expect(await buildSnapshot(records, options)).toMatchObject({ rows: 2 })

    const reader = await openSnapshot(to)
    try {
      expect(reader.snapshot.dim).toBe(3)
      const { hits } = await reader.search(blob([0, 1, 0]), { k: 1 })
      expect(hits.map(({ id }) => id)).toEqual([1])
      await expect(reader.search(new Uint8Array(3), { k: 1 })).rejects.toMatchObject({
        tag: "InvalidInput",
        message: expect.stringContaining("the query vector is 3 bytes: 3 int8, expected 3 values"),
      })
    } finally {
      await reader.close()
    }
  })
})
