import { randomUUID } from "node:crypto"
import { afterEach, beforeEach, describe, expect, it } from "vitest"
import { abortable } from "../../../../src/async/abortable.js"
import { corrupt } from "../../../../src/errors.js"
import { silentLogger } from "../../../../src/logger.js"
import { POINTER_KEY } from "../../../../src/manifest/keys.js"
import { Follower, type FollowerOptions } from "../../../../src/reader/follow/follower.js"
import { HeldStates } from "../../../../src/reader/held.js"
import { createEvents } from "../../../../src/reader/report/events.js"
import { openMemoryStore } from "../../../../src/storage/memory.js"
import { type GatedStore, gatedStore } from "../../../support/gate.js"
import { publishTiny, storeTiny } from "../../../support/tiny-snapshot.js"

const FIRST = "aaaaaaaaaaaa"
const SECOND = "bbbbbbbbbbbb"
/** A shard with other content than that of all tiny snapshots. */
const CHANGED = [
  {
    shard: 0,
    rows: 1,
    folder: "shards/bbbbbbbbbbbb/00000/0",
    files: [{ name: "shard.db", size: 7, sha256: "f".repeat(64) }],
    index: { kind: "flat" },
    fingerprint: "f".repeat(64),
  },
]

let gate: GatedStore
let open: Follower[]
beforeEach(() => {
  gate = gatedStore(openMemoryStore(randomUUID()))
  open = []
})
afterEach(() => Promise.all(open.map((follower) => follower.close())))

/** What opening a shard does, by its run and number. */
type OpenShard = (run: string, shard: number, signal: AbortSignal | undefined) => Promise<void>

function createFollower(options: Partial<FollowerOptions> = {}, openShard: OpenShard = async () => {}) {
  const told: [event: string, facts: unknown][] = []
  const events = createEvents(silentLogger)
  events.on("refreshed", (facts) => void told.push(["refreshed", facts]))
  events.on("refresh-failed", (facts) => void told.push(["refresh-failed", facts]))
  const shards = {
    prepare: async (
      state: { readonly info: { readonly run: string } },
      shard: number,
      signal?: AbortSignal,
    ) => {
      await openShard(state.info.run, shard, signal)
    },
    retain: () => {},
  }
  const states = new HeldStates(shards as never, () => {})
  const follower = new Follower(gate.store, states, shards as never, {
    snapshot: undefined,
    maxOpenShards: 8,
    lease: undefined,
    events,
    telemetry: { refresh: (work) => work() },
    logger: silentLogger,
    ...options,
  })
  open.push(follower)
  return { follower, states, told, run: () => states.current!.state.info.run }
}

const CALM = undefined

