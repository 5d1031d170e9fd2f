import { randomUUID } from "node:crypto"
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest"
import { POINTER_KEY } from "../../../../src/manifest/keys.js"
import { KnownPointer } from "../../../../src/reader/follow/pointer.js"
import { openMemoryStore } from "../../../../src/storage/memory.js"
import { type GatedStore, gatedStore } from "../../../support/gate.js"
import { publishTiny } from "../../../support/tiny-snapshot.js"

const FIRST = "aaaaaaaaaaaa"
const SECOND = "bbbbbbbbbbbb"
const OPEN = new AbortController().signal

let gate: GatedStore
let pointer: KnownPointer
const operations = () => gate.calls.map(({ operation }) => operation)

beforeEach(() => {
  vi.useFakeTimers({ toFake: ["Date", "setTimeout", "clearTimeout"] })
  gate = gatedStore(openMemoryStore(randomUUID()))
  pointer = new KnownPointer(gate.store)
})
afterEach(() => {
  vi.useRealTimers()
})

describe("the pointer that a reader knows", () => {
  it("is read whole once, and then asked whether it has changed", async () => {
    await publishTiny(gate.store, FIRST)
    gate.calls.length = 0
    expect((await pointer.read(undefined)).run).toBe(FIRST)
    expect((await pointer.read(undefined)).run).toBe(FIRST)
    expect(operations()).toEqual(["get", "getIfChanged"])
    await publishTiny(gate.store, SECOND)
    expect((await pointer.read(undefined)).run).toBe(SECOND)
    expect(pointer.last!.run).toBe(SECOND)
    expect(pointer.readAt).toEqual(new Date())
  })

  it("is not there where nothing is published", async () => {
    await expect(pointer.read(undefined)).rejects.toMatchObject({ tag: "NotFound" })
    expect(pointer.last).toBeUndefined()
    expect(pointer.failure!.reason).toContain("no snapshot is published")
  })

  it("keeps since when it cannot be read, and the latest reason, until it can", async () => {
    const startMs = Date.now()
    await publishTiny(gate.store, FIRST)
    await pointer.read(undefined)
    const good = (await gate.store.get(POINTER_KEY))!.body
    for (const seconds of [1, 2]) {
      vi.setSystemTime(startMs + seconds * 1000)
      await gate.store.put(POINTER_KEY, Buffer.from("x".repeat(seconds)))
      await expect(pointer.read(undefined)).rejects.toMatchObject({ tag: "Corrupt" })
    }
    expect(pointer.failure).toEqual({
      sinceMs: startMs + 1000,
      reason: expect.stringContaining("its 2 bytes"),
    })
    expect(pointer.last!.run).toBe(FIRST)
    expect(pointer.readAt).toEqual(new Date(startMs))
    await gate.store.put(POINTER_KEY, good)
    await pointer.read(undefined)
    expect(pointer.failure).toBeUndefined()
  })

  it("is read for health unless that was just done", async () => {
    await publishTiny(gate.store, FIRST)
    await pointer.read(undefined)
    gate.calls.length = 0
    vi.setSystemTime(Date.now() + 5000)
    await pointer.probe(OPEN)
    expect(operations()).toEqual([])
    vi.setSystemTime(Date.now() + 1)
    await Promise.all([pointer.probe(OPEN), pointer.probe(OPEN)])
    expect(operations()).toEqual(["getIfChanged"])
  })

  it("is waited for by health for 2 seconds, and what goes wrong is noted", async () => {
    await publishTiny(gate.store, FIRST)
    await pointer.read(undefined)
    vi.setSystemTime(Date.now() + 10_000)
    gate.hold(new RegExp(POINTER_KEY))
    const probing = pointer.probe(OPEN)
    await gate.arrived(1)
    await vi.advanceTimersByTimeAsync(2000)
    await probing
    await pointer.settled()
    expect(pointer.failure!.reason).toContain("aborted")
    expect(pointer.last!.run).toBe(FIRST)
  })

  it("takes note of one that was read elsewhere", async () => {
    await publishTiny(gate.store, FIRST)
    const other = new KnownPointer(gate.store)
    pointer.note(await other.read(undefined))
    expect(pointer.last!.run).toBe(FIRST)
    gate.calls.length = 0
    await pointer.read(undefined)
    expect(operations()).toEqual(["getIfChanged"])
  })
})
