/**
 * A reader on a store that misbehaves, in every way that the in-process S3 server knows: the answer is right
 * or an error, never wrong, and it comes in time. And on a store that allows only so many requests per
 * second.
 */
import { randomUUID } from "node:crypto"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import {
  buildSnapshot,
  type ErrorTag,
  isVecsnapError,
  openSnapshot,
  openStore,
  type Reader,
  type StoreOptions,
  type VectorRecord,
} from "../../src/index.js"
import { POINTER_KEY } from "../../src/manifest/keys.js"
import { createCounts } from "../../src/storage/with-counting.js"
import { type Fault, type S3Server, startS3Server } from "../servers/s3-server.js"
import { FIELDS, makeRecords, seededRandom } from "../support/records.js"
import { withTempDir } from "../support/stores.js"

const RECORDS = makeRecords(90, { dim: 8 })
const QUERY = RECORDS[4]!.vector as Float32Array
const SHARDS = 3
/** Longer than any schedule of faults, far shorter than the test's time limit. */
const PATIENCE_MS = 5_000

let server: S3Server
let store: StoreOptions
beforeAll(async () => {
  server = await startS3Server({ buckets: ["faults"] })
  store = {
    s3: {
      endpoint: server.endpoint,
      region: "us-east-1",
      credentials: { accessKeyId: "test", secretAccessKey: "test" },
      idleTimeoutMs: 300,
    },
    retry: { attempts: 4, firstDelayMs: 2, maxDelayMs: 10 },
  }
})
afterAll(() => server.close())

const build = (
  to: string,
  backend: "sqlite-vec" | "lancedb",
  { records = RECORDS, shards = SHARDS }: { records?: readonly VectorRecord[]; shards?: number } = {},
) => buildSnapshot(records, { to, store, backend, fields: FIELDS, sharding: { strategy: "cluster", shards } })

/** Any outcome of what must be settled in time. */
async function outcomeOf<T>(work: Promise<T>): Promise<{ value: T } | { error: unknown }> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error("it hangs")), PATIENCE_MS)
  })
  try {
    return { value: await Promise.race([work, late]) }
  } catch (error) {
    return { error }
  } finally {
    clearTimeout(timer)
  }
}

const FAULTS: readonly Fault[] = [
  { do: "delay", ms: 40 },
  { do: "delay", ms: 900 },
  { do: "status", status: 403 },
  { do: "status", status: 429 },
  { do: "status", status: 500 },
  { do: "status", status: 503 },
  { do: "reset-before" },
  { do: "reset-after" },
  { do: "cut-body" },
  { do: "short-body" },
  { do: "truncate" },
  { do: "ignore-range" },
  { do: "flip-byte" },
]

const EXPECTED: readonly ErrorTag[] = ["Unavailable", "Corrupt"]

