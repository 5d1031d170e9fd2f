/**
 * What must hold, whatever happens: looked at after every step, and told in words of its own, apart from the code that is
 * to keep it. What is live, and who was told what, is noted as it happens at the store.
 */
import { decodeManifest } from "../../src/manifest/codec.js"
import { POINTER_KEY, parseKey, runKey } from "../../src/manifest/keys.js"
import type { Manifest } from "../../src/manifest/manifest.js"
import { decodePointer, HISTORY_LIMIT, type Pointer, publicationsOf } from "../../src/manifest/pointer.js"
import type { ExpectedLive } from "../../src/manifest/publish.js"
import { decodeRunRecord, type RunRecord } from "../../src/manifest/run-record.js"
import { snapshotFiles } from "../../src/snapshot/snapshot.js"
import { type Bucket, LATEST_ARRIVAL_MS, type Observer, type SimulatedObject, type Write } from "./bucket.js"
import type { Actor, World } from "./world.js"

/** Times at the store are whole seconds. */
const CLOCK_STEP_MS = 1000

/** An invariant that does not hold, by its name, and what was seen. */
export class Violation extends Error {
  constructor(
    readonly invariant: string,
    seen: string,
  ) {
    super(`${invariant}: ${seen}`)
  }
}

export interface Snapshot {
  readonly key: string
  readonly manifest: Manifest
  /** SHA-256 by key. */
  readonly files: ReadonlyMap<string, string | undefined>
  /** When, for its grace. Of a run that was ended before: -Infinity, since its files may go already. */
  readonly writtenMs: number
  /** When it stopped to be live, infinite while it is, absent if it never was. */
  liveUntilMs: number | undefined
}

interface Entry {
  readonly number: number
  readonly run: string
  readonly publishCall: number
}

/** Somebody publishes. */
interface Call {
  readonly explicit: boolean
  readonly expected: ExpectedLive
  /** Whether it is a run that was ended before it began to publish. */
  readonly isOver: boolean
  notPublished: boolean
}

export interface Promises {
  readonly graceMs: number
  /** Whether the pointer is replaced under conditions that hold: else only completeness is checked. */
  readonly onlyOneWins: boolean
}

export class Invariants implements Observer {
  /** Every snapshot that was ever whole, by run. */
  readonly snapshots = new Map<string, Snapshot>()
  readonly refused = new Set<string>()
  readonly pins: PinLedger
  /** Bases that were promised to a run. */
  readonly bases = new Map<string, string>()
  removed = 0
  readonly #bucket: Bucket
  readonly #world: World
  readonly #promises: Promises
  readonly #chain: Entry[] = []
  readonly #calls: Call[] = []
  /** Runs that another than their process has ended. */
  readonly #ended = new Set<string>()
  /** Which process a run is of. */
  readonly #owners = new Map<string, Actor>()
  #pointer: Pointer | undefined
  #changed = false
  #violation: Violation | undefined

  constructor(world: World, bucket: Bucket, promises: Promises) {
    this.#world = world
    this.#bucket = bucket
    this.#promises = promises
    this.pins = new PinLedger(world)
    bucket.observe(this)
  }

  get pointer(): Pointer | undefined {
    return this.#pointer
  }

  /** Notes what does not hold; the step that it happened in ends the schedule. */
  fail(invariant: string, seen: string): void {
    this.#violation ??= new Violation(invariant, seen)
  }

