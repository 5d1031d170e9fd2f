import { mkdtemp, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { run } from "../../cli/run.js"
import { buildSnapshot, openSnapshot, recordsSource } from "../../src/index.js"
import { captureIo } from "../unit/cli/capture.js"
import { runSql } from "../unit/sources/helpers.js"

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

describe("files of vectors as bytes", () => {
  const vecsnap = async (...argv: string[]) => {
    const io = captureIo()
    const code = await run(argv, io)
    return { code, out: io.out(), err: io.err() }
  }

  it("are read by the same option as rows, as queries of a build and of an evaluation", async () => {
    const [rows, queries, root] = ["rows.parquet", "queries.parquet", "signed"].map((name) => join(to, name))
    await runSql(`COPY (SELECT range AS id, unhex(format('{:02x}{:02x}', range + 1, 64 - range)) AS vector FROM range(60))
      TO '${rows}'`)
    await runSql(`COPY (FROM '${rows}' LIMIT 25) TO '${queries}'`)
    const bytes = ["--vector-encoding", "uint8"]
    const build = ["build", rows!, "--to", root!, "--strategy", "cluster", "--shards", "2", "--quiet"]
    expect((await vecsnap(...build, "--queries", queries!)).err).toContain(
      "2 bytes: 2 int8; set the vector encoding",
    )
    expect(await vecsnap(...build, "--queries", queries!, ...bytes)).toMatchObject({ code: 0 })

    const evaluate = ["eval", root!, "--queries", queries!, "--json"]
    expect((await vecsnap(...evaluate)).err).toContain("set the vector encoding to float32, int8 or uint8")
    const { code, out } = await vecsnap(...evaluate, ...bytes)
    expect(code).toBe(0)
    expect(JSON.parse(out).queries).toMatchObject({ kind: "given", count: 25 })
  })

  it("are read by the snapshot that is replaced, where shards are chosen by a look at them too", async () => {
    const [rows, root] = [join(to, "floats.parquet"), join(to, "floats")]
    await runSql(
      `COPY (SELECT range AS id, unhex('0000803f' || '00000040') AS vector FROM range(5)) TO '${rows}'`,
    )
    const build = ["build", rows, "--to", root, "--json"]
    expect((await vecsnap(...build)).err).toContain("8 bytes: 2 float32 or 8 int8; set the vector encoding")
    expect((await vecsnap(...build, "--vector-encoding", "float32")).code).toBe(0)
    const { code, out } = await vecsnap(...build)
    expect(code).toBe(0)
    expect(JSON.parse(out)).toMatchObject({ rows: 5, dim: 2 })
  })
})
