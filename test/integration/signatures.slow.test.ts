/** Snapshots that are signed, from the build to the reader, and what somebody who can write to the root tries. */
import { readdir, rm } from "node:fs/promises"
import { join } from "node:path"
import { describe, expect, it } from "vitest"
import {
  type BuildOptions,
  buildSnapshot,
  collect,
  evaluateSnapshot,
  type ObjectStore,
  type OpenOptions,
  openSnapshot,
  openStore,
  publishRun,
  readHistory,
  readPointer,
  repairPointer,
  rollback,
  verifyRoot,
} from "../../src/index.js"
import { seal, unseal } from "../../src/manifest/seal.js"
import { testKey } from "../support/keys.js"
import { FIELDS, makeRecords } from "../support/records.js"
import { s3Root, withTempDir } from "../support/stores.js"

const RECORDS = makeRecords(60, { dim: 4, shards: 2 })
const BUILD = {
  sharding: { strategy: "explicit", shards: 2 },
  fields: FIELDS,
  parallelism: 1,
  certificate: false,
  locator: false,
} as const
const ALL = { shards: "all", k: 3 } as const
const QUERY = [1, 0, 0, 0]
const A = testKey()
const B = testKey()
const POINTER = "_CURRENT"

interface Given {
  readonly store: ObjectStore
  readonly cacheDir: string
  build(options?: Partial<BuildOptions>): Promise<string>
  open(options?: OpenOptions): ReturnType<typeof openSnapshot>
}

type Kind = "a directory" | "S3"

async function withRoot(work: (given: Given) => Promise<void>, kind: Kind = "a directory"): Promise<void> {
  await withTempDir(async (dir) => {
    const s3 = kind === "S3" ? s3Root("signatures") : undefined
    const store = openStore(s3?.url ?? join(dir, "root"), s3?.store)
    const cacheDir = join(dir, "cache")
    try {
      await work({
        store,
        cacheDir,
        build: async (options = {}) =>
          (await buildSnapshot(RECORDS, { ...BUILD, to: store, ...options })).run,
        open: (options = {}) => openSnapshot(store, { cacheDir, trustedKeys: [A.trust], ...options }),
      })
    } finally {
      store.close()
    }
  })
}

/** Changes the pointer as somebody does who can write, and can compute seals. */
async function alterPointer(
  store: ObjectStore,
  change: (document: Record<string, unknown>) => Record<string, unknown>,
): Promise<void> {
  const { sha256: _, ...document } = unseal((await store.get(POINTER))!.body, POINTER)
  await store.put(POINTER, seal(change({ ...document })))
}

const distrust = (why: string) => ({ tag: "Corrupt", details: { distrust: why } })

describe.each<Kind>(["a directory", "S3"])("a signed root in %s", (kind) => {
  it("is opened by who trusts the key, live and pinned, and says who signed it", () =>
    withRoot(async ({ build, open }) => {
      const first = await build({ signKey: A.sign })
      const second = await build({ signKey: [A.sign, B.sign] })
      await using live = await open()
      expect(live.snapshot).toMatchObject({ run: second, signedBy: [A.id] })
      expect((await live.search(QUERY, ALL)).hits).toHaveLength(3)
      await using pinned = await open({ snapshot: first })
      expect(pinned.snapshot).toMatchObject({ run: first, signedBy: [A.id] })
      await using other = await open({ trustedKeys: [B.trust] })
      expect(other.snapshot.signedBy).toEqual([B.id])
      await using believer = await open({ trustedKeys: undefined })
      expect(believer.snapshot).toMatchObject({ run: second, signedBy: undefined })
    }, kind))

  it("stays signed through collections, rollbacks and repairs", () =>
    withRoot(async ({ store, cacheDir, build, open }) => {
      await build({ signKey: A.sign })
      const second = await build({ signKey: A.sign })
      await build({ signKey: A.sign })
      await collect(store, { keepLast: 2, graceSeconds: 0 })
      expect((await rollback(store, { signKey: A.sign })).publication.run).toBe(second)
      await using reader = await open()
      expect(reader.snapshot.run).toBe(second)
      await store.delete([POINTER])
      const repaired = await repairPointer(store, { signKey: A.sign })
      // The store's clock may count in seconds, and the reader that saw the rollback has seen as many.
      await using another = await open({ cacheDir: `${cacheDir}-of-another` })
      expect(another.snapshot).toMatchObject({ run: repaired.now, signedBy: [A.id] })
    }, kind))
})

