import { describe, expect, it } from "vitest"
import { unavailable } from "../../../src/errors.js"
import { listPins, pin, unpin } from "../../../src/maintenance/pins.js"
import { readPointer } from "../../../src/manifest/current.js"
import { findManifest } from "../../../src/manifest/history.js"
import { POINTER_KEY, pinKey } from "../../../src/manifest/keys.js"
import { withCondemned } from "../../../src/manifest/pointer.js"
import { swapPointer } from "../../../src/manifest/publish.js"
import type { ObjectStore } from "../../../src/storage/store.js"
import { publishSnapshot, runId, type TimedStore, timedStore } from "../../support/roots.js"

const A = runId("a")
const B = runId("b")

/** A, then B, which is live. */
async function twoSnapshots(): Promise<TimedStore> {
  const timed = timedStore()
  await publishSnapshot(timed, A)
  await publishSnapshot(timed, B)
  return timed
}

/** `store`, where `act` comes first whenever the pointer is read. */
const beforePointer = (store: ObjectStore, act: () => Promise<unknown>): ObjectStore => ({
  ...store,
  async get(key, options) {
    if (key === POINTER_KEY) await act()
    return store.get(key, options)
  },
})

async function condemn(store: ObjectStore, run: string): Promise<void> {
  const live = (await readPointer(store))!
  await swapPointer(store, live, withCondemned(live, [run]))
}

async function confirmations(store: ObjectStore): Promise<readonly (boolean | undefined)[]> {
  const found: (boolean | undefined)[] = []
  for await (const { pin } of listPins(store)) found.push(pin?.confirmed)
  return found
}

describe("a pin", () => {
  it("is confirmed, keeps its note, and lasts until it is taken back", async () => {
    const { store } = await twoSnapshots()
    expect(await pin(store, A, { note: "for the audit" })).toMatchObject({ run: A, confirmed: true })
    for await (const found of listPins(store))
      expect(found).toMatchObject({ run: A, pin: { note: "for the audit", confirmed: true } })
    expect(await unpin(store, A)).toBe(true)
    expect(await confirmations(store)).toEqual([])
  })

  it("of what is not there is refused before anything is written", async () => {
    const { store } = await twoSnapshots()
    await expect(pin(store, runId("c"))).rejects.toMatchObject({ tag: "NotFound" })
    expect(await confirmations(store)).toEqual([])
  })

  it("is refused, and never confirmed, if a collection has condemned or removed the snapshot meanwhile", async () => {
    const { store } = await twoSnapshots()
    const { key } = await findManifest(store, A)
    const removed = beforePointer(store, () => store.delete([key]))
    await expect(pin(removed, A)).rejects.toMatchObject({ tag: "NotFound" })
    const other = await twoSnapshots()
    const condemned = beforePointer(other.store, () => condemn(other.store, A))
    await expect(pin(condemned, A)).rejects.toMatchObject({ tag: "NotFound" })
    expect(await confirmations(store)).toEqual([false])
    expect(await confirmations(other.store)).toEqual([false])
  })

  it.each<[string, (store: ObjectStore) => Promise<unknown>]>([
    [
      "the store does not answer",
      async () => {
        throw unavailable("no answer")
      },
    ],
    ["the snapshot is condemned", (store) => condemn(store, A)],
  ])("that another has confirmed meanwhile stays when this one fails since %s", async (_, fail) => {
    const { store } = await twoSnapshots()
    const failing = beforePointer(store, async () => {
      await pin(store, A)
      await fail(store)
    })
    await expect(pin(failing, A)).rejects.toMatchObject({
      tag: expect.stringMatching(/Unavailable|NotFound/),
    })
    expect(await store.head(pinKey(A))).toBeDefined()
    expect(await confirmations(store)).toEqual([true])
  })

  it("that was not confirmed is confirmed by the next attempt", async () => {
    const { store } = await twoSnapshots()
    const failing = beforePointer(store, async () => {
      throw unavailable("no answer")
    })
    await expect(pin(failing, A)).rejects.toMatchObject({ tag: "Unavailable" })
    await pin(store, A)
    expect(await confirmations(store)).toEqual([true])
  })
})
