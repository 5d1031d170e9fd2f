/**
 * A store whose clock is 20 minutes from ours, which S3 refuses: everything works, and doctor says what is
 * wrong.
 */
import { afterAll, beforeAll, expect, it } from "vitest"
import { diagnoseStore } from "../../src/maintenance/doctor/doctor.js"
import { openSnapshot } from "../../src/reader/reader.js"
import { buildSnapshot } from "../../src/release/build-snapshot.js"
import { openStore, type StoreOptions } from "../../src/storage/open.js"
import { type S3Server, startS3Server } from "../servers/s3-server.js"
import { FIELDS, makeRecords } from "../support/records.js"
import { withTempDir } from "../support/stores.js"

let server: S3Server
let store: StoreOptions
beforeAll(async () => {
  server = await startS3Server({ buckets: ["clock"], clockAheadMs: -20 * 60_000 })
  const credentials = { accessKeyId: "test", secretAccessKey: "test" }
  store = { s3: { endpoint: server.endpoint, region: "us-east-1", credentials } }
})
afterAll(() => server.close())

it("builds, publishes and reads; each store that is opened is refused once", async () => {
  const to = "s3://clock/snapshots"
  const sharding = { strategy: "lsh", bits: 1, shards: 1 } as const
  await buildSnapshot(makeRecords(20, { dim: 4 }), { to, store, fields: FIELDS, sharding })
  await withTempDir(async (cacheDir) => {
    const before = server.requests.length
    await using reader = await openSnapshot(to, { store, cacheDir })
    expect((await reader.search([1, 0, 0, 0], { probes: "all" })).hits).toHaveLength(10)
    const refused = server.requests.slice(before).filter(({ status }) => status === 403)
    expect(refused).toHaveLength(1)
  })
})

it("is what doctor warns of, and all that it does", async () => {
  const diagnosis = await diagnoseStore(openStore("s3://clock/doctor", store), { quick: true })
  const bad = diagnosis.checks.filter(({ verdict }) => verdict === "warning" || verdict === "failed")
  expect(bad).toMatchObject([
    {
      name: "clock",
      verdict: "warning",
      finding: expect.stringMatching(/1,(199|200) s behind this machine's/),
    },
  ])
})
