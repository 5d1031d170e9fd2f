import { readdir } from "node:fs/promises"
import { describe, expect, it } from "vitest"
import { run } from "../../cli/run.js"
import { buildSnapshot, openStore, repairPointer, verifyRoot } from "../../src/index.js"
import { encodeManifest } from "../../src/manifest/codec.js"
import { readLive, readManifest, readPointer } from "../../src/manifest/current.js"
import { findManifest } from "../../src/manifest/history.js"
import { POINTER_KEY, parseKey, runKey } from "../../src/manifest/keys.js"
import type { Manifest } from "../../src/manifest/manifest.js"
import { publishManifest } from "../../src/manifest/publish.js"
import type { ObjectStore } from "../../src/storage/store.js"
import { FIELDS, makeRecords } from "../support/records.js"
import { withTempDir } from "../support/stores.js"
import { captureIo } from "../unit/cli/capture.js"

const RECORDS = makeRecords(120, { dim: 6 })
let roots = 0

interface Root {
  readonly store: ObjectStore
  build(options?: { publish?: boolean; seed?: number; backend?: "sqlite-vec" | "lancedb" }): Promise<string>
}

function newRoot(): Root {
  const store = openStore(`memory://verify-${roots++}`)
  return {
    store,
    async build({ publish = true, seed = 7, backend = "sqlite-vec" } = {}) {
      const records = seed === 7 ? RECORDS : makeRecords(120, { dim: 6, seed })
      const sharding = { strategy: "cluster", shards: 3 } as const
      const report = await buildSnapshot(records, { to: store, backend, fields: FIELDS, sharding, publish })
      return report.run
    },
  }
}

async function keysOf(store: ObjectStore): Promise<string[]> {
  const keys: string[] = []
  for await (const { key } of store.list("")) keys.push(key)
  return keys
}

async function change(store: ObjectStore, key: string, edit: (body: Buffer) => Uint8Array): Promise<void> {
  const object = await store.get(key)
  await store.put(key, edit(Buffer.from(object!.body)))
}

const flip = (body: Buffer): Buffer => {
  body[body.length >> 1]! ^= 0x20
  return body
}

/** Writes the live manifest anew, with a seal that fits. */
async function reseal(store: ObjectStore, edit: (manifest: Manifest) => Manifest): Promise<void> {
  const { pointer, manifest } = await readLive(store)
  await store.put(pointer.manifest, encodeManifest(edit(manifest)))
}

/** All faults as keys and messages. */
async function faultsOf(
  store: ObjectStore,
  deep = true,
): Promise<readonly { key: string; message: string }[]> {
  const { faults, intact } = await verifyRoot(store, { deep })
  expect(intact).toBe(faults.length === 0)
  return faults.map(({ key, message }) => ({ key, message }))
}

