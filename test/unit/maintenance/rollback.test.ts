import { randomUUID } from "node:crypto"
import { describe, expect, it } from "vitest"
import { readHistory } from "../../../src/maintenance/history.js"
import { type RollbackOptions, rollback } from "../../../src/maintenance/rollback.js"
import { readPointer } from "../../../src/manifest/current.js"
import { pinKey } from "../../../src/manifest/keys.js"
import { publishRun } from "../../../src/release/publish-run.js"
import { openMemoryStore } from "../../../src/storage/memory.js"
import type { ObjectStore } from "../../../src/storage/store.js"
import { publishTiny, storeTiny } from "../../support/tiny-snapshot.js"

const [A, B, C, D] = ["a", "b", "c", "d"].map((letter) => letter.repeat(12)) as [
  string,
  string,
  string,
  string,
]

async function rootWith(...runs: string[]): Promise<ObjectStore> {
  const store = openMemoryStore(randomUUID())
  for (const run of runs) await publishTiny(store, run)
  return store
}

const back = async (store: ObjectStore, options: RollbackOptions = {}): Promise<string> =>
  (await rollback(store, options)).publication.run

describe("rollback", () => {
  it("goes back step by step, and never to where it came from", async () => {
    const store = await rootWith(A, B, C)
    expect(await back(store)).toBe(B)
    expect(await back(store)).toBe(A)
    await expect(back(store)).rejects.toThrow("can't go back by 1 from run aaaaaaaaaaaa")
    expect(await back(store, { to: C })).toBe(C)
    expect(await back(store, { steps: 2 })).toBe(A)
    expect(await readPointer(store)).toMatchObject({ run: A, number: 7, action: "rollback" })
  })

  it("refuses what was never published, what is live, and what is gone", async () => {
    const store = await rootWith(A, B)
    const { key } = await storeTiny(store, C)
    await expect(back(store, { to: C })).rejects.toMatchObject({ tag: "NotFound" })
    await expect(back(store, { to: B })).rejects.toMatchObject({ tag: "InvalidInput" })
    await expect(back(store, { to: "B" })).rejects.toMatchObject({ tag: "InvalidInput" })
    await expect(back(store, { to: A, steps: 1 })).rejects.toMatchObject({ tag: "InvalidInput" })
    await expect(back(store, { steps: 0 })).rejects.toMatchObject({ tag: "InvalidInput" })
    await store.delete([`shards/${A}/00000/0/shard.db`])
    await expect(back(store)).rejects.toMatchObject({ tag: "Corrupt" })
    await store.delete([key.replace(C, A)])
    await expect(back(store)).rejects.toThrow("snapshot aaaaaaaaaaaa at")
    expect((await readPointer(store))!.run).toBe(B)
  })

  it("keeps a build that began before from publishing over it", async () => {
    const store = await rootWith(A, B)
    const { number } = (await readPointer(store))!
    await storeTiny(store, C, { base: B, basePublication: number })
    await back(store)
    await expect(publishRun(store, C)).rejects.toMatchObject({ tag: "Conflict" })
    // Neither when what it started from is live again.
    await back(store, { to: B })
    await expect(publishRun(store, C)).rejects.toThrow("run bbbbbbbbbbbb is again")
    expect(await publishRun(store, C, { force: true })).toMatchObject({ replaced: B })
  })
})

describe("publishing a stored run", () => {
  it("replaces what was live when the run started, once", async () => {
    const store = await rootWith(A)
    const { number } = (await readPointer(store))!
    await storeTiny(store, B, { base: A, basePublication: number })
    expect(await publishRun(store, B)).toMatchObject({ replaced: A, publication: { number: 2 } })
    expect(await publishRun(store, B)).toMatchObject({ replaced: B, publication: { number: 2 } })
    await expect(publishRun(store, D)).rejects.toMatchObject({ tag: "NotFound" })
    await expect(publishRun(store, "x")).rejects.toMatchObject({ tag: "InvalidInput" })
  })
})

describe("history", () => {
  it("lists publications, newest first, with what became of them", async () => {
    const store = await rootWith(A, B, C)
    await rollback(store, { to: A })
    await storeTiny(store, D)
    await store.put(pinKey(B), Buffer.from("{}"))
    const [first] = (await readHistory(store)).publications
    await store.delete([first!.key.replace(A, C)])

    const { live, publications, unpublished, total } = await readHistory(store)
    expect(live!.run).toBe(A)
    expect(
      publications.map(({ run, publication, replacedBy, pinned, problem, manifest, ...entry }) => [
        publication.number,
        run,
        publication.action,
        entry.live,
        replacedBy?.run,
        pinned,
        manifest?.rows ?? problem,
      ]),
    ).toEqual([
      [4, A, "rollback", true, undefined, false, 1],
      [3, C, "publish", false, A, false, "collected"],
      [2, B, "publish", false, C, true, 1],
      [1, A, "publish", false, B, false, 1],
    ])
    expect(unpublished.map(({ run }) => run)).toEqual([D])
    expect(total).toBe(4)
    const limited = await readHistory(store, { limit: 1 })
    expect([limited.publications.length, limited.total]).toEqual([1, 4])
  })

  it("lists what waits to be published, and says so where nothing is", async () => {
    const store = openMemoryStore(randomUUID())
    await expect(readHistory(store)).rejects.toMatchObject({ tag: "NotFound" })
    await storeTiny(store, A)
    const { live, publications, unpublished } = await readHistory(store)
    expect([live, publications, unpublished.map(({ run }) => run)]).toEqual([undefined, [], [A]])
  })
})
