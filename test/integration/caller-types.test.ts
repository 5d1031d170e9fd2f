/** What TypeScript lets callers give: this file compiles under `strict` and `exactOptionalPropertyTypes`. */
import { randomUUID } from "node:crypto"
import { writeFile } from "node:fs/promises"
import { join } from "node:path"
import { describe, expect, expectTypeOf, it } from "vitest"
import {
  buildSnapshot,
  openSnapshot,
  openSource,
  recordsSource,
  type Source,
  stringifyJson,
  type VectorRecord,
} from "../../src/index.js"
import { runCli } from "../support/cli.js"
import { withTempDir } from "../support/stores.js"

// An interface has no index signature, which `{ [key: string]: Json }` asks for.
interface Author {
  readonly name: string
  readonly born?: number | undefined
}
interface Document {
  readonly title: string
  readonly authors: readonly Author[]
  readonly note?: string
}

const sharding = { strategy: "lsh", bits: 1, shards: 1 } as const
const document: Document = { title: "On types", authors: [{ name: "Ada", born: undefined }] }

describe("an interface", () => {
  it("is a payload, going in and coming out", async () => {
    const to = `memory://${randomUUID()}`
    const documents: readonly Document[] = [document]
    const records = documents.map((payload): VectorRecord => ({ id: payload.title, vector: [1, 2], payload }))
    await buildSnapshot(records, { to, sharding })
    await using reader = await openSnapshot<Document>(to)
    const [found] = await reader.get(["On types"])
    expectTypeOf(found!.payload).toEqualTypeOf<Document | null>()
    expect(found!.payload).toEqual({ title: "On types", authors: [{ name: "Ada" }] })
  })

  it("that JSON cannot hold is refused by its place", async () => {
    const payload = { ...document, at: new Date(0) }
    const built = buildSnapshot([{ id: 1, vector: [1], payload }], {
      to: `memory://${randomUUID()}`,
      sharding,
    })
    await expect(built).rejects.toMatchObject({
      tag: "InvalidInput",
      message: expect.stringContaining('"payload.at" is a Date, which JSON cannot hold'),
    })
  })
})

it("an option that is undefined is one that is not given", async () => {
  const to = `memory://${randomUUID()}`
  const none = undefined
  const store = {
    s3: none,
    retry: { attempts: none, totalMs: none },
    concurrency: none,
    rate: none,
    counts: none,
  }
  const record: VectorRecord = { id: 1, vector: [1, 2], fields: { n: none }, payload: none, shard: none }
  const gates = { rows: { min: none, maxDropPercent: none }, overlap: none, recall: none }
  const report = await buildSnapshot([record], {
    to,
    sharding: { ...sharding, probes: none, seed: none, probeOrder: none },
    ...{ metric: none, backend: none, index: none, fields: { n: "int64" }, routingFrom: none, model: none },
    ...{
      custom: none,
      certificate: { rows: none },
      queries: none,
      tempDir: none,
      signal: none,
      logger: none,
    },
    ...{
      publish: none,
      gates,
      allow: none,
      force: none,
      leaseSeconds: none,
      retention: none,
      onProgress: none,
    },
    store,
  })
  expect(report.published).toBe(true)
  const options = { cacheDir: none, memoryBytes: none, workers: none, lease: none, autoRefresh: none, store }
  await using reader = await openSnapshot(to, { ...options, signal: none, snapshot: none, logger: none })
  const { hits } = await reader.search([1, 2], { k: none, probes: none, targetRecall: none, timeoutMs: none })
  expect(hits.map(({ id, fields }) => ({ id, fields }))).toEqual([{ id: 1, fields: { n: null } }])
})

/** A payload of so many levels. */
const nested = (levels: number): unknown =>
  Array.from({ length: levels }).reduce((inner: unknown) => [inner], "leaf")

describe("a payload may have 200 levels", () => {
  const rows = (levels: number) => [{ id: 1, vector: [1, 2], payload: nested(levels) as object }]
  const build = (source: Source, to: string) => buildSnapshot(source, { to, sharding })

  it("from records and from files, and what is stored can be printed", () =>
    withTempDir(async (dir) => {
      const file = join(dir, "in.jsonl")
      await writeFile(file, stringifyJson(rows(199)[0]))
      // A column `payload` is a member of the payload.
      const sources = { records: recordsSource(rows(200)), file: await openSource(file) }
      for (const [name, source] of Object.entries(sources)) {
        await build(source, join(dir, name))
        const printed = await runCli(["get", join(dir, name), "1", "--json"])
        expect([printed.code, printed.stdout.includes('"leaf"')]).toEqual([0, true])
      }
    }))

  it("and no more, whichever way it comes", () =>
    withTempDir(async (dir) => {
      const file = join(dir, "in.jsonl")
      await writeFile(file, stringifyJson(rows(200)[0]))
      for (const source of [recordsSource(rows(201)), await openSource(file)]) {
        await expect(build(source, join(dir, "root"))).rejects.toMatchObject({
          tag: "InvalidInput",
          message: expect.stringContaining("is nested deeper than 200 levels"),
        })
      }
    }))
})