describe.each(["sqlite-vec", "lancedb"] as const)("a deep verification of a %s snapshot", (backend) => {
  it("finds nothing in an intact one, counts all of it, and leaves no file behind", async () => {
    const { store, build } = newRoot()
    const run = await build({ backend })
    const { manifest } = await readLive(store)
    await withTempDir(async (tempDir) => {
      const report = await verifyRoot(store, { deep: true, tempDir })
      expect(report).toMatchObject({ intact: true, deep: true, live: run, faults: [] })
      expect(report.checked).toMatchObject({ shards: manifest.shards.length, rows: 120 })
      const objects = (await keysOf(store)).filter((key) => parseKey(key)?.kind !== "run")
      expect(report.checked.objects).toBe(objects.length)
      expect(await readdir(tempDir)).toEqual([])
    })
  })

  it("finds a byte that changed, a cut and a missing object of every kind, and all of them at once", async () => {
    const { store, build } = newRoot()
    await build({ backend })
    const keys = (await keysOf(store)).filter((key) => parseKey(key)?.kind !== "run")
    expect(keys.length).toBeGreaterThan(6)
    for (const key of keys) {
      const { body } = (await store.get(key))!
      for (const damage of [flip, (body: Buffer) => body.subarray(1)]) {
        await change(store, key, damage)
        expect((await faultsOf(store)).map((fault) => fault.key)).toEqual([key])
      }
      if (key !== POINTER_KEY) {
        await store.delete([key])
        expect(await faultsOf(store)).toEqual([{ key, message: `${key} is missing` }])
      }
      await store.put(key, body)
    }
    const files = keys.filter((key) => /^(shards|routing)/.test(key))
    for (const key of files) await change(store, key, flip)
    expect((await faultsOf(store)).map(({ key }) => key).sort()).toEqual(files)
  })

  it("finds row counts that are not those of a manifest whose seal fits", async () => {
    const { store, build } = newRoot()
    await build({ backend })
    const [first, second] = (await readLive(store)).manifest.shards
    await reseal(store, (manifest) => ({
      ...manifest,
      shards: manifest.shards.map((entry, i) =>
        i === 0 ? { ...entry, rows: entry.rows - 1 } : i === 1 ? { ...entry, rows: entry.rows + 1 } : entry,
      ),
    }))
    const file = backend === "lancedb" ? "vectors.lance" : "shard.db"
    expect(await faultsOf(store, false)).toEqual([])
    expect((await faultsOf(store)).map(({ message }) => message)).toEqual([
      `${first!.folder}/${file} has ${first!.rows} rows, the manifest says ${first!.rows - 1}`,
      `${second!.folder}/${file} has ${second!.rows} rows, the manifest says ${second!.rows + 1}`,
    ])
  })

  it("finds shards that stand in each other's place, by the locator", async () => {
    const { store, build } = newRoot()
    await build({ backend })
    const { manifest } = await readLive(store)
    await reseal(store, (manifest) => {
      const [a, b, ...rest] = manifest.shards
      return { ...manifest, shards: [{ ...b!, shard: a!.shard }, { ...a!, shard: b!.shard }, ...rest] }
    })
    const swapped = manifest.shards[0]!.rows + manifest.shards[1]!.rows
    const faults = await faultsOf(store)
    expect(faults.map(({ key }) => key)).toEqual([manifest.locator!.key, manifest.locator!.key])
    expect(faults[0]!.message).toContain(`does not lead to ${swapped} ids, the first "id-`)
    expect(faults[1]!.message).toContain(`names ${swapped} ids that are not in their shards`)
  })

  it("finds ids that are in two shards", async () => {
    const { store, build } = newRoot()
    await build({ backend })
    const { pointer, manifest } = await readLive(store)
    const { rows } = manifest.shards[0]!
    await reseal(store, (manifest) => {
      const [a, b] = manifest.shards
      const shards = [a!, { ...a!, shard: b!.shard }]
      return { ...manifest, shards, rows: 2 * rows, locator: undefined }
    })
    const faults = await faultsOf(store)
    expect(faults.map(({ key }) => key)).toEqual([pointer.manifest])
    expect(faults[0]!.message).toMatch(
      new RegExp(`: ${rows} rows repeat an id of another row, the first "id-\\d+" in shards 0 and 1$`),
    )
  })
})

