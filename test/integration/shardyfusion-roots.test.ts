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
  openStore,
  type Reader,
  readHistory,
  verifyRoot,
} from "../../src/index.js"
import { openMemoryStore } from "../../src/storage/memory.js"
import type { ObjectStore } from "../../src/storage/store.js"
import { startS3Server } from "../servers/s3-server.js"
import { ALL } from "../support/scope.js"
import { type Fixture, fixtureId, loadFixture, storedFixture } from "../support/shardyfusion.js"

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

test("a root none of whose shards is there cannot be opened, since nothing tells its backend", async () => {
  const store = await storedFixture("sqlite-lsh-cosine")
  await store.delete((await keysOf(store)).filter((key) => key.startsWith("shards/")))
  await expect(open(store)).rejects.toMatchObject({
    tag: "NotFound",
    message: expect.stringMatching(/has no shard of .*: neither .*\/shard\.db nor .*\/vector_index\.lance/),
  })
  await change(store, `UPDATE build_meta SET custom = json_set(custom, '$.vector.backend', 'faiss')`)
  await expect(open(store)).rejects.toMatchObject({
    tag: "Unsupported",
    message: expect.stringContaining('custom.vector.backend is "faiss"'),
  })
})

test("a snapshot without rows answers nothing, and is no error", async () => {
  const store = await storedFixture("sqlite-lsh-cosine")
  await change(store, "DELETE FROM shards")
  await using reader = await open(store)
  const { vector } = loadFixture("sqlite-lsh-cosine").queries.queries[0]!
  expect(reader.snapshot.rows).toBe(0)
  expect((await reader.search(vector)).hits).toEqual([])
})

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

const SLASHES = [
  ["sqlite-lsh-cosine", "both slashes"],
  ["lance-cluster-cosine-noindex", "both slashes"],
  ["sqlite-lsh-cosine", "one of them"],
  ["lance-cluster-cosine-noindex", "one of them"],
] as const

test.each(ALL ? SLASHES : SLASHES.slice(0, 2))(
  "%s, written to a prefix with a slash at its end, is read from S3 with %s",
  async (name, kept) => {
    // Of its own: not every server that tests may run on takes such names.
    await using server = await startServer("bucket")
    const fixture = loadFixture(name)
    const { queries } = fixture
    for (const [key, body] of withSlashAtPrefix(fixture)) {
      const doubled = key.startsWith("shards/") && kept === "both slashes" ? `/${key}` : key
      const path = doubled.split("/").map(encodeURIComponent).join("/")
      const place = `${server.endpoint}/bucket/nightly/${path}`
      expect((await fetch(place, { method: "PUT", body: new Uint8Array(body) })).status).toBe(200)
    }
    const store = openStore("s3://bucket/nightly", { s3: { ...CREDENTIALS, endpoint: server.endpoint } })
    try {
      await using reader = await open(store)
      const { vector, top_k: k, exact } = queries.queries[0]!
      const { hits } = await reader.search(vector, { k, shards: queries.queries[0]!.probed_shards })
      expect(hits.map(({ id }) => fixtureId(id).slice(2))).toEqual(exact.ids.map((id) => id.slice(2)))
      expect(await verifyRoot(store, { deep: true })).toMatchObject({
        intact: true,
        checked: { shards: queries.num_dbs },
      })
      if (ALL) expect((await importSnapshot(store, { to: emptyStore() })).rows).toBe(reader.snapshot.rows)
    } finally {
      store.close()
    }
  },
)

const CREDENTIALS = { region: "us-east-1", credentials: { accessKeyId: "a", secretAccessKey: "b" } }

async function startServer(bucket: string): Promise<{ readonly endpoint: string } & AsyncDisposable> {
  const { endpoint, close } = await startS3Server({ buckets: [bucket] })
  return { endpoint, [Symbol.asyncDispose]: close }
}

/** The objects of a fixture with references as they are where `s3_prefix` ends with a slash. */
function withSlashAtPrefix({ objects, queries }: Fixture): ReadonlyMap<string, Buffer> {
  const altered = new Map(objects)
  for (const [key, body] of objects) {
    if (!key.startsWith("manifests/")) continue
    const db = new Sqlite(Buffer.from(body))
    db.exec(`
      UPDATE shards SET db_url = replace(db_url, '${queries.root}/shards/', '${queries.root}//shards/');
      UPDATE build_meta SET s3_prefix = s3_prefix || '/'`)
    altered.set(key, db.serialize())
    db.close()
  }
  return altered
}

test("shards named by a query are asked once each, and must exist; explicit roots need them", async () => {
  const store = await storedFixture("sqlite-explicit-l2-history")
  const { queries } = loadFixture("sqlite-explicit-l2-history")
  const { vector } = queries.queries[0]!
  await using reader = await open(store)
  await expect(reader.search(vector)).rejects.toMatchObject({ tag: "InvalidInput" })
  await expect(reader.search(vector, { shards: [0, queries.num_dbs] })).rejects.toThrow("does not exist")
  const once = await reader.search(vector, { shards: [0] })
  expect((await reader.search(vector, { shards: [0, 0] })).hits).toEqual(once.hits)
  // Shard 2 is empty.
  expect((await reader.search(vector, { shards: [2, 0] })).hits).toEqual(once.hits)
})