describe.each(["sqlite-vec", "lancedb"] as const)("a %s reader on a faulty store", (backend) => {
  it("answers rightly or with the right error, whatever the faults, and recovers", async () => {
    const seeds = Array.from({ length: backend === "sqlite-vec" ? 25 : 10 }, (_, i) => i + 1)
    const root = `s3://faults/${backend}-${randomUUID()}`
    const objects = openStore(root, store)
    await withTempDir(async (dir) => {
      /** Builds a run, and keeps what makes it live again, and its right answer. */
      async function makeRun(records: readonly VectorRecord[]) {
        const { run } = await build(root, backend, { records })
        const pointer = (await objects.get(POINTER_KEY))!.body
        await using sound = await openSnapshot(root, { store, cacheDir: `${dir}/sound` })
        const { hits } = await sound.search(QUERY, { probes: "all" })
        expect(hits).toHaveLength(10)
        return { run, right: hits, publish: () => objects.put(POINTER_KEY, pointer) }
      }
      const first = await makeRun(RECORDS)
      const second = await makeRun(RECORDS.map((record) => ({ ...record, id: `new-${record.id}` })))
      const seen = { right: 0, wrong: 0, swapped: 0 }
      for (const seed of seeds) {
        const random = seededRandom(seed)
        // From a fault here and there to a store that does next to nothing right.
        const density = random() ** 2
        function misbehave(): void {
          server.fault(() => random() < density, FAULTS[Math.floor(random() * FAULTS.length)]!, 1)
          for (let i = 0; i < 30; i++) {
            const at = random()
            const fault = FAULTS[Math.floor(random() * FAULTS.length)]!
            server.fault(() => random() < density * at, fault)
          }
        }
        await first.publish()
        misbehave()
        const opened = await outcomeOf(openSnapshot(root, { store, cacheDir: `${dir}/${seed}` }))
        check(opened, `seed ${seed}: open`)
        server.clearFaults()
        if ("error" in opened) continue
        await using reader = opened.value
        await second.publish()
        misbehave()
        for (let i = 0; i < 2; i++) {
          const answer = await outcomeOf(reader.search(QUERY, { probes: "all" }))
          check(answer, `seed ${seed}: search ${i}`)
          if ("value" in answer) {
            const { right } = answer.value.snapshot === first.run ? first : second
            expect(answer.value.hits, `seed ${seed}`).toEqual(right)
          }
          const refreshed = await outcomeOf(reader.refresh())
          check(refreshed, `seed ${seed}: refresh ${i}`)
          if ("value" in refreshed && refreshed.value.changed) seen.swapped++
        }
        server.clearFaults()
        await reader.refresh()
        const { snapshot, hits } = await reader.search(QUERY, { probes: "all" })
        expect({ snapshot, hits }, `seed ${seed}`).toEqual({ snapshot: second.run, hits: second.right })

        function check(outcome: { value: unknown } | { error: unknown }, what: string): void {
          seen["error" in outcome ? "wrong" : "right"]++
          if (!("error" in outcome)) return
          const tag = isVecsnapError(outcome.error) ? outcome.error.tag : undefined
          expect(EXPECTED, `${what}: ${outcome.error}`).toContain(tag)
        }
      }
      // The schedules reach both ends, and swaps among faults; else they would prove nothing.
      expect(Math.min(seen.right, seen.wrong)).toBeGreaterThan(5)
      expect(seen.swapped).toBeGreaterThan(1)
    })
    objects.close()
  })

  it.each<[string, Fault, ErrorTag | "right"]>([
    ["a burst of 503 shorter than the retries", { do: "status", status: 503 }, "right"],
    ["connections cut half-way", { do: "cut-body" }, "right"],
    ["bodies that end too early", { do: "short-body" }, "right"],
    ["a slow answer", { do: "delay", ms: 100 }, "right"],
    ["a silent connection", { do: "delay", ms: 60_000 }, "right"],
    ["403", { do: "status", status: 403 }, "Unavailable"],
    ["a short body that is well formed", { do: "truncate" }, "Corrupt"],
    ["a damaged body", { do: "flip-byte" }, "Corrupt"],
  ])("on %s", async (_, fault, expected) => {
    const root = `s3://faults/${backend}-${randomUUID()}`
    await build(root, backend, { shards: 1 })
    await withTempDir(async (cacheDir) => {
      await using reader = await openSnapshot(root, { store, cacheDir })
      server.fault({ operation: "GetObject", key: /\/shards\// }, fault, 2)
      const outcome = await outcomeOf(reader.search(QUERY))
      server.clearFaults()
      if (expected === "right") expect(outcome).toMatchObject({ value: { complete: true } })
      else expect(outcome).toMatchObject({ error: { tag: expected } })
      expect((await reader.search(QUERY)).hits[0]!.id).toBe(RECORDS[4]!.id)
    })
  })
})

describe("a server that never answers", () => {
  // Nothing but the time limit ends the wait: neither the connection's own limit nor the retries.
  const silent: Fault = { do: "delay", ms: 2 ** 31 - 1 }
  // Milliseconds. A busy machine may need the longer ones to come to the request that is not answered.
  const limits = [60, 1000, 10_000]
  let root: string
  let patient: StoreOptions
  beforeAll(async () => {
    root = `s3://faults/silent-${randomUUID()}`
    await build(root, "sqlite-vec")
    patient = { ...store, s3: { ...store.s3!, firstByteTimeoutMs: 60_000, idleTimeoutMs: 60_000 } }
  })

  it.each<[string, RegExp, (reader: Reader, options?: { timeoutMs: number }) => Promise<unknown>]>([
    ["search", /\/shards\//, (reader, options) => reader.search(QUERY, options)],
    ["searchMany", /\/shards\//, (reader, options) => reader.searchMany([QUERY, QUERY], options)],
    ["get, for the record", /\/shards\//, (reader, options) => reader.get([RECORDS[4]!.id], options)],
    ["get, for the locator", /\/ids\.bin$/, (reader, options) => reader.get([RECORDS[4]!.id], options)],
  ])("%s ends with its time limit, and then works", (_, key, call) =>
    withTempDir(async (cacheDir) => {
      const endsWithin = async (timeoutMs: number, by: "call" | "reader"): Promise<boolean> => {
        const limit = { timeoutMs }
        const ofReader = by === "reader" ? limit : {}
        await using reader = await openSnapshot(root, { ...ofReader, store: patient, cacheDir })
        const before = server.requests.length
        server.fault({ operation: "GetObject", key }, silent, 99)
        const outcome = await outcomeOf(call(reader, by === "call" ? limit : undefined))
        server.clearFaults()
        expect(outcome).toMatchObject({ error: { tag: "Aborted", details: limit } })
        // Nobody waits for the answer any more: not even the connection.
        expect(await outcomeOf(reader.close())).toEqual({ value: undefined })
        return server.requests.slice(before).some((request) => key.test(request.key))
      }
      for (const by of ["call", "reader"] as const) {
        let reached = false
        for (let i = 0; i < limits.length && !reached; i++) reached = await endsWithin(limits[i]!, by)
        expect(reached).toBe(true)
        await using next = await openSnapshot(root, { store: patient, cacheDir: `${cacheDir}/next` })
        expect(await call(next, { timeoutMs: 30_000 })).toBeDefined()
      }
    }),
  )

  it("the refresh that it holds up keeps no call waiting, and ends with the reader", () =>
    withTempDir(async (cacheDir) => {
      const reader = await openSnapshot(root, { store: patient, cacheDir })
      await reader.search(QUERY, { probes: "all" })
      server.fault({ operation: "GetObject" }, silent, 99)
      const refreshing = outcomeOf(reader.refresh())
      expect(await outcomeOf(reader.search(QUERY, { probes: "all" }))).toMatchObject({
        value: { complete: true },
      })
      expect(await outcomeOf(reader.close())).toEqual({ value: undefined })
      server.clearFaults()
      expect(await refreshing).toMatchObject({ error: { name: "VecsnapError" } })
    }))
})

it("a range that is answered with the whole object is not taken for the range", async () => {
  const faulty = openStore(`s3://faults/${randomUUID()}`, store)
  await faulty.put("object", Buffer.from("0123456789"))
  server.fault({ operation: "GetObject" }, { do: "ignore-range" }, 9)
  const outcome = await outcomeOf(faulty.get("object", { range: { start: 2, end: 4 } }))
  server.clearFaults()
  if ("value" in outcome) expect(Buffer.from(outcome.value!.body).toString()).toBe("23")
  else expect(outcome.error).toMatchObject({ name: "VecsnapError" })
  faulty.close()
})

it("200 opens at 50 requests per second: the server never sees more than the bucket holds", async () => {
  const root = `s3://faults/rate-${randomUUID()}`
  await build(root, "sqlite-vec", { shards: 1 })
  const requestsPerSecond = 50
  const counts = createCounts()
  const arrivalsMs: number[] = []
  // Matches nothing, but is asked on each request.
  server.fault(
    () => {
      arrivalsMs.push(performance.now())
      return false
    },
    { do: "reset-before" },
  )
  await withTempDir(async (cacheDir) => {
    // A busy machine may keep each request waiting, which is not to be counted twice.
    const s3 = { ...store.s3!, firstByteTimeoutMs: 60_000, idleTimeoutMs: 60_000 }
    // One limit for all of them: they share the store.
    const shared = openStore(root, { s3, rate: { requestsPerSecond }, counts })
    const readers = await Promise.all(Array.from({ length: 200 }, () => openSnapshot(shared, { cacheDir })))
    await Promise.all(readers.map((reader) => reader.close()))
    shared.close()
  })
  server.clearFaults()
  expect(counts).toMatchObject({ get: 600, failed: 0 })
  expect(arrivalsMs).toHaveLength(600)
  // All but what the bucket held at first, and what dripped in while these were sent.
  expect(counts.throttled).toBeGreaterThanOrEqual(400)
  const excess = arrivalsMs.flatMap((firstMs, first) =>
    arrivalsMs.slice(first).map((lastMs, more) => {
      const seconds = (lastMs - firstMs) / 1000
      return more + 1 - requestsPerSecond * (1 + seconds)
    }),
  )
  // What was sent in order may arrive in a bunch on a busy machine: half a second of grace.
  expect(excess.reduce((most, one) => Math.max(most, one))).toBeLessThanOrEqual(requestsPerSecond / 2)
})