  /** Throws what was seen in this step, if anything. */
  readonly check = (): void => {
    if (this.#changed) this.#checkLive()
    this.#changed = false
    if (this.#violation !== undefined) throw this.#violation
  }

  written(key: string, { object, before, actor, publishCall }: Write): void {
    this.#changed = true
    const parsed = parseKey(key)
    if (parsed?.kind === "run") this.#runWritten(parsed.run, before, actor)
    if (key === POINTER_KEY) this.#pointerWritten(decodePointer(object.body, key), publishCall)
    if (parsed?.kind === "manifest") {
      const manifest = decodeManifest(object.body, key)
      const files = new Map(snapshotFiles(manifest).map(({ key, sha256 }) => [key, sha256]))
      const known = this.snapshots.get(manifest.run)
      this.snapshots.set(manifest.run, {
        key,
        manifest,
        files,
        writtenMs: this.#ended.has(manifest.run) ? Number.NEGATIVE_INFINITY : this.#world.nowMs,
        liveUntilMs: known?.liveUntilMs,
      })
    }
  }

  deleted(key: string, object: SimulatedObject): void {
    this.#changed = true
    this.removed++
    if (key === POINTER_KEY) this.fail("the pointer names a complete snapshot", "the pointer was deleted")
    const { nowMs } = this.#world
    const parsed = parseKey(key)
    if (parsed === undefined) {
      this.fail("only what is ours is deleted", key)
      return
    }
    for (const { key: manifestKey, manifest, files, liveUntilMs, writtenMs } of this.snapshots.values()) {
      if (key !== manifestKey && !files.has(key)) continue
      const { run } = manifest
      const graceStartMs = nowMs - this.#promises.graceMs + CLOCK_STEP_MS
      if (liveUntilMs === Number.POSITIVE_INFINITY)
        this.fail("nothing live is deleted", `${key} of ${run}, which is live`)
      if (liveUntilMs !== undefined && liveUntilMs > graceStartMs) {
        const secondsAgo = Math.round((nowMs - liveUntilMs) / 1000)
        this.fail("nothing within grace is deleted", `${key} of ${run}, which was live ${secondsAgo} s ago`)
      }
      if (writtenMs > graceStartMs)
        this.fail("nothing within grace is deleted", `${key} of ${run}, which has just been built`)
      if (this.pins.holds(run)) this.fail("nothing pinned is deleted", `${key} of ${run}`)
      for (const [builder, base] of this.bases) {
        if (base === run && this.#isLeased(builder))
          this.fail("nothing leased is deleted", `${key} of ${run}, the base of ${builder}`)
      }
    }
    if (parsed.kind === "shard" || parsed.kind === "routing" || parsed.kind === "manifest") {
      if (this.#isLeased(parsed.run)) this.fail("nothing leased is deleted", `${key} of a run that goes on`)
      if (object.lastModified.getTime() > nowMs - this.#promises.graceMs + CLOCK_STEP_MS)
        this.fail("nothing within grace is deleted", `${key}, which was just written`)
    }
  }

  /** Somebody begins to publish; `explicit` if it is by his own decision, whatever gates and leases say. */
  newCall(
    run: string,
    { explicit, expected }: { readonly explicit: boolean; readonly expected: ExpectedLive },
  ): number {
    const isOver = !explicit && this.#recordOf(run)?.state !== "running"
    return this.#calls.push({ explicit, expected, isOver, notPublished: false }) - 1
  }

  /** A run was told that its lease is lost. */
  leaseLost(run: string, actor: Actor): void {
    if (!this.#ended.has(run) && this.#bucket.faults.refused === 0)
      this.fail("only who stands still loses the lease", `${run} of ${actor.name}, which nobody has ended`)
  }

  /** A publication was acknowledged. */
  published(publishCall: number, { number, run }: Omit<Entry, "publishCall">): void {
    if (!this.#promises.onlyOneWins) return
    if (!this.#chain.some((entry) => entry.number === number && entry.run === run))
      this.fail(
        "exactly one wins each swap",
        `call ${publishCall} was told that ${run} is publication ${number}`,
      )
  }

  /** It was said that nothing was published. */
  notPublished(publishCall: number): void {
    if (!this.#promises.onlyOneWins) return
    this.#calls[publishCall]!.notPublished = true
    if (this.#chain.some((entry) => entry.publishCall === publishCall))
      this.fail(
        "exactly one wins each swap",
        `call ${publishCall} has published and was told that it has not`,
      )
  }

  /** All is collected: nothing is left but what is live, among the last, or pinned. */
  checkNoGarbage(keepLast: number): void {
    const { objects } = this.#bucket
    const present = new Set<string>()
    const pinned = new Set<string>()
    for (const [key, { body }] of objects) {
      const parsed = parseKey(key)
      if (parsed?.kind === "manifest") present.add(parsed.run)
      if (parsed?.kind === "pin" && JSON.parse(Buffer.from(body).toString()).confirmed === true)
        pinned.add(parsed.run)
    }
    const published = this.#pointer === undefined ? [] : publicationsOf(this.#pointer).map(({ run }) => run)
    const last = [...new Set(published)].filter((run) => present.has(run)).slice(0, keepLast)
    const runs = new Set([...last, ...pinned])
    const files = new Set([...runs].flatMap((run) => [...(this.snapshots.get(run)?.files.keys() ?? [])]))
    for (const key of objects.keys()) {
      const parsed = parseKey(key)
      const isOfKept =
        parsed !== undefined &&
        "run" in parsed &&
        runs.has(parsed.run) &&
        ["manifest", "run", "pin"].includes(parsed.kind)
      if (key !== POINTER_KEY && !isOfKept && !files.has(key))
        this.fail("garbage is deleted at last", `${key} is left`)
    }
    if (this.#pointer?.condemned.length)
      this.fail("garbage is deleted at last", `condemned is left [${this.#pointer.condemned}]`)
  }

  #pointerWritten(next: Pointer, publishCall: number): void {
    const live = this.#pointer
    this.#pointer = next
    this.#world.log(
      undefined,
      () => `live: ${next.run}, publication ${next.number}, condemned [${next.condemned}]`,
    )
    if (this.#promises.onlyOneWins && !isSuccessor(live, next)) {
      this.fail(
        "exactly one wins each swap",
        `publication ${next.number} (${next.run}) follows ${live?.number} (${live?.run}) with a history of ${next.history.map(({ number, run }) => `${number} ${run}`)}`,
      )
    }
    for (const run of next.condemned)
      if (!live?.condemned.includes(run) && this.#isLeased(run))
        this.fail("nothing leased is condemned", `${run}, which goes on`)
    if (live !== undefined && live.number === next.number && live.run === next.run) return
    const { number, run } = next
    const { expected } = this.#calls[publishCall]!
    if (this.#promises.onlyOneWins && !isWhat(expected, live))
      this.fail(
        "what is live is replaced by who knows it",
        `${run} replaces ${live?.run}, publication ${live?.number}`,
      )
    this.#chain.push({ number, run, publishCall })
    if (this.#calls[publishCall]!.notPublished)
      this.fail(
        "exactly one wins each swap",
        `call ${publishCall} published after it was told that it has not`,
      )
    if (this.refused.has(run) && !this.#calls[publishCall]!.explicit)
      this.fail("what gates refuse is never live", run)
    if (this.#calls[publishCall]!.isOver) this.fail("a run that was ended does not publish", run)
    const before = live && this.snapshots.get(live.run)
    if (before) before.liveUntilMs = this.#world.nowMs
    const now = this.snapshots.get(run)
    if (now) now.liveUntilMs = Number.POSITIVE_INFINITY
  }

  #checkLive(): void {
    const invariant = "the pointer names a complete snapshot"
    if (this.#pointer === undefined) return
    const { run, manifest: key } = this.#pointer
    const stored = this.#bucket.objects.get(key)
    if (stored === undefined) {
      this.fail(invariant, `the manifest of ${run} is missing`)
      return
    }
    for (const [file, sha256] of this.snapshots.get(run)!.files) {
      const object = this.#bucket.objects.get(file)
      if (object?.sha256 !== sha256)
        this.fail(invariant, `${file} of ${run} is ${object === undefined ? "missing" : "another"}`)
    }
  }

  #runWritten(run: string, before: SimulatedObject | undefined, actor: Actor): void {
    const owner = this.#owners.get(run)
    if (owner === undefined) this.#owners.set(run, actor)
    if (owner === undefined || owner === actor) return
    this.#ended.add(run)
    if (this.#isLeased(run, before)) this.fail("nothing leased is ended", `${run} by ${actor.name}`)
  }

  /** Whether the run is registered, going on, and renewed in time. */
  #isLeased(run: string, object = this.#bucket.objects.get(runKey(run))): boolean {
    const record = this.#recordOf(run, object)
    if (object === undefined || record === undefined) return false
    const untilMs = object.lastModified.getTime() + record.leaseSeconds * 1000
    return record.state === "running" && this.#world.nowMs <= untilMs
  }

  #recordOf(run: string, object = this.#bucket.objects.get(runKey(run))): RunRecord | undefined {
    return object && decodeRunRecord(object.body, runKey(run))
  }
}

function isWhat(expected: ExpectedLive, live: Pointer | undefined): boolean {
  if (expected === "any") return true
  if (expected === undefined || live === undefined) return expected === live
  return expected.run === live.run && (!("number" in expected) || expected.number === live.number)
}

/** Which snapshots are pinned for certain: acknowledged, and no unpinning since the pin was begun. */
export class PinLedger {
  readonly #world: World
  readonly #pinned = new Set<string>()
  readonly #lastUnpinMs = new Map<string, number>()

  constructor(world: World) {
    this.#world = world
  }

  holds(run: string): boolean {
    return this.#pinned.has(run)
  }

  acknowledge(run: string, begunMs: number): void {
    const lastMs = this.#lastUnpinMs.get(run)
    if (lastMs === undefined || begunMs > lastMs) this.#pinned.add(run)
  }

  /** Until `unpinned`, and as long after that as a request may be on its way, no pin is certain. */
  unpinning(run: string): void {
    this.#pinned.delete(run)
    this.#lastUnpinMs.set(run, Number.POSITIVE_INFINITY)
  }

  unpinned(run: string): void {
    this.#lastUnpinMs.set(run, this.#world.nowMs + LATEST_ARRIVAL_MS)
  }
}

/** Whether a pointer is what may come after another: one publication more, or the same with other condemned runs. */
function isSuccessor(live: Pointer | undefined, next: Pointer): boolean {
  if (live === undefined) return next.number === 1 && next.history.length === 0
  const before = next.number === live.number ? live.history : publicationsOf(live).slice(0, HISTORY_LIMIT)
  const sameLive = next.run === live.run && next.manifest === live.manifest
  return (
    (next.number === live.number ? sameLive : next.number === live.number + 1) &&
    next.history.length === before.length &&
    next.history.every(({ number, run }, i) => number === before[i]!.number && run === before[i]!.run)
  )
}