test.each(["sqlite-cluster-l2-f8", "lance-cluster-cosine-pq"] as const)(
  "%s: more probes than there are centroids ask all shards",
  async (name) => {
    const store = await storedFixture(name)
    const { queries } = loadFixture(name)
    await using reader = await open(store)
    const { vector } = queries.queries[0]!
    const all = await reader.search(vector, { probes: "all" })
    expect((await reader.search(vector, { probes: 1000 })).shards.asked).toHaveLength(all.shards.asked.length)
    await expect(reader.search(vector, { probes: 0 })).rejects.toMatchObject({ tag: "InvalidInput" })
    // The same where the manifest says so.
    await change(store, `UPDATE build_meta SET custom = json_set(custom, '$.vector.num_probes', 1000)`)
    await using eager = await open(store)
    expect((await eager.search(vector)).shards.asked).toHaveLength(all.shards.asked.length)
  },
)

test("a context has what the expression needs, of its types, and no NUL; what else it has is ignored", async () => {
  const store = await storedFixture("lance-cel-hash-cosine-sq")
  const { vector, routing_context: context } = loadFixture("lance-cel-hash-cosine-sq").queries.queries[0]!
  await using reader = await open(store)
  expect(reader.snapshot.context).toEqual([
    { name: "city", type: "string" },
    { name: "tier", type: "int64" },
  ])
  const { shards } = await reader.search(vector, { context: context! })
  const more = { ...context!, other: true, none: null }
  expect((await reader.search(vector, { context: more })).shards).toEqual(shards)
  for (const [values, message] of [
    [{ tier: 1 }, "city is missing"],
    [{ city: "Oslo" }, "tier is missing"],
    [{ city: "Oslo", tier: 1.5 }, "needs a 64-bit integer"],
    [{ city: "Oslo", tier: "1" }, "needs a 64-bit integer"],
    [{ city: "Os\0lo", tier: 1 }, "needs a string without NUL"],
  ] as const) {
    await expect(reader.search(vector, { context: values })).rejects.toMatchObject({
      tag: "InvalidInput",
      message: expect.stringContaining(message),
    })
  }
})

test("every type of column has values of its own, and those that do not fit are told", async () => {
  const store = await storedFixture("sqlite-cel-categories-cosine")
  const { vector } = loadFixture("sqlite-cel-categories-cosine").queries.queries[0]!
  const columns = { i: "int", u: "uint", d: "double", b: "bool", s: "string", y: "bytes" }
  await change(
    store,
    `UPDATE build_meta SET custom = json_set(custom,
      '$.vector.cel_columns', json('${JSON.stringify(columns)}'),
      '$.vector.cel_expr', '(i == 7 && u == 7u && d > 0.5 && b && s == "x" && y == b"xy") ? "hit" : "miss"',
      '$.vector.routing_values', json('["miss", "hit", "2", "3", "4"]'))`,
  )
  await using reader = await open(store)
  const fitting = { i: 7, u: 7n, d: 0.75, b: true, s: "x", y: Buffer.from("xy") }
  const shardOf = async (values: object) =>
    (await reader.search(vector, { context: { ...fitting, ...values } as typeof fitting })).shards.asked
  expect(await shardOf({})).toEqual([1])
  expect(await shardOf({ u: 2n ** 64n - 1n })).toEqual([0])
  for (const values of [
    { i: 2n ** 63n },
    { u: -1 },
    { d: "1" },
    { b: 1 },
    { s: 1 },
    { y: "xy" },
    { y: Buffer.from("x\0") },
  ])
    await expect(shardOf(values)).rejects.toMatchObject({ tag: "InvalidInput" })
})

test("what an expression fails with, or gives instead of a shard, is an error and no token", async () => {
  const store = await storedFixture("sqlite-cel-categories-cosine")
  const { vector } = loadFixture("sqlite-cel-categories-cosine").queries.queries[0]!
  const ask = async (expression: string, context: Record<string, number>) => {
    await change(
      store,
      `UPDATE build_meta SET custom = json_remove(json_set(custom, '$.vector.cel_columns', json('{"n": "int"}'),
        '$.vector.cel_expr', '${expression}'), '$.vector.routing_values')`,
    )
    await using reader = await open(store)
    return (await reader.search(vector, { context })).shards.asked
  }
  expect(await ask("n % 5", { n: 6 })).toEqual([1])
  expect(await ask("string(n)", { n: 4 })).toEqual([4])
  await expect(ask("10 / n", { n: 0 })).rejects.toThrow("fails: ")
  await expect(ask("n", { n: 5 })).rejects.toThrow("expected a shard number from 0 to 4")
  await expect(ask("n", { n: -1 })).rejects.toThrow("expected a shard number from 0 to 4")
  await expect(ask("double(n)", { n: 1 })).rejects.toMatchObject({ tag: "Corrupt" })
})

test("keys that nobody has signed with open nothing", async () => {
  const store = await storedFixture("sqlite-lsh-cosine")
  const key = "vecsnap-public-ed25519:11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="
  await expect(open(store, { trustedKeys: [key] })).rejects.toThrow()
})

const IMPORTED = [
  ["lance-lsh-l2-sq", { changedPayloads: 11 }],
  ["sqlite-explicit-l2-history", {}],
  ["lance-cluster-cosine-noindex", {}],
  ["lance-explicit-dot-history", {}],
  ["lance-cel-hash-cosine-sq", {}],
  ["sqlite-lsh-cosine", {}],
] as const

test.each(ALL ? IMPORTED : IMPORTED.slice(0, 2))(
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
