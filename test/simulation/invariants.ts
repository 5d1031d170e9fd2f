/**
 * What must hold, whatever happens: looked at after every step, and told in words of its own, apart from the code that is
 * to keep it. What is live, and who was told what, is noted as it happens at the store.
 */
import { decodeManifest } from "../../src/manifest/codec.js"
import { snapshotFiles } from "../../src/manifest/files.js"
import { POINTER_KEY, parseKey, runKey } from "../../src/manifest/keys.js"
import type { Manifest } from "../../src/manifest/manifest.js"
import { decodePointer, HISTORY_LIMIT, type Pointer, publicationsOf } from "../../src/manifest/pointer.js"
import { decodeRunRecord } from "../../src/manifest/run-record.js"
import type { Bucket, Observer, SimulatedObject } from "./bucket.js"
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
  readonly files: ReadonlyMap<string, string>
  readonly writtenMs: number
  /** When it stopped to be live, infinite while it is, absent if it never was. */
  liveUntilMs: number | undefined
}

interface Entry {
  readonly number: number
  readonly run: string
  readonly publishCall: number
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
  /** Runs whose pin was acknowledged and not taken back. */
  readonly pinned = new Set<string>()
  /** Runs that a reader holds by a lease that it renews. */
  readonly held = new Map<Actor, { readonly run: string; readonly untilMs: () => number }>()
  /** Bases that were promised to a run. */
  readonly bases = new Map<string, string>()
  readonly #bucket: Bucket
  readonly #world: World
  readonly #promises: Promises
  readonly #chain: Entry[] = []
  readonly #calls: { readonly explicit: boolean; notPublished: boolean }[] = []
  #pointer: Pointer | undefined
  #changed = false
  #violation: Violation | undefined

  constructor(world: World, bucket: Bucket, promises: Promises) {
    this.#world = world
    this.#bucket = bucket
    this.#promises = promises
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

  written(key: string, object: SimulatedObject, _actor: Actor, publishCall: number): void {
    this.#changed = true
    if (key === POINTER_KEY) this.#pointerWritten(decodePointer(object.body, key), publishCall)
    if (parseKey(key)?.kind === "manifest") {
      const manifest = decodeManifest(object.body, key)
      const files = new Map(snapshotFiles(manifest).map(({ key, sha256 }) => [key, sha256]))
      const known = this.snapshots.get(manifest.run)
      this.snapshots.set(manifest.run, {
        key,
        manifest,
        files,
        writtenMs: this.#world.nowMs,
        liveUntilMs: known?.liveUntilMs,
      })
    }
  }

  deleted(key: string, object: SimulatedObject): void {
    this.#changed = true
    if (key === POINTER_KEY) this.fail("the pointer names a complete snapshot", "the pointer was deleted")
    const { nowMs } = this.#world
    const parsed = parseKey(key)
    if (parsed === undefined) return this.fail("only what is ours is deleted", key)
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
      if (this.pinned.has(run)) this.fail("nothing pinned is deleted", `${key} of ${run}`)
      for (const { run: heldRun, untilMs } of this.held.values()) {
        if (heldRun === run && nowMs <= untilMs()) this.fail("nothing leased is deleted", `${key} of ${run}, held by a reader`)
      }
      for (const [builder, base] of this.bases) {
        if (base === run && this.#isLeased(builder))
          this.fail("nothing leased is deleted", `${key} of ${run}, the base of ${builder}`)
      }
    }
    if ((parsed.kind === "shard" || parsed.kind === "routing" || parsed.kind === "manifest")) {
      if (this.#isLeased(parsed.run)) this.fail("nothing leased is deleted", `${key} of a run that goes on`)
      if (object.lastModified.getTime() > nowMs - this.#promises.graceMs + CLOCK_STEP_MS)
        this.fail("nothing within grace is deleted", `${key}, which was just written`)
    }
  }

  /** Somebody begins to publish; `explicit` if it is by his own decision, whatever the gates said. */
  newCall(explicit: boolean): number {
    return this.#calls.push({ explicit, notPublished: false }) - 1
  }

  /** A publication was acknowledged. */
  published(publishCall: number, { number, run }: Omit<Entry, "publishCall">): void {
    if (!this.#promises.onlyOneWins) return
    if (!this.#chain.some((entry) => entry.number === number && entry.run === run))
      this.fail("exactly one wins each swap", `call ${publishCall} was told that ${run} is publication ${number}`)
  }

  /** It was said that nothing was published. */
  notPublished(publishCall: number): void {
    this.#calls[publishCall]!.notPublished = true
    if (this.#chain.some((entry) => entry.publishCall === publishCall))
      this.fail("exactly one wins each swap", `call ${publishCall} has published and was told that it has not`)
  }

  #pointerWritten(next: Pointer, publishCall: number): void {
    const live = this.#pointer
    this.#pointer = next
    this.#world.log(undefined, () => `live: ${next.run}, publication ${next.number}, condemned [${next.condemned}]`)
    if (this.#promises.onlyOneWins && !isSuccessor(live, next)) {
      this.fail(
        "exactly one wins each swap",
        `publication ${next.number} (${next.run}) follows ${live?.number} (${live?.run}) with a history of ${next.history.map(({ number, run }) => `${number} ${run}`)}`,
      )
    }
    if (live !== undefined && live.number === next.number && live.run === next.run) return
    const { number, run } = next
    this.#chain.push({ number, run, publishCall })
    if (this.#calls[publishCall]!.notPublished && this.#promises.onlyOneWins)
      this.fail("exactly one wins each swap", `call ${publishCall} published after it was told that it has not`)
    if (this.refused.has(run) && !this.#calls[publishCall]!.explicit)
      this.fail("what gates refuse is never live", run)
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
    if (stored === undefined) return this.fail(invariant, `the manifest of ${run} is missing`)
    for (const [file, sha256] of this.snapshots.get(run)!.files) {
      const object = this.#bucket.objects.get(file)
      if (object?.sha256 !== sha256)
        this.fail(invariant, `${file} of ${run} is ${object === undefined ? "missing" : "another"}`)
    }
  }

  /** Whether the run is registered, going on, and renewed in time. */
  #isLeased(run: string): boolean {
    const object = this.#bucket.objects.get(runKey(run))
    if (object === undefined) return false
    const record = decodeRunRecord(object.body, runKey(run))
    const untilMs = object.lastModified.getTime() + record.leaseSeconds * 1000
    return record.state === "running" && this.#world.nowMs <= untilMs
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