describe("verification", () => {
  it("without deep finds what is missing or has another size, and artifacts and indexes that are damaged", async () => {
    const { store, build } = newRoot()
    await build()
    const { manifest } = await readLive(store)
    const [shard] = manifest.shards
    const file = `${shard!.folder}/${shard!.files[0]!.name}`
    await change(store, file, flip)
    expect(await faultsOf(store, false)).toEqual([])
    await change(store, file, (body) => body.subarray(1))
    const { size } = shard!.files[0]!
    expect(await faultsOf(store, false)).toEqual([
      { key: file, message: `${file} has ${size - 1} bytes, the manifest says ${size}` },
    ])
    await change(store, manifest.artifacts[0]!.key, flip)
    await change(store, manifest.locator!.key, (body) => {
      body[body.length - 1]! ^= 1
      return body
    })
    expect((await faultsOf(store, false)).map(({ key }) => key)).toEqual([
      file,
      manifest.artifacts[0]!.key,
      manifest.locator!.key,
    ])
  })

  it("checks all snapshots or one, and what they share once", async () => {
    const { store, build } = newRoot()
    const older = await build()
    const live = await build()
    const { manifest } = await readLive(store)
    const file = `${manifest.shards[0]!.folder}/${manifest.shards[0]!.files[0]!.name}`
    expect(parseKey(file)).toMatchObject({ run: older })
    let downloads = 0
    const counting: ObjectStore = {
      ...Object.fromEntries(
        ["get", "getIfChanged", "head", "list"].map((name) => [name, store[name as "get"].bind(store)]),
      ),
      url: store.url,
      getFile: (...args: Parameters<ObjectStore["getFile"]>) => {
        if (args[0].startsWith("shards/")) downloads++
        return store.getFile(...args)
      },
    } as ObjectStore
    const report = await verifyRoot(counting, { snapshot: "all", deep: true })
    expect(report.snapshots.map(({ run, live }) => [run, live])).toEqual([
      [live, true],
      [older, false],
    ])
    expect(report).toMatchObject({ intact: true, checked: { rows: 120, shards: 3 } })
    expect(downloads).toBe(6)

    await store.delete([file])
    const damaged = await verifyRoot(store, { snapshot: "all" })
    expect(damaged.faults).toMatchObject([{ key: file, runs: [live, older] }])
    const one = await verifyRoot(store, { snapshot: older })
    expect(one.faults).toMatchObject([{ key: file, runs: [older] }])
    expect(one.faults[0]!.advice).toContain("the live snapshot does not need it")
  })

  it("is NotFound where nothing is published, and throws what the store throws", async () => {
    const { store, build } = newRoot()
    await expect(verifyRoot(store)).rejects.toMatchObject({ tag: "NotFound" })
    await build({ publish: false })
    await expect(verifyRoot(store)).rejects.toMatchObject({ tag: "NotFound" })
    expect(await verifyRoot(store, { snapshot: "all" })).toMatchObject({ intact: true, live: undefined })
    await build()
    const failing: ObjectStore = Object.create(store, {
      head: { value: async () => Promise.reject(Object.assign(new Error("down"), { tag: "Unavailable" })) },
    })
    await expect(verifyRoot(failing)).rejects.toThrow("down")
  })

  it("has a command line: exit code 6 and a line per fault, or JSON", async () => {
    const { store, build } = newRoot()
    const runId = await build()
    const good = captureIo()
    expect(await run(["verify", store.url, "--deep"], good)).toBe(0)
    expect(good.out()).toMatch(
      /^intact: 1 snapshot, 10 objects of .*, 3 shards, 120 rows read and compared\n$/,
    )

    const { manifest } = await readLive(store)
    const { key } = manifest.artifacts[0]!
    await store.delete([key])
    const bad = captureIo()
    expect(await run(["verify", store.url], bad)).toBe(6)
    expect(bad.out().split("\n")[0]).toBe(
      `fault: ${key} is missing (snapshot ${runId}); restore the object, or make an intact snapshot live with --repair-pointer and build again`,
    )
    const json = captureIo()
    expect(await run(["verify", store.url, "--json"], json)).toBe(6)
    expect(JSON.parse(json.out())).toMatchObject({ intact: false, live: runId, faults: [{ key }] })
    expect(await run(["verify", "memory://verify-nothing"], captureIo())).toBe(3)
    expect(await run(["verify", store.url, "--all", "--snapshot", runId], captureIo())).toBe(2)
    expect(await run(["verify", store.url, "--all", "--repair-pointer"], captureIo())).toBe(2)
  })
})

