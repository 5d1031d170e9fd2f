import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest"
import {
  buildSnapshot,
  type ObjectStore,
  type OpenOptions,
  openSnapshot,
  openStore,
  type ReaderEvents,
  type ShardingOptions,
} from "../../src/index.js"
import { type S3Server, startS3Server } from "../servers/s3-server.js"
import { makeRecords } from "../support/records.js"
import { ALL } from "../support/scope.js"
import { withTempDir } from "../support/stores.js"

const RECORDS = makeRecords(80, { dim: 8 }).map(({ id, vector }) => ({ id, vector }))
const QUERY = RECORDS[5]!.vector as Float32Array
const ATTEMPTS = 3

let server: S3Server
let roots = 0
beforeAll(async () => {
  server = await startS3Server({ buckets: ["vectors"] })
})
afterAll(() => server.close())
beforeEach(() => server.clearFaults())

interface Given {
  /** Opens with so many attempts for each request. */
  readonly open: (attempts?: number) => ReturnType<typeof openSnapshot>
  /** Publishes another snapshot; its run, and the key of its routing object. */
  readonly publish: () => Promise<{ run: string; key: string }>
  /** The store as it is, without retries. */
  readonly direct: ObjectStore
  /** Statuses of the requests for a key of the root so far, by arrival; forgets them. */
  readonly statusesOf: (key: string) => number[]
  /** For faults on requests for a key of the root. */
  readonly readsOf: (key: string) => { method: "GET"; key: string }
}

async function withRoot(
  sharding: ShardingOptions,
  file: string,
  work: (given: Given) => Promise<void>,
): Promise<void> {
  const prefix = `routing-${roots++}`
  const url = `s3://vectors/${prefix}`
  const credentials = { accessKeyId: "a", secretAccessKey: "b" }
  const storeOptions = (attempts: number): NonNullable<OpenOptions["store"]> => ({
    s3: { endpoint: server.endpoint, region: "us-east-1", credentials },
    retry: { attempts, firstDelayMs: 1 },
  })
  const direct = openStore(url, storeOptions(1))
  try {
    await withTempDir((cacheDir) =>
      work({
        open: (attempts = ATTEMPTS) => openSnapshot(url, { cacheDir, store: storeOptions(attempts) }),
        async publish() {
          const { run } = await buildSnapshot(RECORDS, { to: url, store: storeOptions(1), sharding })
          server.requests.length = 0
          return { run, key: `routing/${run}/${file}` }
        },
        direct,
        statusesOf(key) {
          const found = server.requests.filter((request) => request.key === `${prefix}/${key}`)
          server.requests.length = 0
          return found.map(({ status }) => status)
        },
        readsOf: (key) => ({ method: "GET", key: `${prefix}/${key}` }),
      }),
    )
  } finally {
    direct.close()
  }
}

/** What can be wrong with the object as it is stored, and the error that says so. */
const DAMAGES = [
  {
    what: "missing",
    damage: (store: ObjectStore, key: string) => store.delete([key]),
    tag: "NotFound",
    status: 404,
  },
  {
    what: "short",
    damage: (store: ObjectStore, key: string, body: Uint8Array) =>
      store.put(key, body.subarray(0, body.length - 4)),
    tag: "Corrupt",
    status: 200,
  },
  {
    what: "long",
    damage: (store: ObjectStore, key: string, body: Uint8Array) =>
      store.put(key, Buffer.concat([body, Buffer.alloc(4)])),
    tag: "Corrupt",
    status: 200,
  },
  {
    what: "corrupt",
    damage: (store: ObjectStore, key: string, body: Uint8Array) =>
      store.put(key, Buffer.concat([body.subarray(0, -1), Buffer.of(body.at(-1)! ^ 0x10)])),
    tag: "Corrupt",
    status: 200,
  },
] as const

