/**
 * What is written for shardyfusion is what its format says, byte for byte where that matters: looked at with
 * SQLite, LanceDB and plain JSON, not with our own reader, and by the checker of the fixtures where there is a
 * Python that has numpy.
 */
import { execFile, spawnSync } from "node:child_process"
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { promisify } from "node:util"
import Sqlite from "better-sqlite3"
import { afterAll, beforeAll, describe, expect, test } from "vitest"
import {
  type BackendName,
  buildExported,
  buildSnapshot,
  exportSnapshot,
  openSnapshot,
  openStore,
  type SearchOptions,
  type ShardingOptions,
  type VectorRecord,
} from "../../src/index.js"
import { createRandom } from "../../src/vectors/random.js"
import { fromRoot } from "../support/paths.js"

const PYTHON = process.env.VECSNAP_PYTHON ?? "python3"
const HAS_PYTHON = spawnSync(PYTHON, ["-c", "import numpy"]).status === 0
const PREFIX = "s3://bucket/a/prefix"
const DIM = 12
const FIELDS = { city: "string", tier: "int64", share: "float64", ok: "bool" } as const
const SHARDING: Readonly<Record<string, ShardingOptions>> = {
  cluster: { strategy: "cluster", shards: 4, layout: "plain", probes: 2 },
  lsh: { strategy: "lsh", shards: 4, bits: 6 },
  explicit: { strategy: "explicit", shards: 4 },
  cel: { strategy: "cel", shards: 4, expression: 'shard_hash(city + ":" + string(tier)) % 4u' },
}
const ROUTES: Readonly<Record<string, SearchOptions>> = {
  cluster: { probes: 2 },
  lsh: { probes: 3 },
  explicit: { shards: [3, 0] },
  cel: { context: { city: "Zürich", tier: 1 } },
}
const CASES = (["sqlite-vec", "lancedb"] as const).flatMap((backend) =>
  Object.keys(SHARDING).map((strategy) => ({ backend, strategy })),
)

let dir: string

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), "vecsnap-shardyfusion-"))
})

afterAll(() => rm(dir, { recursive: true, force: true }))

function records(integers: boolean): readonly VectorRecord[] {
  const { gaussian } = createRandom(3)
  return Array.from({ length: 240 }, (_, i) => ({
    id: integers ? BigInt(i) - 2n ** 60n : `é${i}`,
    vector: Array.from({ length: DIM }, gaussian),
    fields: { city: ["Zürich", "Oslo"][i % 2]!, tier: i % 3, share: i / 7, ok: i % 2 === 0 },
    payload: i % 5 === 0 ? null : { name: `n${i} "é"`, big: 2n ** 60n, list: [1.5, null] },
    // Shard 2 stays empty.
    shard: [0, 1, 3][i % 3]!,
  }))
}

/** A snapshot of ours, and the same one exported. */
async function exported({ backend, strategy }: { backend: BackendName; strategy: string }) {
  const own = join(dir, `${backend}-${strategy}`)
  const to = `${own}-exported`
  const metric = backend === "lancedb" ? "dot" : strategy === "lsh" ? "cosine" : "l2"
  await buildSnapshot(records(strategy === "cel"), {
    to: own,
    backend,
    metric,
    sharding: SHARDING[strategy]!,
    fields: FIELDS,
    custom: { release: "2026.12", labels: { é: [1, null] } },
  })
  const report = await exportSnapshot(own, { to, format: "shardyfusion", prefix: PREFIX })
  return { own, to, report, metric }
}

const search = async (root: string, vector: readonly number[], options: SearchOptions) => {
  const reader = await openSnapshot(root, { cacheDir: join(dir, "cache"), workers: 1 })
  try {
    const { hits } = await reader.search(vector, { k: 20, ...options })
    return { info: reader.snapshot, hits }
  } finally {
    await reader.close()
  }
}