describe("following what is live", () => {
  it("opens what the pointer names, and moves when the pointer has moved", async () => {
    await publishTiny(gate.store, FIRST)
    const { follower, run, told } = createFollower()
    await follower.open(CALM, undefined)
    expect(run()).toBe(FIRST)
    const stay = { changed: false, from: FIRST, to: FIRST, keptShards: 1, pinned: false }
    expect(await follower.refresh()).toEqual(stay)
    expect(told).toEqual([])
    await publishTiny(gate.store, SECOND)
    const moved = { changed: true, from: FIRST, to: SECOND, keptShards: 1, pinned: false }
    expect(await follower.refresh()).toEqual(moved)
    expect(run()).toBe(SECOND)
    expect(told).toEqual([["refreshed", moved]])
    expect(follower.lastRefresh).toMatchObject({ changed: true, error: undefined })
  })

  it("is done once for all who ask at the same time", async () => {
    await publishTiny(gate.store, FIRST)
    const { follower } = createFollower()
    await follower.open(CALM, undefined)
    gate.calls.length = 0
    const [one, two] = await Promise.all([follower.refresh(), follower.refresh()])
    expect(one).toBe(two)
    expect(gate.calls).toHaveLength(1)
  })

  it("stays with a snapshot that was named, live or not", async () => {
    const { manifest } = await storeTiny(gate.store, FIRST)
    await publishTiny(gate.store, SECOND)
    const { follower, run } = createFollower({ snapshot: FIRST })
    await follower.open(CALM, undefined)
    expect(run()).toBe(FIRST)
    expect(follower.pointer.last).toBeUndefined()
    gate.calls.length = 0
    expect(await follower.refresh()).toMatchObject({ changed: false, to: manifest.run, pinned: true })
    await follower.probe()
    expect(gate.calls).toEqual([])
  })

  it("opens shards that were in use before the swap", async () => {
    await publishTiny(gate.store, FIRST)
    const opened: string[] = []
    const { follower, states, run } = createFollower({}, async (of, shard) => {
      opened.push(`${of} ${shard} while ${run()} answers`)
    })
    await follower.open(CALM, undefined)
    states.current!.recentShards.add(0)
    await publishTiny(gate.store, SECOND, { shards: CHANGED })
    expect(await follower.refresh()).toMatchObject({ changed: true, keptShards: 0 })
    expect(opened).toEqual([`${SECOND} 0 while ${FIRST} answers`])
    expect(run()).toBe(SECOND)
  })

  it("stays where a shard in use cannot be opened, unless that fails already", async () => {
    await publishTiny(gate.store, FIRST)
    const { follower, states, run, told } = createFollower({}, () =>
      Promise.reject(corrupt("shard.db is damaged")),
    )
    await follower.open(CALM, undefined)
    states.current!.recentShards.add(0)
    await publishTiny(gate.store, SECOND, { shards: CHANGED })
    await expect(follower.refresh()).rejects.toMatchObject({
      tag: "Corrupt",
      details: { run: SECOND, shard: 0 },
    })
    expect(run()).toBe(FIRST)
    expect(told).toMatchObject([["refresh-failed", { error: { tag: "Corrupt" } }]])
    states.current!.failingShards.set(0, { reason: "shard.db is damaged", atMs: 0 })
    expect(await follower.refresh()).toMatchObject({ changed: true, to: SECOND })
  })

  it("leaves the old snapshot when it fails, and says so", async () => {
    await publishTiny(gate.store, FIRST)
    const { follower, run, told } = createFollower()
    await follower.open(CALM, undefined)
    await gate.store.put(POINTER_KEY, Buffer.from("damaged"))
    await expect(follower.refresh()).rejects.toMatchObject({ tag: "Corrupt" })
    expect(run()).toBe(FIRST)
    expect(told).toMatchObject([["refresh-failed", { error: { tag: "Corrupt" } }]])
    expect(follower.lastRefresh).toMatchObject({
      changed: false,
      error: expect.stringContaining(POINTER_KEY),
    })
  })

  it("protects a snapshot before it reads its manifest, and lets go of one that it cannot open", async () => {
    const told: string[] = []
    const lease = {
      protect: async (run: string) => void told.push(`protect ${run} after ${gate.calls.length} reads`),
      release: (run: string) => void told.push(`release ${run}`),
      over: () => undefined,
      end: async () => {},
    }
    await publishTiny(gate.store, FIRST)
    const { key } = await storeTiny(gate.store, SECOND)
    gate.calls.length = 0
    const { follower } = createFollower({ lease })
    await follower.open(CALM, undefined)
    expect(told).toEqual([`protect ${FIRST} after 1 reads`])
    await publishTiny(gate.store, SECOND)
    await gate.store.put(key, Buffer.from("damaged"))
    gate.calls.length = 0
    await expect(follower.refresh()).rejects.toMatchObject({ tag: "Corrupt" })
    expect(told.slice(1)).toEqual([`protect ${SECOND} after 1 reads`, `release ${SECOND}`])
  })

  it("is stopped by the end of the reader, which is not told as a failure", async () => {
    await publishTiny(gate.store, FIRST)
    let begun = (): void => {}
    const opening = new Promise<void>((resolve) => {
      begun = resolve
    })
    const { follower, states, run, told } = createFollower({}, (_run, _shard, signal) => {
      begun()
      return abortable(new Promise<never>(() => {}), signal)
    })
    await follower.open(CALM, undefined)
    states.current!.recentShards.add(0)
    await publishTiny(gate.store, SECOND, { shards: CHANGED })
    const refreshing = follower.refresh()
    const failed = expect(refreshing).rejects.toMatchObject({ tag: "Closed" })
    await opening
    await follower.close()
    await failed
    expect(run()).toBe(FIRST)
    expect(told).toEqual([])
  })
})
