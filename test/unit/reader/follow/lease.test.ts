import { randomUUID } from "node:crypto"
import { describe, expect, it } from "vitest"
import { unavailable } from "../../../../src/errors.js"
import { silentLogger } from "../../../../src/logger.js"
import { listReaderLeases } from "../../../../src/manifest/reader-lease.js"
import { createSnapshotLease } from "../../../../src/reader/follow/lease.js"
import { openMemoryStore } from "../../../../src/storage/memory.js"
import type { ObjectStore } from "../../../../src/storage/store.js"
import { runId } from "../../../support/roots.js"

const [A, B] = ["a", "b"].map(runId) as [string, string]

function setUp(option: true | { seconds: number } = { seconds: 40 }) {
  const store = openMemoryStore(randomUUID())
  let nowMs = 0
  let beat = (): void => {}
  const beats: number[] = []
  let isDown = false
  const failing: ObjectStore = {
    ...store,
    url: store.url,
    get: (key, options) => store.get(key, options),
    put: async (key, body, options) => {
      if (isDown) throw unavailable("HTTP 503")
      return store.put(key, body, options)
    },
    delete: (keys, options) => store.delete(keys, options),
  }
  const lease = createSnapshotLease(failing, option, silentLogger, {
    nowMs: () => nowMs,
    every: (ms, callback) => {
      beats.push(ms)
      beat = callback
      return () => {
        beat = () => {}
      }
    },
  })!
  return {
    lease,
    beats,
    async beatAt(ms: number) {
      nowMs = ms
      beat()
      await new Promise((resolve) => setImmediate(resolve))
    },
    setDown: (down: boolean) => {
      isDown = down
    },
    async stored() {
      const found: (readonly string[] | undefined)[] = []
      for await (const { lease } of listReaderLeases(store)) found.push(lease?.runs)
      return found
    },
  }
}

describe("the lease of a reader", () => {
  it("names what is open, counted, and is renewed four times before it would end", async () => {
    const { lease, beats, beatAt, stored } = setUp()
    await lease.protect(A, undefined)
    await lease.protect(B, undefined)
    await lease.protect(A, undefined)
    expect(beats).toEqual([10_000])
    expect(await stored()).toEqual([[A, B]])
    lease.release(A)
    lease.release(B)
    await beatAt(10_000)
    expect(await stored()).toEqual([[A]])
    await lease.end()
    expect(await stored()).toEqual([])
    await beatAt(20_000)
    expect(await stored()).toEqual([])
  })

  it("fails who opens if it can't be written, and later says so when it is over", async () => {
    const { lease, beatAt, setDown } = setUp()
    setDown(true)
    await expect(lease.protect(A, undefined)).rejects.toMatchObject({ tag: "Unavailable" })
    setDown(false)
    await lease.protect(A, undefined)
    setDown(true)
    await beatAt(40_000)
    expect(lease.over()).toBeUndefined()
    await beatAt(40_001)
    expect(lease.over()).toBe("the lease of this reader is over, since it was not renewed for 40 s: HTTP 503")
    setDown(false)
    await beatAt(50_000)
    expect(lease.over()).toBeUndefined()
  })

  it("is refused for no time at all and for more than a day", () => {
    for (const seconds of [0, Number.NaN, 86_401])
      expect(() => setUp({ seconds })).toThrow("option lease.seconds")
    expect(createSnapshotLease(openMemoryStore("x"), false, silentLogger)).toBeUndefined()
  })
})
