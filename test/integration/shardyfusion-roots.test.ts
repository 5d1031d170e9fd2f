/** Roots of shardyfusion that are damaged, odd, imported, or asked for what cannot be. */
import { mkdtemp, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import Sqlite from "better-sqlite3"
import { afterAll, beforeAll, expect, test, vi } from "vitest"
import {
  buildSnapshot,
  collect,
  importSnapshot,
  type OpenOptions,
  openSnapshot,
  type Reader,
  readHistory,
  verifyRoot,
} from "../../src/index.js"
import { openMemoryStore } from "../../src/storage/memory.js"
import type { ObjectStore } from "../../src/storage/store.js"
import { fixtureId, loadFixture, storedFixture } from "../support/shardyfusion.js"

let dir: string
let caches = 0
let stores = 0

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), "vecsnap-shardyfusion-"))
})

afterAll(() => rm(dir, { recursive: true, force: true }))

const open = (store: ObjectStore, options: OpenOptions = {}): Promise<Reader> =>
  openSnapshot(store, { cacheDir: join(dir, `cache-${caches++}`), workers: 1, ...options })
const emptyStore = (): ObjectStore => openMemoryStore(`shardyfusion-roots-${process.pid}-${stores++}`)
const keysOf = async (store: ObjectStore): Promise<string[]> => {
  const keys: string[] = []
  for await (const { key } of store.list("")) keys.push(key)
  return keys
}
const liveManifest = async (store: ObjectStore): Promise<string> => {
  const { manifest_ref } = JSON.parse(Buffer.from((await store.get("_CURRENT"))!.body).toString()) as {
    manifest_ref: string
  }
  return manifest_ref.slice(manifest_ref.indexOf("manifests/"))
}
/** Changes the manifest of the live snapshot. */
async function change(store: ObjectStore, sql: string): Promise<void> {
  const key = await liveManifest(store)
  const db = new Sqlite(Buffer.from((await store.get(key))!.body))
  db.exec(sql)
  await store.put(key, db.serialize())
  db.close()
}

test.each([
  ["missing", (store: ObjectStore, key: string) => store.delete([key])],
  [
    "damaged",
    (store: ObjectStore, key: string) => store.put(key, Buffer.from("SQLite format 3\0 but no more")),
  ],
])("a manifest that is %s: the run before answers, and health says so", async (_, spoil) => {
  const store = await storedFixture("sqlite-explicit-l2-history")
  const { runs, current_run } = loadFixture("sqlite-explicit-l2-history").queries
  const older = runs.find(({ run_id }) => run_id !== current_run)!.run_id
  const key = await liveManifest(store)
  const sound = (await store.get(key))!.body
  await spoil(store, key)
  await using reader = await open(store)
  expect(reader.snapshot.run).toBe(older)
  const health = await reader.health()
  expect(health).toMatchObject({ status: "degraded", format: "shardyfusion" })
  expect(health.reasons[0]).toMatch(`snapshot ${current_run}, which _CURRENT names, cannot be opened`)
  // Nothing else to open, until it is there again.
  expect(await reader.refresh()).toMatchObject({ changed: false })
  await store.put(key, sound)
  expect(await reader.refresh()).toMatchObject({ changed: true, to: current_run })
  expect((await reader.health()).status).toBe("healthy")
})

test("a run before whose files are gone does not answer", async () => {
  const store = await storedFixture("sqlite-explicit-l2-history")
  const { runs, current_run } = loadFixture("sqlite-explicit-l2-history").queries
  const older = runs.find(({ run_id }) => run_id !== current_run)!.run_id
  await store.delete(
    (await keysOf(store)).filter((key) => key.startsWith(`shards/run_id=${older}/db=00000/`)),
  )
  await store.delete([await liveManifest(store)])
  await expect(open(store)).rejects.toMatchObject({ tag: "NotFound" })
})

test.each(["sqlite-lsh-cosine", "lance-cluster-cosine-pq"] as const)(
  "%s: a listed shard whose files are gone is an error of those who ask it, and a fault",
  async (name) => {
    const store = await storedFixture(name)
    await store.delete((await keysOf(store)).filter((key) => key.includes("/db=00002/")))
    await using reader = await open(store)
    const vector = loadFixture(name).queries.queries[0]!.vector
    await expect(reader.search(vector, { shards: [2] })).rejects.toMatchObject({ tag: "NotFound" })
    expect((await reader.search(vector, { shards: [0] })).hits.length).toBe(10)
    const report = await verifyRoot(store)
    expect(report).toMatchObject({ format: "shardyfusion", intact: false })
    expect(report.faults.map(({ key }) => key)).toEqual([expect.stringContaining("/db=00002/attempt=00/")])
  },
)

test("a manifest that says another metric than the shards routes by that, and searches by theirs", async () => {
  const store = await storedFixture("sqlite-lsh-cosine")
  await change(store, `UPDATE build_meta SET custom = replace(custom, '"cosine"', '"l2"')`)
  await using reader = await open(store)
  expect(reader.snapshot.metric).toBe("cosine")
  expect(reader.snapshot.notes).toEqual([expect.stringContaining("the manifest says 16 and l2")])
})

