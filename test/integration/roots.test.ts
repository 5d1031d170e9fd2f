/**
 * Whatever works on a root takes its URL, its path or an open store, and says so where it is given something
 * else.
 */
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import * as vecsnap from "../../src/index.js"
import { FIELDS, makeRecords } from "../support/records.js"
import { withTempDir } from "../support/stores.js"

type Root = vecsnap.Root
let root: string
let first: string
let second: string
let remove: () => void
let removed: Promise<unknown>

const build = (to: string) =>
  vecsnap.buildSnapshot(makeRecords(20, { dim: 4 }), {
    to,
    fields: FIELDS,
    sharding: { strategy: "lsh", bits: 1, shards: 1 },
  })

beforeAll(async () => {
  await new Promise<void>((ready, failed) => {
    removed = withTempDir(async (directory) => {
      root = `${directory}/snapshots`
      first = (await build(root)).run
      second = (await build(root)).run
      ready()
      await new Promise<void>((resolve) => {
        remove = resolve
      })
    }).catch(failed)
  })
})
afterAll(async () => {
  remove()
  await removed
})

const calls: Readonly<Record<string, (at: Root) => Promise<unknown>>> = {
  readPointer: (at) => vecsnap.readPointer(at),
  readLive: (at) => vecsnap.readLive(at),
  readManifest: async (at) => vecsnap.readManifest(at, (await vecsnap.findManifest(root, second)).key),
  findManifest: (at) => vecsnap.findManifest(at, second),
  listManifests: (at) => vecsnap.listManifests(at),
  readHistory: (at) => vecsnap.readHistory(at),
  listRuns: (at) => vecsnap.listRuns(at),
  diffSnapshots: (at) => vecsnap.diffSnapshots(at, first, second),
  verifyRoot: (at) => vecsnap.verifyRoot(at),
  repairPointer: (at) => vecsnap.repairPointer(at),
  collect: (at) => vecsnap.collect(at),
  pin: (at) => vecsnap.pin(at, second),
  unpin: (at) => vecsnap.unpin(at, second),
  rollback: (at) => vecsnap.rollback(at, { to: first }),
  publishRun: (at) => vecsnap.publishRun(at, second, { force: true }),
  diagnoseStore: (at) => vecsnap.diagnoseStore(at, { quick: true }),
  evaluateSnapshot: (at) => vecsnap.evaluateSnapshot(at).catch(onlyTooFewRows),
  openSnapshot: async (at) => (await vecsnap.openSnapshot(at)).close(),
}

function onlyTooFewRows(error: unknown): void {
  if (!vecsnap.isVecsnapError(error) || /root is named/.test(error.message)) throw error
}

describe.each(Object.entries(calls))("%s", (_, call) => {
  it("takes a path, a URL and an open store", async () => {
    const tolerant = async (at: Root): Promise<void> => {
      try {
        await call(at)
      } catch (error) {
        // Done by the call before: what matters is that the root was found.
        if (!vecsnap.isVecsnapError(error) || !error.message.includes("is live already")) throw error
      }
    }
    await tolerant(root)
    await tolerant(`file://${root}`)
    const store = vecsnap.openStore(root)
    await tolerant(store)
    // It stays open.
    expect(await vecsnap.readPointer(store)).toBeDefined()
    store.close()
  })

  it("says what it takes, given something else", async () => {
    for (const wrong of [undefined, null, 7, {}, { url: root }])
      await expect(call(wrong as unknown as Root)).rejects.toMatchObject({
        tag: "InvalidInput",
        message: expect.stringContaining("a root is named by a URL, a path or an open store, got"),
      })
  })
})

it("a build says what it takes, given something else", async () => {
  const nowhere = { to: undefined as unknown as string, sharding: { strategy: "lsh", shards: 1 } as const }
  await expect(vecsnap.buildSnapshot([], nowhere)).rejects.toMatchObject({ tag: "InvalidInput" })
})

it("the options of the store are for a root that is named", async () => {
  const call = vecsnap.rollback("s3://bucket/prefix", {
    store: { s3: { endpoint: "no-url", region: "us-east-1" }, retry: { attempts: 1 } },
  })
  await expect(call).rejects.toThrow("the S3 endpoint must be an http:// or https:// URL")
})