describe("repair of the pointer", () => {
  const centroidsOf = (runId: string): string => `routing/${runId}/centroids.npy`

  it("does nothing where the live snapshot is intact", async () => {
    const { store, build } = newRoot()
    await build()
    const live = await build({ seed: 8 })
    const before = await readPointer(store)
    const io = captureIo()
    expect(await run(["verify", store.url, "--repair-pointer"], io)).toBe(0)
    expect(io.out()).toBe(`nothing to repair: the live snapshot ${live} is intact\n`)
    expect(await readPointer(store)).toEqual(before)
  })

  it("takes the newest of the history that is intact, and tells why not the others", async () => {
    const { store, build } = newRoot()
    const oldest = await build()
    const middle = await build({ seed: 8 })
    await build({ seed: 9, publish: false })
    const live = await build({ seed: 10 })
    await store.delete([centroidsOf(live), centroidsOf(middle)])
    const io = captureIo()
    expect(await run(["verify", store.url, "--repair-pointer"], io)).toBe(0)
    expect(io.err()).toBe(
      `${centroidsOf(live)} is missing\nnot ${middle}: ${centroidsOf(middle)} is missing\nmaking ${oldest} live in place of ${live}\n`,
    )
    expect(io.out()).toBe(`live was ${live}, live is ${oldest} now\n`)
    expect(await readPointer(store)).toMatchObject({ run: oldest, action: "repair", number: 4 })
  })

  it("notices damaged contents with deep only, of the live snapshot and of candidates", async () => {
    const { store, build } = newRoot()
    const oldest = await build()
    const middle = await build({ seed: 8 })
    const live = await build({ seed: 9 })
    for (const runId of [live, middle]) {
      const keys = (await keysOf(store)).filter((key) => key.startsWith(`shards/${runId}/`))
      await change(store, keys[0]!, flip)
    }
    expect((await repairPointer(store)).plan).toBeUndefined()
    expect(await repairPointer(store, { deep: true })).toMatchObject({ before: live, now: oldest })
  })

  it.each([
    ["damaged", (store: ObjectStore) => change(store, POINTER_KEY, flip)],
    ["missing", (store: ObjectStore) => store.delete([POINTER_KEY])],
  ])("takes the newest that was published where the pointer is %s", async (_, damage) => {
    const { store, build } = newRoot()
    const published = await build()
    const newest = await build({ seed: 8 })
    const unpublished = await build({ seed: 9, publish: false })
    await store.delete([centroidsOf(newest)])
    await damage(store)
    const report = await repairPointer(store)
    expect(report).toMatchObject({ before: undefined, now: published, plan: { knownPublished: true } })
    expect(report.plan!.rejected.map((rejected) => rejected.run)).toEqual([unpublished, newest])
    const pointer = await readPointer(store)
    expect(pointer).toMatchObject({ run: published, action: "repair" })
    // No build that began before takes the new pointer for the one it knew.
    if (_ === "damaged") expect(pointer!.number).toBeGreaterThan(1e9)
    expect((await verifyRoot(store)).intact).toBe(true)
  })

  it("takes a snapshot without a run record, but says that it may not have been published", async () => {
    const { store, build } = newRoot()
    const only = await build()
    await store.delete([POINTER_KEY, runKey(only)])
    const io = captureIo()
    expect(await run(["verify", store.url, "--repair-pointer"], io)).toBe(0)
    expect(io.err()).toContain(
      `making ${only} live in place of what can't be told, which is not known to have been published`,
    )
  })

  it("takes what was never published, or taken down by a rollback, only if it is named", async () => {
    const { store, build } = newRoot()
    const good = await build()
    const bad = await build({ seed: 8 })
    const { key } = await findManifest(store, good)
    const live = await readPointer(store)
    await publishManifest(store, key, await readManifest(store, key), { action: "rollback", expected: live })
    const unpublished = await build({ seed: 9, publish: false })
    await store.delete([centroidsOf(good)])
    await expect(repairPointer(store)).rejects.toMatchObject({
      tag: "Corrupt",
      message: expect.stringContaining(`${bad}: a rollback replaced it`),
    })
    expect((await readPointer(store))!.run).toBe(good)
    expect(await repairPointer(store, { snapshot: unpublished })).toMatchObject({
      before: good,
      now: unpublished,
    })
  })

  it("replaces no pointer that was repaired meanwhile", async () => {
    const { store, build } = newRoot()
    const older = await build()
    const live = await build({ seed: 8 })
    const { body } = (await store.get(POINTER_KEY))!
    await change(store, POINTER_KEY, flip)
    const racing: Promise<unknown>[] = []
    const work = repairPointer(store, {
      snapshot: older,
      onPlan: () => racing.push(store.put(POINTER_KEY, body)),
    })
    await expect(work).rejects.toMatchObject({ tag: "Conflict" })
    await Promise.all(racing)
    expect((await readPointer(store))!.run).toBe(live)
  })

  it("is NotFound where there is nothing at all", async () => {
    await expect(repairPointer(newRoot().store)).rejects.toMatchObject({ tag: "NotFound" })
  })
})