test("lookups ask every shard, which is said once; records, searches and pages know their types", async () => {
  const store = await storedFixture("sqlite-cluster-l2-f8")
  const warn = vi.fn()
  await using reader = await open(store, { logger: { debug() {}, info() {}, warn, error() {} } })
  const [string, number, big] = await reader.get(["104", 104, 104n])
  expect(string!.id).toBe("104")
  expect(number!.id).toBe(104)
  expect(big).toEqual(number)
  expect(string!.vector).not.toEqual(number!.vector)
  await reader.get(["104"])
  expect(warn.mock.calls.filter(([, text]) => String(text).includes("no id locator"))).toHaveLength(1)
  const stats = reader.stats()
  expect(stats.shardOpens).toBe(3)
})

test("what writes to a root or protects it refuses one of another format", async () => {
  const store = await storedFixture("sqlite-lsh-cosine")
  const before = await keysOf(store)
  const importIt = { tag: "Unsupported", message: expect.stringContaining("import it first") }
  const sharding = { strategy: "lsh", shards: 1 } as const
  await expect(buildSnapshot([{ id: 1, vector: [1, 2] }], { to: store, sharding })).rejects.toMatchObject(
    importIt,
  )
  await expect(collect(store)).rejects.toMatchObject(importIt)
  expect(await keysOf(store)).toEqual(before)
  await expect(open(store, { lease: true })).rejects.toMatchObject({
    tag: "Unsupported",
    message: expect.stringContaining("option lease"),
  })
  await expect(open(store, { snapshot: "a/b" })).rejects.toMatchObject({ tag: "InvalidInput" })
  await expect(open(store, { snapshot: "none" })).rejects.toMatchObject({ tag: "NotFound" })
})

test("older runs can be opened, are in the history, and are verified with all", async () => {
  const store = await storedFixture("lance-explicit-dot-history")
  const { runs, current_run } = loadFixture("lance-explicit-dot-history").queries
  const older = runs.find(({ run_id }) => run_id !== current_run)!.run_id
  await using reader = await open(store, { snapshot: older })
  expect(reader.snapshot).toMatchObject({ run: older, rows: 120 })
  const history = await readHistory(store)
  expect(history.format).toBe("shardyfusion")
  expect(history.publications.map(({ run, live, manifest }) => [run, live, manifest?.rows])).toEqual([
    [current_run, true, 330],
    [older, false, 120],
  ])
  const report = await verifyRoot(store, { snapshot: "all", deep: true })
  expect(report).toMatchObject({ intact: true, checked: { rows: 450, shards: 7 } })
})

test("keys that nobody has signed with open nothing", async () => {
  const store = await storedFixture("sqlite-lsh-cosine")
  const key = "vecsnap-public-ed25519:11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="
  await expect(open(store, { trustedKeys: [key] })).rejects.toThrow()
})

test.each([
  ["lance-cluster-cosine-noindex", {}],
  ["lance-lsh-l2-sq", { changedPayloads: 11 }],
  ["lance-explicit-dot-history", {}],
  ["lance-cel-hash-cosine-sq", {}],
  ["sqlite-lsh-cosine", {}],
  ["sqlite-explicit-l2-history", {}],
] as const)(
  "%s is imported: the same rows in the same shards, found by the same routing",
  async (name, expected) => {
    const store = await storedFixture(name)
    const to = emptyStore()
    const { queries } = loadFixture(name)
    const report = await importSnapshot(store, { to })
    expect(report).toMatchObject({
      published: true,
      source: { format: "shardyfusion", run: queries.current_run },
      changedPayloads: 0,
      ...expected,
    })
    expect(await verifyRoot(to, { deep: true })).toMatchObject({ format: "vecsnap", intact: true })
    await using foreign = await open(store)
    await using own = await open(to)
    expect(own.snapshot).toMatchObject({ format: "vecsnap", rows: foreign.snapshot.rows, locator: true })
    for (const { vector, top_k: k, routing_context: context, shard_ids } of queries.queries) {
      const known = shard_ids?.filter((shard) => shard < queries.num_dbs)
      if (known?.length === 0) continue
      const options = { k, ...(context && { context }), ...(known && { shards: known }) }
      const [theirs, ours] = [await foreign.search(vector, options), await own.search(vector, options)]
      expect(ours.shards).toEqual(theirs.shards)
      expect(ours.hits.map(({ id, distance }) => [fixtureId(id), distance])).toEqual(
        theirs.hits.map(({ id, distance }) => [fixtureId(id), distance]),
      )
    }
  },
)

test("ids of both types are imported as strings if they differ as such, and fields come out of payloads", async () => {
  const mixed = await storedFixture("sqlite-cluster-l2-f8")
  await expect(importSnapshot(mixed, { to: emptyStore() })).rejects.toMatchObject({ tag: "InvalidInput" })
  await expect(importSnapshot(mixed, { to: emptyStore(), ids: "string" })).rejects.toThrow(
    'id "104" occurs twice',
  )
  const to = emptyStore()
  const cel = await storedFixture("sqlite-cel-categories-cosine")
  await importSnapshot(cel, { to, ids: "string", fields: { f: "float64" } })
  await using reader = await open(to)
  expect(reader.snapshot).toMatchObject({
    idType: "string",
    fields: [
      { name: "region", type: "string" },
      { name: "f", type: "float64" },
    ],
  })
  const [record] = await reader.get(["156"])
  expect(record!.fields).toEqual({ region: null, f: 52 / 7 })
  expect(Object.keys(record!.payload as object)).not.toContain("f")
})