describe.each(CASES)("$strategy in shards of $backend", (one) => {
  let made: Awaited<ReturnType<typeof exported>>

  beforeAll(async () => {
    made = await exported(one)
  }, 60_000)

  test("the pointer is compact JSON with sorted keys, and names the manifest by its full URL", async () => {
    const text = await readFile(join(made.to, "_CURRENT"), "utf8")
    const { run, manifest } = made.report
    const updatedAt = (JSON.parse(text) as { updated_at: string }).updated_at
    expect(updatedAt).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{6})?Z$/)
    expect(text).toBe(
      `{"format_version":1,"manifest_content_type":"application/x-sqlite3","manifest_ref":"${PREFIX}/${manifest}","run_id":"${run}","updated_at":"${updatedAt}"}`,
    )
    expect(manifest).toMatch(
      new RegExp(`^manifests/\\d{4}-\\d\\d-\\d\\dT\\d\\d:\\d\\d:\\d\\d\\.\\d{6}Z_run_id=${run}/manifest$`),
    )
    expect(run).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/)
  })

  test("the manifest is a database without write-ahead log, with exactly the columns of the format", async () => {
    const { manifest, run } = made.report
    const bytes = await readFile(join(made.to, manifest))
    expect([bytes[18], bytes[19]]).toEqual([1, 1])
    const db = new Sqlite(bytes)
    const columns = (table: string) =>
      db
        .prepare(`SELECT name || ' ' || type || ' ' || ("notnull" OR pk) FROM pragma_table_info('${table}')`)
        .pluck()
        .all()
    expect(columns("build_meta")).toEqual([
      "run_id TEXT 1",
      "created_at TEXT 1",
      "num_dbs INTEGER 1",
      "s3_prefix TEXT 1",
      "key_col TEXT 1",
      "sharding TEXT 1",
      "db_path_template TEXT 1",
      "shard_prefix TEXT 1",
      "format_version INTEGER 1",
      "key_encoding TEXT 1",
      "custom TEXT 1",
    ])
    expect(columns("shards")).toEqual([
      "db_id INTEGER 1",
      "db_url TEXT 0",
      "attempt INTEGER 1",
      "row_count INTEGER 1",
      "db_bytes INTEGER 1",
      "min_key TEXT 0",
      "max_key TEXT 0",
      "checkpoint_id TEXT 0",
      "writer_info TEXT 1",
    ])
    const meta = db.prepare("SELECT * FROM build_meta").all() as Record<string, unknown>[]
    expect(meta).toHaveLength(1)
    expect(meta[0]).toMatchObject({
      run_id: run,
      num_dbs: 4,
      s3_prefix: PREFIX,
      key_col: "_vector_id",
      sharding:
        '{"cel_columns": null, "cel_expr": null, "hash_algorithm": "xxh3_64", "routing_values": null, "strategy": "hash"}',
      db_path_template: "db={db_id:05d}",
      shard_prefix: "shards",
      format_version: 4,
      key_encoding: "raw",
    })
    const custom = meta[0]!.custom as string
    expect(custom).toMatch(/^\{"labels": \{"\\u00e9": \[1, null\]\}, "release": "2026\.12", "vector": \{/)
    const { vector } = JSON.parse(custom) as { vector: Record<string, unknown> }
    expect(vector).toMatchObject({
      dim: DIM,
      metric: made.metric === "dot" ? "dot_product" : made.metric,
      quantization: null,
      total_vectors: 240,
      sharding_strategy: one.strategy,
      backend: one.backend,
      vecsnap: {
        index: one.backend === "lancedb" ? { type: "IVF_FLAT", num_partitions: 1 } : { type: "flat" },
      },
    })
    expect(vector.unified).toBeUndefined()
    const shards = db.prepare("SELECT * FROM shards ORDER BY db_id").all() as Record<string, unknown>[]
    if (one.strategy === "explicit") expect(shards.map(({ db_id }) => db_id)).toEqual([0, 1, 3])
    for (const {
      db_id,
      db_url,
      attempt,
      row_count,
      checkpoint_id,
      writer_info,
      min_key,
      max_key,
    } of shards) {
      expect(db_url).toBe(`${PREFIX}/shards/run_id=${run}/db=0000${db_id}/attempt=00`)
      expect([attempt, min_key, max_key]).toEqual([0, null, null])
      expect(row_count).toBeGreaterThan(0)
      expect(checkpoint_id).toMatch(/^[0-9a-f]{32}$/)
      expect(writer_info).toBe('{"attempt": 0, "duration_ms": 0, "stage_id": null, "task_attempt_id": null}')
    }
    db.close()
  })

  test("the run is recorded as succeeded, with its manifest", async () => {
    const { manifest, run } = made.report
    const [folder, ...others] = await readdir(join(made.to, "runs"))
    expect(others).toEqual([])
    expect(folder).toMatch(new RegExp(`^\\d{4}-.*\\.\\d{6}Z_run_id=${run}_[0-9a-f]{32}$`))
    const lines = (await readFile(join(made.to, "runs", folder!, "run.yaml"), "utf8")).split("\n")
    expect(lines).toContain('status: "succeeded"')
    expect(lines).toContain(`manifest_ref: "${PREFIX}/${manifest}"`)
  })

  test("arrays are float32 in C order, version 1.0, with the values at a multiple of 64", async () => {
    const folder = join(made.to, "vector_meta", `run_id=${made.report.run}`)
    const [name] = await readdir(folder).catch(() => [])
    if (one.strategy === "explicit" || one.strategy === "cel") {
      expect(name).toBeUndefined()
      return
    }
    const rows = one.strategy === "lsh" ? 6 : 4
    expect(name).toBe(one.strategy === "lsh" ? "hyperplanes.npy" : "centroids.npy")
    const bytes = await readFile(join(folder, name!))
    expect(bytes.subarray(0, 8).toString("latin1")).toBe("\x93NUMPY\x01\x00")
    const start = 10 + bytes.readUInt16LE(8)
    expect(start % 64).toBe(0)
    expect(bytes.subarray(10, start).toString("latin1").trimEnd()).toBe(
      `{'descr': '<f4', 'fortran_order': False, 'shape': (${rows}, ${DIM}), }`,
    )
    expect(bytes.length).toBe(start + rows * DIM * 4)
  })

  test("is opened by us with the same answers", async () => {
    const vector = records(false)[17]!.vector as readonly number[]
    const [own, other] = [
      await search(made.own, vector, ROUTES[one.strategy]!),
      await search(made.to, vector, ROUTES[one.strategy]!),
    ]
    expect(other.info).toMatchObject({
      format: "shardyfusion",
      idType: own.info.idType,
      backend: one.backend,
    })
    expect(other.info.metric).toBe(own.info.metric)
    expect(own.hits.length).toBe(20)
    expect(other.hits).toEqual(
      own.hits.map(({ fields, payload, ...hit }) => ({
        ...hit,
        fields: {},
        payload: { ...fields, ...(payload as object | null) },
      })),
    )
  })

  test.runIf(HAS_PYTHON)("is accepted by the checker", async () => {
    const checker = fromRoot("test/fixtures/shardyfusion", "check.py")
    const { stdout } = await promisify(execFile)(PYTHON, [checker, made.to]).catch(
      (error: { stdout: string }) => error,
    )
    expect(stdout.split("\n").filter((line) => line.startsWith("FAIL"))).toEqual([])
    expect(stdout).toMatch(/^\d{2,} passed, 0 failed$/m)
  })
})

