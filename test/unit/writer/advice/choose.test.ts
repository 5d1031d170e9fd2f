import { afterEach, describe, expect, it, vi } from "vitest"
import { withPackage } from "../../../../src/packages.js"
import { type BackendName, backendByName } from "../../../../src/shards/registry.js"
import { recordsSource } from "../../../../src/sources/records.js"
import { chooseSettings } from "../../../../src/writer/advice/choose.js"
import { readInputFacts } from "../../../../src/writer/advice/input-facts.js"
import { planSnapshot } from "../../../../src/writer/advice/plan.js"

afterEach(() => {
  vi.restoreAllMocks()
})

/** As if `name` were not there, of which the backend makes what it makes of every package. */
const withoutPackage = (backend: BackendName, name: string): void => {
  const loading = () =>
    withPackage(name, `the ${backend} backend`, () => Promise.reject(new Error("no such module")))
  vi.spyOn(backendByName(backend), "assertInstalled").mockImplementation(loading)
}

/** Rows as many as `rows`, by what the source says. */
const sourceOf = (dim: number, rows: number) => ({
  ...recordsSource(
    Array.from({ length: 10 }, (_, id) => ({
      id,
      vector: Array.from({ length: dim }, (_, i) => id + i + 1),
    })),
  ),
  countRows: async () => rows,
})

describe("where the backend of the plan is not installed", () => {
  it("another one is taken, with the shards that the plan has for it", async () => {
    withoutPackage("sqlite-vec", "better-sqlite3")
    const source = sourceOf(64, 3_000_000)
    const facts = await readInputFacts(source)
    const options = { cores: 4, metric: "l2" } as const
    expect(planSnapshot(facts, options).backend).toBe("sqlite-vec")

    const chosen = await chooseSettings(source, { parallelism: 4, metric: "l2" })
    expect(chosen.backend).toBe("lancedb")
    expect(chosen.sharding).toEqual({
      strategy: "cluster",
      shards: planSnapshot(facts, { ...options, backend: "lancedb" }).shards,
    })
  })

  it("the one that was asked for is not replaced: the build will say what it lacks", async () => {
    withoutPackage("sqlite-vec", "better-sqlite3")
    expect((await chooseSettings(sourceOf(2, 10), { backend: "sqlite-vec" })).backend).toBe("sqlite-vec")
  })

  it("and no other is, the error names the package of the one that is preferred", async () => {
    withoutPackage("sqlite-vec", "better-sqlite3")
    withoutPackage("lancedb", "@lancedb/lancedb")
    await expect(chooseSettings(sourceOf(2, 10))).rejects.toMatchObject({
      tag: "Unsupported",
      details: { package: "better-sqlite3" },
    })
  })
})

it("vectors that come as bytes are read by the dimension that is known", async () => {
  const records = [{ id: 1, vector: Buffer.from(Float32Array.of(1, 2, 3).buffer) }]
  await expect(chooseSettings(recordsSource(records), { backend: "lancedb" })).rejects.toThrow(
    "3 float32 or 12 int8",
  )
  expect(await chooseSettings(recordsSource(records), { backend: "lancedb", dim: 3 })).toMatchObject({
    sharding: { shards: 1 },
  })
})
