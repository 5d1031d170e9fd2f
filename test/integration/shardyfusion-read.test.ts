/** Snapshots that shardyfusion has written are read like our own, and better than it reads them itself. */
import { mkdtemp, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, beforeAll, describe, expect, test } from "vitest"
import { openSnapshot, type Reader, type RouteOptions, type SearchOptions } from "../../src/index.js"
import { parsePythonJson } from "../../src/manifest/shardyfusion/json.js"
import type { ObjectStore } from "../../src/storage/store.js"
import {
  FIXTURES,
  type Fixture,
  type FixtureQuery,
  type FixtureRow,
  fixtureId,
  fixtureMetric,
  loadFixture,
  storedFixture,
} from "../support/shardyfusion.js"

let dir: string

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), "vecsnap-shardyfusion-"))
})

afterAll(() => rm(dir, { recursive: true, force: true }))

const open = (store: ObjectStore, cache: string): Promise<Reader> =>
  openSnapshot(store, { cacheDir: join(dir, cache), workers: 1 })

/** LanceDB's tables of the reference have lost the type of ids: all are text. */
const storedId = ({ queries }: Fixture, id: string): string =>
  queries.backend === "lancedb" ? `s:${id.slice(2)}` : id

/** Where the reference looks, and has rows. It leaves out shards that do not exist. */
function routeOf({ queries }: Fixture, query: FixtureQuery): RouteOptions {
  if (query.routing_context !== undefined) return { context: query.routing_context }
  const asked = query.probed_shards.length > 0 ? query.probed_shards : query.routed_shards
  return { shards: asked.filter((shard) => shard < queries.num_dbs) }
}

describe.each(FIXTURES)("%s", (name) => {
  const fixture = loadFixture(name)
  const { queries } = fixture
  const run = queries.runs.find(({ run_id }) => run_id === queries.current_run)!
  let reader: Reader
  let rows: readonly FixtureRow[]

  beforeAll(async () => {
    reader = await open(await storedFixture(name), name)
    rows = fixture.rows(run.rows_file)
  })

  afterAll(() => reader.close())

  test("says what it is", () => {
    expect(reader.snapshot).toMatchObject({
      run: queries.current_run,
      format: "shardyfusion",
      rows: rows.length,
      dim: queries.dim,
      metric: fixtureMetric(queries.metric),
      idType: queries.backend === "lancedb" ? "string" : "mixed",
      fields: [],
      backend: queries.backend,
      strategy: queries.strategy,
      shards: queries.num_dbs,
      locator: false,
      notes: [],
    })
  })

  test.each(queries.queries.map((query, i) => [i, query] as const))(
    "query %i gives the true neighbours of the shards that it is routed to",
    async (_, query) => {
      const route = routeOf(fixture, query)
      if (route.shards?.length === 0) {
        const named = query.shard_ids ?? []
        await expect(reader.search(query.vector, { shards: named })).rejects.toThrow("does not exist")
        return
      }
      const { hits } = await reader.search(query.vector, { k: query.top_k, ...route })
      expect(hits.map(({ id }) => fixtureId(id))).toEqual(query.exact.ids.map((id) => storedId(fixture, id)))
      for (const [i, { distance }] of hits.entries())
        expect(Math.abs(distance - query.exact.distances[i]!)).toBeLessThanOrEqual(1e-5)
    },
  )

  test("shards are probed in the order of the reference, but those without rows cost no probe", async () => {
    for (const query of queries.queries) {
      if (query.shard_ids !== undefined) continue
      const options: SearchOptions =
        query.routing_context === undefined
          ? { ...(query.num_probes && { probes: query.num_probes }) }
          : { context: query.routing_context }
      const { shards } = await reader.search(query.vector, { k: 1, ...options })
      expect(shards.asked.slice(0, query.probed_shards.length)).toEqual(query.probed_shards)
      if (query.probed_shards.length === query.routed_shards.length)
        expect(shards.asked).toEqual(query.probed_shards)
    }
  })

  test("every record is found by its id, whole", async () => {
    const ids = rows.map(({ id }) => (queries.backend === "lancedb" ? id.slice(2) : idOf(id)))
    const found = await reader.get(ids)
    for (const [i, row] of rows.entries()) {
      const record = found[i]!
      expect(fixtureId(record.id)).toBe(storedId(fixture, row.id))
      expect(Array.from(record.vector)).toEqual(Array.from(Float32Array.from(row.vector)))
      expect(record.shard).toBe(row.shard)
      // The reference itself loses whether there was none where others of the same batch had one.
      const payload = row.payload === null ? null : parsePythonJson(row.payload)
      expect([payload, ...(payload === null ? [{}] : [])]).toContainEqual(record.payload)
    }
    expect(await reader.get(["an id that is not there"])).toEqual([undefined])
  })
})

const idOf = (id: string): string | bigint => (id.startsWith("i:") ? BigInt(id.slice(2)) : id.slice(2))