test("rows of sqlite-vec count up from 0, ids keep their type, what has no payload has no row", async () => {
  const root = join(dir, "rows")
  const vectors = [
    [1, 0],
    [0, 1],
    [1, 1],
  ]
  await buildExported(
    vectors.map((vector, i) => ({ id: ["b", "a", 'é"'][i]!, vector, payload: i === 0 ? { n: 1 } : null })),
    { sharding: { strategy: "lsh", shards: 1 } },
    { to: root, format: "shardyfusion", prefix: PREFIX },
  )
  const [run] = await readdir(join(root, "shards"))
  const file = join(root, "shards", run!, "db=00000", "attempt=00", "shard.db")
  const db = new Sqlite(file, { readonly: true })
  const all = (sql: string) => db.prepare(sql).raw().all()
  expect(all("SELECT * FROM vec_id_map")).toEqual([
    [0, '{"v": "a", "t": "str"}'],
    [1, '{"v": "b", "t": "str"}'],
    [2, '{"v": "\\u00e9\\"", "t": "str"}'],
  ])
  expect(all("SELECT * FROM vec_payloads")).toEqual([[1, '{"n":1}']])
  expect(all("SELECT count(*) FROM kv")).toEqual([[0]])
  expect(db.prepare("SELECT sql FROM sqlite_schema WHERE name = 'vec_index'").pluck().get()).toContain(
    "embedding float[2] distance_metric=cosine",
  )
  db.close()
})

test("copies of rows are written once, placed anew by centroid", async () => {
  const own = join(dir, "layout")
  const { gaussian } = createRandom(5)
  const rows = Array.from({ length: 2400 }, (_, i) => ({
    id: i,
    vector: Array.from({ length: 8 }, gaussian),
  }))
  const sharding = {
    strategy: "cluster",
    shards: 6,
    layout: "affinity",
    replication: { budget: 1.5 },
  } as const
  const built = await buildSnapshot(rows, { to: own, sharding, certificate: false })
  expect(built.copies).toBeGreaterThan(0)
  const report = await exportSnapshot(own, {
    to: join(dir, "layout-exported"),
    format: "shardyfusion",
    prefix: PREFIX,
  })
  expect(report).toMatchObject({ placedAnew: true, rows: 2400, shards: 6 })
  const { hits } = await search(join(dir, "layout-exported"), rows[7]!.vector, { probes: "all" })
  expect(hits[0]).toMatchObject({ id: 7 })
})