describe.each<[string, ShardingOptions]>([
  ["centroids.npy", { strategy: "cluster", shards: 4 }],
  ["hyperplanes.npy", { strategy: "lsh", shards: 4 }],
])("the routing object %s", (file, sharding) => {
  // Both go the same way: of the second, what is missing has to do for all that is wrong.
  it.each(ALL || file === "centroids.npy" ? DAMAGES : DAMAGES.slice(0, 1))(
    "$what: open and refresh say so without trying again, and refresh keeps the old snapshot",
    ({ damage, tag, status }) =>
      withRoot(sharding, file, async ({ open, publish, direct, statusesOf }) => {
        const first = await publish()
        await using reader = await open()
        const answer = await reader.search(QUERY)
        const told: ReaderEvents["refresh-failed"][] = []
        reader.on("refresh-failed", (event) => told.push(event))
        const second = await publish()
        const { body } = (await direct.get(second.key))!
        await damage(direct, second.key, body)
        server.requests.length = 0

        const expected = { tag, message: expect.stringContaining(second.key), details: { key: second.key } }
        await expect(open()).rejects.toMatchObject(expected)
        expect(statusesOf(second.key)).toEqual([status])
        await expect(reader.refresh()).rejects.toMatchObject(expected)
        expect(statusesOf(second.key)).toEqual([status])
        expect(told).toMatchObject([{ error: expected }])
        expect(await reader.search(QUERY)).toEqual(answer)
        const { status: health, snapshot, lastRefresh } = await reader.health()
        expect({ health, snapshot }).toEqual({ health: "degraded", snapshot: first.run })
        expect(lastRefresh).toMatchObject({ changed: false, error: expect.stringContaining(second.key) })

        await direct.put(second.key, body)
        expect(await reader.refresh()).toMatchObject({ changed: true, from: first.run, to: second.run })
        expect((await reader.search(QUERY)).snapshot).toBe(second.run)
        expect(await reader.health()).toMatchObject({ status: "healthy", reasons: [] })
      }),
  )

  it.runIf(ALL || file === "centroids.npy")(
    "answered with 500: opening takes as many requests as it takes, or gives up as configured",
    () =>
      withRoot(sharding, file, async ({ open, publish, statusesOf, readsOf }) => {
        const { run, key } = await publish()
        server.fault(readsOf(key), { do: "status", status: 500 }, ATTEMPTS - 1)
        await using reader = await open()
        expect(reader.snapshot.run).toBe(run)
        expect(statusesOf(key)).toEqual([500, 500, 200])
        server.fault(readsOf(key), { do: "status", status: 500 }, 100)
        for (const attempts of [1, ATTEMPTS]) {
          const expected = { tag: "Unavailable", message: expect.stringContaining(key) }
          await expect(open(attempts)).rejects.toMatchObject(expected)
          expect(statusesOf(key)).toEqual(Array(attempts).fill(500))
        }
      }),
  )

  it.runIf(ALL || file === "centroids.npy")(
    "on a connection that ends too early: is asked for again, if that is configured",
    () =>
      withRoot(sharding, file, async ({ open, publish, statusesOf, readsOf }) => {
        const { run, key } = await publish()
        for (const fault of ["short-body", "cut-body", "reset-before", "reset-after"] as const) {
          server.fault(readsOf(key), { do: fault })
          await using reader = await open()
          expect(reader.snapshot.run, fault).toBe(run)
          expect(statusesOf(key), fault).toHaveLength(2)
          server.fault(readsOf(key), { do: fault })
          await expect(open(1), fault).rejects.toMatchObject({ tag: "Unavailable" })
          expect(statusesOf(key), fault).toHaveLength(1)
        }
      }),
  )

  it.runIf(ALL || file === "centroids.npy")(
    "answered with 500 during a refresh: the refresh takes as many requests, or keeps the old snapshot",
    () =>
      withRoot(sharding, file, async ({ open, publish, statusesOf, readsOf }) => {
        const first = await publish()
        await using reader = await open()
        const second = await publish()
        server.fault(readsOf(second.key), { do: "status", status: 500 }, ATTEMPTS)
        await expect(reader.refresh()).rejects.toMatchObject({
          tag: "Unavailable",
          message: expect.stringContaining(second.key),
          details: { attempts: ATTEMPTS },
        })
        expect(statusesOf(second.key)).toEqual([500, 500, 500])
        expect((await reader.search(QUERY)).snapshot).toBe(first.run)

        server.fault(readsOf(second.key), { do: "status", status: 500 }, ATTEMPTS - 1)
        expect(await reader.refresh()).toMatchObject({ changed: true, to: second.run })
        expect(statusesOf(second.key)).toEqual([500, 500, 200])
      }),
  )
})
