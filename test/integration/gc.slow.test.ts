import { setTimeout } from "node:timers/promises"
import { describe, expect, it } from "vitest"
import { buildSnapshot, collect, openSnapshot, openStore, pin, unpin } from "../../src/index.js"
import type { ObjectStore } from "../../src/storage/store.js"
import { runCli } from "../support/cli.js"
import { FIELDS, makeRecords } from "../support/records.js"
import { keysOf } from "../support/roots.js"
import { s3Root, type TestRoot, withTempDir } from "../support/stores.js"

const BUILD = { sharding: { strategy: "explicit", shards: 2 }, fields: FIELDS } as const
// A HEAD on S3 cuts times to the second, which a listing may not do: an object may seem to be of the next second.
const nextSecond = () => setTimeout(1500)
const NOW = { graceSeconds: 0, keepUnpublishedDays: 0, keepLast: 1 }

/** Two snapshots, of which shard 1 is the same; the second is live. Returns their runs. */
async function buildTwo({ url, store }: TestRoot): Promise<readonly [string, string]> {
  const records = makeRecords(20, { dim: 4, shards: 2 })
  const first = await buildSnapshot(records, { to: url, store, ...BUILD })
  const changed = records.map((record) => (record.shard === 0 ? { ...record, payload: "new" } : record))
  const second = await buildSnapshot(changed, { to: url, store, ...BUILD })
  expect(second.shards.reused).toBe(1)
  await nextSecond()
  return [first.run, second.run]
}

const onEach = (
  name: string,
  test: (root: TestRoot, store: ObjectStore, cacheDir: string) => Promise<void>,
) => {
  const withRoot = (root: TestRoot, dir: string) => async (): Promise<void> => {
    const store = openStore(root.url, root.store)
    try {
      await test(root, store, `${dir}/cache`)
    } finally {
      store.close()
    }
  }
  it(`${name}, in a directory`, () =>
    withTempDir((dir) => withRoot({ url: `${dir}/root`, store: {} }, dir)()))
  it(`${name}, on S3`, () => withTempDir((dir) => withRoot(s3Root("gc"), dir)()))
}

describe("collection", () => {
  onEach(
    "keeps the shard that the live snapshot shares, and what is pinned",
    async (root, store, cacheDir) => {
      const [first, second] = await buildTwo(root)
      await pin(store, first, { note: "test" })
      expect((await collect(store, { ...NOW, yes: true })).removed.snapshots).toEqual([])
      expect(await unpin(store, first)).toBe(true)
      expect(await unpin(store, first)).toBe(false)
      const report = await collect(store, { ...NOW, yes: true })
      expect(report.removed.snapshots).toMatchObject([{ run: first }])
      // Shard 0, of two files, and the id locator of the first; its shard 1 is the second's, too.
      expect(report.removed.byKind).toMatchObject({ shard: { objects: 2 }, routing: { objects: 1 } })
      expect((await keysOf(store)).filter((key) => key.startsWith(`shards/${first}/`))).toHaveLength(2)
      await using reader = await openSnapshot(root.url, { store: root.store, cacheDir })
      expect(reader.snapshot.run).toBe(second)
      expect((await reader.search([1, 2, 3, 4], { shards: "all", k: 20 })).hits).toHaveLength(20)
      await expect(pin(store, first)).rejects.toMatchObject({ tag: "NotFound" })
      expect((await keysOf(store)).filter((key) => key.startsWith("pins/"))).toEqual([])
    },
  )

  onEach("leaves alone what a reader with a lease has open", async (root, store, cacheDir) => {
    const records = makeRecords(20, { dim: 4, shards: 2 })
    const build = (payload: string) =>
      buildSnapshot(
        records.map((record) => ({ ...record, payload })),
        { to: root.url, store: root.store, ...BUILD },
      )
    const first = await build("old")
    const reader = await openSnapshot(root.url, { store: root.store, cacheDir, lease: true })
    const leases = async () => (await keysOf(store)).filter((key) => key.startsWith("readers/"))
    expect(await leases()).toHaveLength(1)
    const second = await build("new")
    await nextSecond()
    const kept = await collect(store, { ...NOW, yes: true })
    expect(kept.kept).toMatchObject([
      { run: second.run, reasons: ["live"] },
      { run: first.run, reasons: [expect.stringMatching(/^open in a reader/)] },
    ])
    const { hits } = await reader.search([1, 2, 3, 4], { shards: "all", k: 1 })
    expect(hits[0]!.payload).toBe("old")
    await reader.refresh()
    await reader.close()
    expect(await leases()).toEqual([])
    expect((await collect(store, { ...NOW, yes: true })).removed.snapshots).toMatchObject([
      { run: first.run },
    ])
  })
})

describe("vecsnap gc, pin and unpin", () => {
  it("show, remove, keep", async () => {
    await withTempDir(async (dir) => {
      const [first, second] = await buildTwo({ url: dir, store: {} })
      const wait = ["--keep-last", "1", "--grace", "0.001s"]
      const pinned = await runCli(["pin", dir, first, "--note", "why"])
      expect(pinned).toMatchObject({ code: 0, stdout: expect.stringContaining(`${first} is pinned`) })
      expect((await runCli(["gc", dir, ...wait, "--yes"])).stdout).toMatch(/removed: 0 snapshots, /)
      expect((await runCli(["unpin", dir, first, "--json"])).stdout).toContain('"wasPinned":true')
      const dry = await runCli(["gc", dir, ...wait])
      expect(dry.stdout).toContain(`${second}  live\n`)
      expect(dry.stdout).toMatch(new RegExp(`would go +manifest\n${first}  manifests/`))
      expect(dry.stdout).toMatch(
        /would go: 1 snapshot, 4 objects, .*\n\n?dry run: nothing was removed; add --yes\n$/,
      )
      const real = JSON.parse((await runCli(["gc", dir, ...wait, "--yes", "--json"])).stdout)
      expect(real).toMatchObject({ dryRun: false, removed: { objects: 4, snapshots: [{ run: first }] } })
      expect((await runCli(["pin", dir, first])).code).not.toBe(0)
      expect((await runCli(["gc", dir, "--keep-last", "0"])).code).toBe(2)
    })
  })
})