describe("nothing is published", () => {
  const build = (rows: readonly VectorRecord[], options: object = {}) =>
    buildExported(
      rows,
      { sharding: { strategy: "lsh", shards: 1 }, fields: { lang: "string" }, ...options },
      { to: `memory://refused-${process.pid}`, format: "shardyfusion", prefix: PREFIX },
    )
  const row = { id: "a", vector: [1, 2], fields: { lang: "en" } }

  test.each([
    ["a payload that is no object", { ...row, payload: [1] }, 'record "a" has a list as payload'],
    [
      "a field that is in the payload too",
      { ...row, payload: { lang: "de" } },
      'record "a" has "lang" in its payload',
    ],
  ])("for %s", async (_, record, message) => {
    await expect(build([record])).rejects.toMatchObject({
      tag: "InvalidInput",
      message: expect.stringContaining(message),
    })
  })

  test("for inner products in shards of sqlite-vec", async () => {
    await expect(build([row], { metric: "dot" })).rejects.toMatchObject({
      tag: "Unsupported",
      message: expect.stringContaining("use lancedb"),
    })
  })

  test("for a layout that others cannot route by, and a root without an s3:// URL", async () => {
    const sharding = { strategy: "cluster", shards: 1, layout: "affinity" }
    await expect(build([row], { sharding })).rejects.toThrow(
      "the layout affinity cannot be told to other formats",
    )
    const to = `memory://refused-${process.pid}`
    const options = { sharding: { strategy: "lsh", shards: 1 } } as const
    await expect(
      buildExported(
        [row].map(({ fields: _, ...rest }) => rest),
        options,
        { to, format: "shardyfusion" },
      ),
    ).rejects.toThrow("give the URL that they will be at as prefix")
    for (const prefix of ["s3://bucket", "s3://bucket/a?b", "s3://bucket/a#b", "https://bucket/a"]) {
      await expect(
        exportSnapshot(join(dir, "layout"), { to, format: "shardyfusion", prefix }),
      ).rejects.toThrow("option prefix")
    }
  })

  test("over what somebody else published meanwhile, or over snapshots of another format", async () => {
    const store = openStore(`memory://raced-${process.pid}`)
    const from = `memory://raced-own-${process.pid}`
    await buildSnapshot(
      [row].map(({ fields: _, ...rest }) => rest),
      { to: from, sharding: { strategy: "lsh", shards: 1 } },
    )
    const options = { to: store, format: "shardyfusion", prefix: PREFIX }
    const first = await exportSnapshot(from, options)
    const between = { ...options, onShard: () => {} }
    let isRaced = false
    const raced = exportSnapshot(from, {
      ...between,
      to: {
        ...store,
        put: async (key, body, put) => {
          if (key === "_CURRENT" && !isRaced) {
            isRaced = true
            await exportSnapshot(from, options)
          }
          return store.put(key, body, put)
        },
        get: (key, get) => store.get(key, get),
        getIfChanged: (key, etag, get) => store.getIfChanged(key, etag, get),
        getFile: (key, path, get) => store.getFile(key, path, get),
        head: (key, get) => store.head(key, get),
        list: (prefix, get) => store.list(prefix, get),
        delete: (keys, get) => store.delete(keys, get),
        close: () => {},
      },
    })
    await expect(raced).rejects.toMatchObject({ tag: "Conflict" })
    const { hits } = await search(`memory://raced-${process.pid}`, [1, 2], {})
    expect(hits[0]!.id).toBe("a")
    expect((await exportSnapshot(from, options)).replaced).not.toBe(first.run)
    await expect(
      exportSnapshot(`memory://raced-${process.pid}`, { ...options, to: `memory://again-${process.pid}` }),
    ).rejects.toMatchObject({
      tag: "Unsupported",
      message: expect.stringContaining("is of the format shardyfusion already"),
    })
    await expect(exportSnapshot(from, { ...options, to: from })).rejects.toMatchObject({
      tag: "InvalidInput",
      message: expect.stringContaining("has snapshots of another format"),
    })
  })
})
