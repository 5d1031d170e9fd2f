/**
 * Who works at a root. The protocol's code is the real one; only what it carries is small: a shard is a line of text.
 */
import { createHash } from "node:crypto"
import { gateRefused, isVecsnapError, messageOf } from "../../src/errors.js"
import { silentLogger } from "../../src/logger.js"
import { collect } from "../../src/maintenance/gc/collect.js"
import { pin, unpin } from "../../src/maintenance/pins.js"
import { encodeManifest } from "../../src/manifest/codec.js"
import { readManifest, readPointer, readSnapshot } from "../../src/manifest/current.js"
import { listManifests } from "../../src/manifest/history.js"
import { manifestKey, routingKey, shardFolder } from "../../src/manifest/keys.js"
import type { FileEntry, Manifest, ShardEntry } from "../../src/manifest/manifest.js"
import { type PublishOptions, publishManifest } from "../../src/manifest/publish.js"
import { createSnapshotLease, type LeaseClock } from "../../src/reader/follow/lease.js"
import { snapshotFiles } from "../../src/snapshot/snapshot.js"
import { createRetry } from "../../src/storage/retry.js"
import type { ObjectStore } from "../../src/storage/store.js"
import { withRetry } from "../../src/storage/with-retry.js"
import { type ActiveRun, startRun } from "../../src/writer/active-run.js"
import type { Bucket } from "./bucket.js"
import type { Invariants } from "./invariants.js"
import type { Actor, World } from "./world.js"

export const LEASE_SECONDS = 120
const READER_LEASE_SECONDS = 120
const SHARDS = 2

/** What the actors of a schedule have in common. */
export interface Scene {
  readonly world: World
  readonly bucket: Bucket
  readonly invariants: Invariants
  readonly graceMs: number
}

/** What an actor does from its start to its end. What it throws is noted and ends it. */
export type Script = (scene: Scene, actor: Actor, store: ObjectStore) => Promise<void>

const sha256 = (body: Uint8Array): string => createHash("sha256").update(body).digest("hex")

/** The store as the actor's process has it: with retries, on its own clock. */
export function storeOf({ world, bucket }: Scene, actor: Actor): ObjectStore {
  return withRetry(bucket.openFor(actor), createRetry({ attempts: 4, totalMs: 30_000 }, world.clockOf(actor)))
}

export interface BuilderOptions {
  readonly publishes: boolean
  /** By gates. */
  readonly refused: boolean
  /** Replaces whatever is live by then. */
  readonly forced?: boolean
}

/**
 * A nightly job, as `buildSnapshot` does it: takes a lease, uploads shards or reuses those of the base, writes the
 * manifest and publishes, unless the gates refuse it or it is not to be published.
 */
export const builder =
  ({ publishes, refused, forced = false }: BuilderOptions): Script =>
  async (scene, actor, store) => {
    const { world, invariants } = scene
    const run = await startRun(store, {
      logger: silentLogger,
      leaseSeconds: LEASE_SECONDS,
      clock: world.clockOf(actor),
    })
    if (run.base) invariants.bases.set(run.run, run.base.manifest.run)
    const signal = run.lost
    try {
      const { key, manifest } = await build(scene, actor, store, run)
      if (refused) {
        invariants.refused.add(run.run)
        throw gateRefused("rows: 0, at least 1")
      }
      if (publishes) {
        await publish(scene, actor, store, key, manifest, {
          action: "publish",
          explicit: false,
          expected: forced ? "any" : run.base?.pointer,
          confirm: run.renew,
          signal,
        })
      }
      await run.end({ published: publishes })
    } catch (thrown) {
      const error = run.lost.aborted ? run.lost.reason : thrown
      if (run.lost.aborted) invariants.leaseLost(run.run, actor)
      await run.end({ error })
      throw error
    }
  }

async function build(
  { world, graceMs }: Scene,
  actor: Actor,
  store: ObjectStore,
  { run, startedAt, base, lost: signal, note }: ActiveRun,
): Promise<{ key: string; manifest: Manifest }> {
  const { chance } = world
  // Some take far longer than lease and grace.
  const stepMs = chance.happens(0.2)
    ? chance.magnitude(graceMs / 2, 2 * graceMs)
    : chance.magnitude(1, 60_000)
  const shards: ShardEntry[] = []
  for (let shard = 0; shard < SHARDS; shard++) {
    const reusable = base?.manifest.shards[shard]
    if (reusable !== undefined && chance.happens(0.5)) {
      shards.push(reusable)
      continue
    }
    await world.sleep(actor, stepMs, signal)
    const folder = shardFolder(run, shard, 0)
    const body = Buffer.from(`shard ${shard} of ${run}`)
    await store.put(`${folder}/shard.db`, body, { ifAbsent: true, signal })
    const content = sha256(body)
    shards.push({
      shard,
      rows: 1,
      folder,
      files: [{ name: "shard.db", size: body.length, sha256: content }],
      index: { kind: "flat" },
      fingerprint: content,
    })
  }
  // As builds do: kept while there is something to be kept for, and then the object of an earlier run.
  const known = shards[0] === base?.manifest.shards[0] ? base?.manifest.codes : undefined
  const codes = known ?? (await putCodes(store, run, signal))
  const createdAt = world.clockOf(actor).date()
  const manifest: Manifest = {
    run,
    createdAt,
    base: base?.manifest.run,
    basePublication: base?.pointer.number,
    schema: { dim: 1, metric: "l2", id: { type: "string", wide: false }, fields: [], model: undefined },
    sharding: { strategy: "explicit", shards: SHARDS, options: {} },
    artifacts: [],
    locator: undefined,
    codes,
    backend: "sqlite-vec",
    shards,
    rows: SHARDS,
    build: { tool: "simulation", startedAt, skippedRows: 0, duplicateRows: 0, timingsMs: {} },
    custom: {},
  }
  const key = manifestKey(createdAt, run)
  await store.put(key, encodeManifest(manifest), { ifAbsent: true, signal })
  note({ manifest: key })
  return { key, manifest }
}