describe("who trusts a key opens nothing else", () => {
  const refusedWith = async (given: Given, why: string, options: OpenOptions = {}) =>
    expect(given.open(options)).rejects.toMatchObject(distrust(why))

  it("no unsigned snapshot, live or pinned", () =>
    withRoot(async (given) => {
      const run = await given.build()
      await refusedWith(given, "unsigned")
      await refusedWith(given, "unsigned", { snapshot: run })
    }))

  it("none that another key has signed", () =>
    withRoot(async (given) => {
      const run = await given.build({ signKey: B.sign })
      await refusedWith(given, "unknown-key")
      await refusedWith(given, "unknown-key", { snapshot: run })
    }))

  it("none that was signed after its key was valid", () =>
    withRoot(async (given) => {
      const run = await given.build({ signKey: A.sign })
      const old = [{ key: A.trust, validUntil: new Date(Date.now() - 3_600_000) }]
      await refusedWith(given, "key-expired", { trustedKeys: old })
      await refusedWith(given, "key-expired", { trustedKeys: old, snapshot: run })
      const good = [{ key: A.trust, validUntil: new Date(Date.now() + 3_600_000) }]
      await using reader = await given.open({ trustedKeys: good })
      expect(reader.snapshot.run).toBe(run)
    }))

  it("none whose pointer says anything else than what was signed", () =>
    withRoot(async (given) => {
      const { store, build } = given
      const first = await build({ signKey: A.sign })
      const { manifest } = (await readPointer(store))!
      await build({ signKey: A.sign })
      const good = (await store.get(POINTER))!.body
      const changes: Readonly<Record<string, unknown>>[] = [
        { number: 2_000_000_000_000 },
        { publishedAt: new Date(Date.now() + 1000).toISOString() },
        { action: "rollback" },
        { run: first, manifest },
      ]
      for (const change of changes) {
        await alterPointer(store, (document) => ({ ...document, ...change }))
        await refusedWith(given, "bad-signature")
        await store.put(POINTER, good)
      }
      await alterPointer(store, ({ signed: _, ...document }) => document)
      await refusedWith(given, "unsigned")
      await store.put(POINTER, good)
      // What no statement has is free to change: a collection does.
      await alterPointer(store, (document) => ({ ...document, condemned: ["a1b2c3d4e5f6"] }))
      await using reader = await given.open()
      expect(reader.snapshot.signedBy).toEqual([A.id])
    }))

  it("none whose manifest was altered, whatever the seal says, and before it is parsed", () =>
    withRoot(async (given) => {
      const { store, build } = given
      const run = await build({ signKey: A.sign })
      const { manifest } = (await readPointer(store))!
      const good = (await store.get(manifest))!.body
      const { sha256: _, ...document } = unseal(good, manifest)
      const { signatures, ...unsigned } = document
      expect(signatures).toHaveLength(1)
      const text = Buffer.from(good).toString()
      const block = text.slice(
        text.indexOf(',\n  "signatures"'),
        text.indexOf(',\n  "sha256": "', text.length - 90),
      )
      const altered = [
        seal({ ...document, custom: { team: "others" } }),
        seal(unsigned),
        // The block of signatures as it was, below other content.
        seal({ ...unsigned, custom: { team: "others" } }, () => block),
        Buffer.from("{"),
      ]
      for (const bytes of altered) {
        await store.put(manifest, bytes)
        await refusedWith(given, "other-manifest")
        await refusedWith(given, "other-manifest", { snapshot: run })
      }
      await store.put(manifest, good)
      await build({ signKey: A.sign })
      const reasons = ["unsigned", "unsigned", "bad-signature", "unsigned"] as const
      for (const [i, why] of reasons.entries()) {
        await store.put(manifest, altered[i]!)
        await refusedWith(given, why, { snapshot: run })
      }
    }))

  it("no older publication than it has seen, in this process or another, until that is forgotten", () =>
    withRoot(async (given) => {
      const { store, build, open, cacheDir } = given
      const first = await build({ signKey: A.sign })
      const old = (await store.get(POINTER))!.body
      const second = await build({ signKey: A.sign })
      await using reader = await open()
      await store.put(POINTER, old)
      await expect(reader.refresh()).rejects.toMatchObject(distrust("number-went-back"))
      expect(reader.snapshot.run).toBe(second)
      await refusedWith(given, "number-went-back")
      // Whoever has not seen the second one can't tell.
      await using stranger = await open({ cacheDir: join(cacheDir, "other") })
      expect(stranger.snapshot.run).toBe(first)
      // The next publication is above all that were seen, although it counts on from the old pointer.
      const third = await build({ signKey: A.sign })
      expect(await reader.refresh()).toMatchObject({ to: third })
      await store.put(POINTER, old)
      await refusedWith(given, "number-went-back")
      await rm(join(cacheDir, ".seen"), { recursive: true })
      await using believer = await open()
      expect(believer.snapshot.run).toBe(first)
      expect(await readdir(join(cacheDir, ".seen"))).toHaveLength(1)
    }))

  it("and keeps what it has when the root is no longer signed, says so, and goes on when it is again", () =>
    withRoot(async ({ build, open }) => {
      const first = await build({ signKey: A.sign })
      await using reader = await open()
      const failures: unknown[] = []
      reader.on("refresh-failed", ({ error }) => failures.push(error))
      await build({ unsigned: true })
      await expect(reader.refresh()).rejects.toMatchObject(distrust("unsigned"))
      expect(failures).toMatchObject([distrust("unsigned")])
      expect((await reader.search(QUERY, ALL)).snapshot).toBe(first)
      expect(await reader.health()).toMatchObject({
        status: "degraded",
        reasons: expect.arrayContaining([expect.stringContaining("_CURRENT is not signed")]),
      })
      const third = await build({ signKey: A.sign })
      expect(await reader.refresh()).toMatchObject({ to: third })
      expect(await reader.health()).toMatchObject({ status: "healthy", reasons: [] })
    }))
})

describe("who publishes", () => {
  it("leaves no signed root unsigned without saying so, whatever moves the pointer", () =>
    withRoot(async ({ store, build }) => {
      const first = await build({ signKey: A.sign })
      const second = await build({ signKey: A.sign })
      const before = (await store.get(POINTER))!.body
      const refused = {
        tag: "InvalidInput",
        message: expect.stringMatching(new RegExp(`signed by key ${A.id}.*--sign-key.*--unsigned`)),
      }
      await expect(build()).rejects.toMatchObject(refused)
      await expect(rollback(store)).rejects.toMatchObject(refused)
      const stored = await build({ publish: false })
      await expect(publishRun(store, stored, { force: true })).rejects.toMatchObject(refused)
      expect((await store.get(POINTER))!.body).toEqual(before)
      await store.delete([POINTER])
      await expect(repairPointer(store, { snapshot: second })).rejects.toMatchObject(refused)
      await store.put(POINTER, Buffer.from("damaged"))
      await expect(repairPointer(store, { snapshot: second })).rejects.toMatchObject(refused)
      await store.put(POINTER, before)
      expect((await rollback(store, { unsigned: true })).publication).toMatchObject({ run: first })
      expect((await readPointer(store))!.signed).toBeUndefined()
    }))

  it("is told by verify what is not signed, and by eval", () =>
    withRoot(async ({ store, build }) => {
      const first = await build({ signKey: B.sign })
      const second = await build({ signKey: A.sign })
      const trusted = { trustedKeys: [A.trust] }
      expect(await verifyRoot(store, trusted)).toMatchObject({ intact: true, signedBy: [A.id] })
      const all = await verifyRoot(store, { ...trusted, snapshot: "all" })
      expect(all.faults).toMatchObject([
        { message: expect.stringContaining(`by key ${B.id}`), runs: [first] },
      ])
      await build({ unsigned: true })
      const report = await verifyRoot(store, trusted)
      expect(report).toMatchObject({ intact: false, signedBy: undefined })
      expect(report.faults.map(({ message }) => message)).toEqual([
        expect.stringContaining("_CURRENT is not signed"),
        expect.stringMatching(/^manifests\/.* is not signed/),
      ])
      expect((await verifyRoot(store)).intact).toBe(true)
      const measured = { sample: 5, ks: [1], probes: [1] }
      await expect(evaluateSnapshot(store, { ...measured, ...trusted })).rejects.toMatchObject(
        distrust("unsigned"),
      )
      await expect(
        evaluateSnapshot(store, { ...measured, ...trusted, snapshot: first }),
      ).rejects.toMatchObject(distrust("unknown-key"))
      expect((await readHistory(store)).publications.map(({ publication }) => publication)).toMatchObject([
        { action: "publish" },
        { run: second, signedBy: [A.id] },
        { run: first, signedBy: [B.id] },
      ])
    }))

  it("signs no snapshot that none of its keys has signed", () =>
    withRoot(async ({ store, build, open }) => {
      const foreign = await build({ signKey: B.sign })
      const mine = await build({ signKey: A.sign })
      const unsigned = await build({ publish: false })
      await expect(rollback(store, { signKey: A.sign })).rejects.toMatchObject(distrust("unknown-key"))
      await expect(publishRun(store, unsigned, { signKey: A.sign, force: true })).rejects.toMatchObject(
        distrust("unsigned"),
      )
      expect((await readPointer(store))!.run).toBe(mine)
      await rollback(store, { signKey: A.sign, trustedKeys: [B.trust] })
      await using reader = await open()
      expect(reader.snapshot).toMatchObject({ run: foreign, signedBy: [A.id] })
    }))

  it("reuses no shard of a live snapshot that none of its keys vouches for", () =>
    withRoot(async ({ store, build }) => {
      const warnings: unknown[] = []
      const warn = (_: object, message: string) => void warnings.push(message)
      const logger = { debug() {}, info() {}, warn, error() {} } as never
      const reused = async (options: Partial<BuildOptions>) =>
        (await buildSnapshot(RECORDS, { ...BUILD, to: store, logger, ...options })).shards.reused
      await build()
      expect(await reused({ signKey: A.sign })).toBe(0)
      expect(warnings).toEqual(["no shard of the live snapshot is reused"])
      expect(await reused({ signKey: A.sign })).toBe(2)
      expect(await reused({ signKey: B.sign })).toBe(0)
      expect(await reused({ signKey: A.sign, trustedKeys: [B.trust] })).toBe(2)
      // A pointer that was put there by somebody else vouches for nothing, even if it names a manifest of ours.
      await alterPointer(store, ({ signed: _, ...document }) => document)
      expect(await reused({ signKey: A.sign })).toBe(2)
      const { manifest } = (await readPointer(store))!
      const { sha256: _, signatures, ...document } = unseal((await store.get(manifest))!.body, manifest)
      await store.put(manifest, seal({ ...document, custom: { altered: true } }))
      expect(await reused({ signKey: A.sign })).toBe(0)
    }))

  it("repairs a pointer that is not to be believed, and passes over what nobody vouches for", () =>
    withRoot(async ({ store, build, open }) => {
      const first = await build({ signKey: A.sign })
      await build({ unsigned: true })
      const report = await repairPointer(store, { signKey: A.sign })
      expect(report).toMatchObject({
        now: first,
        plan: { problem: expect.stringContaining("_CURRENT is not signed") },
      })
      expect(report.plan!.rejected).toMatchObject([
        { reason: expect.stringContaining("is not signed again") },
      ])
      await using reader = await open()
      expect(reader.snapshot.run).toBe(first)
    }))

  it("says what it wants: a key, or none, and keys that there are", () =>
    withRoot(async ({ build }) => {
      const refused = (message: RegExp) => ({ tag: "InvalidInput", message: expect.stringMatching(message) })
      await expect(build({ signKey: A.sign, unsigned: true })).rejects.toMatchObject(refused(/exclude/))
      await expect(build({ signKey: [] })).rejects.toMatchObject(refused(/signKey is an empty list/))
      await expect(build({ trustedKeys: [A.trust] })).rejects.toMatchObject(refused(/needs signKey/))
    }))
})