async function putCodes(store: ObjectStore, run: string, signal: AbortSignal): Promise<FileEntry> {
  const key = routingKey(run, "codes.npz")
  const body = Buffer.from(`codebook of ${run}`)
  await store.put(key, body, { ifAbsent: true, signal })
  return { key, size: body.length, sha256: sha256(body) }
}

/** Publishes a run that was built before, most likely one that is not live, if what it was built on still is. */
export const publisher: Script = async (scene, actor, store) => {
  const { world } = scene
  const entries = await listManifests(store)
  if (entries.length === 0) return
  const { key } = world.chance.happens(0.5) ? entries[0]! : world.chance.pick(entries)
  const manifest = await readManifest(store, key)
  await world.sleep(actor, world.chance.magnitude(1, 60_000))
  const { base, basePublication } = manifest
  const expected = base === undefined ? undefined : { run: base, number: basePublication! }
  await publish(scene, actor, store, key, manifest, { action: "publish", explicit: true, expected })
}

/** Makes an earlier snapshot live again. */
export const rollback: Script = async (scene, actor, store) => {
  const { world } = scene
  const expected = await readPointer(store)
  // The oldest is what a collection would like to remove.
  const oldest = expected?.history.at(-1)
  const target = oldest && (world.chance.happens(0.5) ? oldest : world.chance.pick(expected!.history))
  if (target === undefined) return
  const manifest = await readManifest(store, target.manifest)
  await world.sleep(actor, world.chance.magnitude(1, 60_000))
  await publish(scene, actor, store, target.manifest, manifest, {
    action: "rollback",
    explicit: true,
    expected,
  })
}

/** A service that has a snapshot open, and downloads a shard now and then as long as it may rely on it. */
export const reader =
  (withLease: boolean): Script =>
  async (scene, actor, store) => {
    const { world, invariants, graceMs } = scene
    const pointer = await readPointer(store)
    if (pointer === undefined) return
    const openedMs = world.nowMs
    const clock = leaseClock(world, actor)
    const lease = createSnapshotLease(
      store,
      withLease && { seconds: READER_LEASE_SECONDS },
      silentLogger,
      clock,
    )
    try {
      await lease?.protect(pointer.run, undefined)
      const endMs = openedMs + (lease === undefined ? 1 : 3) * graceMs - 1000
      const mayRely = (): boolean => world.nowMs < endMs && lease?.over() === undefined
      const missing = (what: string): void => {
        if (!mayRely()) return
        const seconds = Math.round((world.nowMs - openedMs) / 1000)
        invariants.fail(
          "a reader can finish",
          `${actor.name} opened ${pointer.run} ${seconds} s ago: ${what}`,
        )
      }
      const snapshot = await readSnapshot(store, pointer).catch((error) => {
        if (!isVecsnapError(error, "Unavailable")) missing(messageOf(error))
        throw error
      })
      const files = snapshotFiles(snapshot.manifest)
      while (mayRely()) {
        await world.sleep(actor, world.chance.magnitude(1000, graceMs))
        const file = world.chance.pick(files)
        const object = await store.get(file.key)
        if (object === undefined) missing(`${file.key} is missing`)
        else if (sha256(object.body) !== file.sha256) missing(`${file.key} is another`)
      }
    } finally {
      await lease?.end()
    }
  }

const leaseClock = (world: World, actor: Actor): LeaseClock => ({
  nowMs: world.clockOf(actor).now,
  every(ms, callback) {
    let cancel = (): void => {}
    const next = (): void => {
      cancel = world.after(ms, actor, () => {
        callback()
        next()
      })
    }
    next()
    return () => cancel()
  },
})

/** Somebody who wants to keep a snapshot, often one that a collection would like to remove, for a while or for ever. */
export const pinner: Script = async ({ world, invariants, graceMs }, actor, store) => {
  const entries = await listManifests(store)
  if (entries.length === 0) return
  // Few that pin the same: the oldest, which others want to be gone.
  const { run } = world.chance.happens(0.7) ? entries.at(-1)! : world.chance.pick(entries)
  const begunMs = world.nowMs
  await pin(store, run)
  world.log(actor, () => `has pinned ${run}`)
  invariants.pins.acknowledge(run, begunMs)
  if (world.chance.happens(0.6)) return
  await world.sleep(actor, world.chance.magnitude(1000, graceMs))
  invariants.pins.unpinning(run)
  await unpin(store, run)
  invariants.pins.unpinned(run)
}

/** Removes what is garbage. */
export const collector =
  (keepLast: number): Script =>
  async ({ graceMs }, _actor, store) => {
    await collect(store, { yes: true, keepLast, graceSeconds: graceMs / 1000, keepUnpublishedDays: 0 })
  }

/** Publishes, and tells the invariants what was answered. */
export async function publish(
  { invariants, world }: Scene,
  actor: Actor,
  store: ObjectStore,
  key: string,
  manifest: Manifest,
  options: PublishOptions & { readonly explicit: boolean },
): Promise<void> {
  const call = invariants.newCall(manifest.run, options)
  actor.publishCall = call
  try {
    const { publication } = await publishManifest(store, key, manifest, options)
    world.log(actor, () => `has published ${manifest.run} as ${publication.number}`)
    invariants.published(call, publication)
  } catch (error) {
    world.log(actor, () => `has not published ${manifest.run}: ${messageOf(error)}`)
    if (!isVecsnapError(error, "Unavailable")) invariants.notPublished(call)
    throw error
  }
}
