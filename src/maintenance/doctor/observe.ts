/**
 * The experiments of doctor. Each does something to the store and returns what it saw, for `judge.ts` to make sense of.
 * All write below the keys of the probe only. What a check is not about (an outage, a refusal) they throw.
 */
import { createHash, randomUUID } from "node:crypto"
import { mkdtemp, open, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { inLanes } from "../../async/lanes.js"
import { isVecsnapError } from "../../errors.js"
import { sha256OfBytes, sha256OfFile } from "../../storage/checksum.js"
import { compareKeys } from "../../storage/rules.js"
import type { DeleteFailure, ObjectStore } from "../../storage/store.js"
import { isRefusal, type Permission, type PermissionState, type Probe } from "./probe.js"

const bytesOf = (text: string): Uint8Array => new TextEncoder().encode(text)
const textOf = (body: Uint8Array | undefined): string | undefined => body && new TextDecoder().decode(body)

// ---- Connection -------------------------------------------------------------------------------------------------

/** What a key that does not exist gives. */
export type MissingSeen = "missing" | "refused" | "found"

/** Asks for a key that does not exist. */
export async function observeConnection({ store, key }: Probe, signal: AbortSignal): Promise<MissingSeen> {
  const none = key("missing")
  try {
    const found = (await store.get(none, { signal })) ?? (await store.head(none, { signal }))
    return found === undefined ? "missing" : "found"
  } catch (error) {
    if (isRefusal(error)) return "refused"
    throw error
  }
}

// ---- Objects ----------------------------------------------------------------------------------------------------

export interface ObjectsSeen {
  /** What did not come back as it was written, in words. */
  readonly faults: readonly string[]
  readonly missing: MissingSeen
}

/** Writes, reads and overwrites an object, and asks for one that does not exist. */
export async function observeObjects(probe: Probe, signal: AbortSignal): Promise<ObjectsSeen> {
  const { store, key } = probe
  const at = key("object")
  const faults: string[] = []
  for (const text of ["first content", "second, longer content"]) {
    const { etag } = await store.put(at, bytesOf(text), { signal })
    const [got, head] = [await store.get(at, { signal }), await store.head(at, { signal })]
    if (got === undefined || head === undefined) faults.push("an object that was written is not found")
    else {
      if (textOf(got.body) !== text) faults.push("GET right after PUT gives other bytes than were written")
      if (head.size !== bytesOf(text).length)
        faults.push(`HEAD says ${head.size} bytes of ${bytesOf(text).length}`)
      if (got.etag !== etag || head.etag !== etag) faults.push("PUT, GET and HEAD do not give the same ETag")
    }
  }
  return { faults, missing: await observeConnection(probe, signal) }
}

// ---- Latency ----------------------------------------------------------------------------------------------------

export interface LatencySeen {
  readonly getMs: readonly number[]
  readonly putMs: readonly number[]
}

const LATENCY_CALLS = 10

/** Times small writes and reads, one after the other. */
export async function observeLatency({ store, key }: Probe, signal: AbortSignal): Promise<LatencySeen> {
  const at = key("latency")
  const timed = async (call: () => Promise<unknown>): Promise<number> => {
    const startMs = performance.now()
    await call()
    return performance.now() - startMs
  }
  const getMs: number[] = []
  const putMs: number[] = []
  for (let i = 0; i < LATENCY_CALLS; i++) {
    putMs.push(await timed(() => store.put(at, new Uint8Array(1024), { signal })))
    getMs.push(await timed(() => store.get(at, { signal })))
  }
  return { getMs, putMs }
}

// ---- Ranges -----------------------------------------------------------------------------------------------------

export interface RangeSeen {
  readonly range: "first bytes" | "middle bytes" | "last bytes" | "a range past the end"
  /** "refused" is right past the end only. */
  readonly got: "as written" | "other bytes" | "refused" | "nothing"
}

const RANGED_BYTES = 64 * 1024

/** Reads the first, middle and last kilobyte of an object, and what reaches past its end. */
export async function observeRanges({ store, key }: Probe, signal: AbortSignal): Promise<RangeSeen[]> {
  const at = key("ranges")
  const body = pseudoRandomBytes(1, RANGED_BYTES)
  await store.put(at, body, { signal })
  const read = async (range: RangeSeen["range"], start: number, end: number): Promise<RangeSeen> => {
    try {
      const object = await store.get(at, { range: { start, end }, signal })
      if (object === undefined) return { range, got: "nothing" }
      const equal = Buffer.compare(object.body, body.subarray(start, end)) === 0
      return { range, got: equal ? "as written" : "other bytes" }
    } catch (error) {
      if (isVecsnapError(error, "Corrupt")) return { range, got: "refused" }
      throw error
    }
  }
  return [
    await read("first bytes", 0, 1024),
    await read("middle bytes", 30_000, 31_024),
    await read("last bytes", RANGED_BYTES - 1024, RANGED_BYTES),
    await read("a range past the end", RANGED_BYTES, RANGED_BYTES + 1024),
  ]
}

// ---- Conditional read -------------------------------------------------------------------------------------------

export interface ConditionalReadSeen {
  /** Asked with the ETag that the object has. */
  readonly same: "unchanged" | "object"
  /** Asked with the ETag that it had before. */
  readonly changed: "unchanged" | "new content" | "other content"
}

/** Reads an object "if changed", before and after it was replaced. */
export async function observeConditionalRead(
  { store, key }: Probe,
  signal: AbortSignal,
): Promise<ConditionalReadSeen> {
  const at = key("conditional-read")
  const { etag } = await store.put(at, bytesOf("before"), { signal })
  const same = await store.getIfChanged(at, etag, { signal })
  await store.put(at, bytesOf("after"), { signal })
  const changed = await store.getIfChanged(at, etag, { signal })
  const content = changed === "unchanged" ? undefined : textOf(changed?.body)
  return {
    same: same === "unchanged" ? "unchanged" : "object",
    changed: changed === "unchanged" ? "unchanged" : content === "after" ? "new content" : "other content",
  }
}

// ---- Conditional writes -----------------------------------------------------------------------------------------

export const RACING_WRITERS = 8
const CREATE_ROUNDS = 5
const INCREMENTS_PER_WRITER = 3
/** Of one writer; a race in which everybody loses must end. */
const MAX_INCREMENT_ATTEMPTS = 200

/** Whether a conditional write was made; what is neither success nor `Conflict` is thrown. */
type Outcome = "written" | "conflict"

async function attempt(write: Promise<unknown>): Promise<Outcome> {
  try {
    await write
    return "written"
  } catch (error) {
    if (isVecsnapError(error, "Conflict")) return "conflict"
    throw error
  }
}

export interface ConditionalCreateSeen {
  readonly ofMissing: Outcome
  readonly ofExisting: Outcome
  /** Number of those who were told to have won, round by round. */
  readonly winners: readonly number[]
  /** Rounds in which the object does not hold what the one winner wrote. */
  readonly overwritten: number
}

/** Creates an object twice, then lets writers race to create one. */
export async function observeConditionalCreate(
  { store, key }: Probe,
  signal: AbortSignal,
): Promise<ConditionalCreateSeen> {
  const create = (file: string, text: string): Promise<Outcome> =>
    attempt(store.put(key(file), bytesOf(text), { ifAbsent: true, signal }))
  const ofMissing = await create("create", "first")
  const ofExisting = await create("create", "second")
  const winners: number[] = []
  let overwritten = 0
  for (let round = 0; round < CREATE_ROUNDS; round++) {
    const file = `create-race-${round}`
    // Each writes something else: equal bytes would count as the same write whose reply was lost.
    const texts = Array.from({ length: RACING_WRITERS }, (_, writer) => `writer ${writer}`)
    const outcomes = await settleAll(texts.map((text) => create(file, text)))
    const winning = texts.filter((_, writer) => outcomes[writer] === "written")
    winners.push(winning.length)
    const stored = textOf((await store.get(key(file), { signal }))?.body)
    if (winning.length === 1 && stored !== winning[0]) overwritten++
  }
  return { ofMissing, ofExisting, winners, overwritten }
}

export interface ConditionalOverwriteSeen {
  readonly ofCurrent: Outcome
  readonly ofStale: Outcome
  readonly ofMissing: Outcome
  /** Increments that writers were told to have made, and the counter in the end. */
  readonly acknowledged: number
  readonly counted: number
  /** Writers that gave up, each after many lost attempts. */
  readonly exhausted: number
}

/** Overwrites an object by its current and by a stale ETag, then lets writers race to increment a counter. */
export async function observeConditionalOverwrite(
  { store, key }: Probe,
  signal: AbortSignal,
): Promise<ConditionalOverwriteSeen> {
  const at = key("overwrite")
  const { etag } = await store.put(at, bytesOf("first"), { signal })
  const overwrite = (target: string, text: string): Promise<Outcome> =>
    attempt(store.put(target, bytesOf(text), { ifMatch: etag, signal }))
  const ofCurrent = await overwrite(at, "second")
  const ofStale = await overwrite(at, "third")
  const ofMissing = await overwrite(key("overwrite-missing"), "fourth")

  const counter = key("counter")
  await store.put(counter, counterBody(0), { signal })
  const made = await settleAll(
    Array.from({ length: RACING_WRITERS }, () => incrementSeveral(store, counter, signal)),
  )
  return {
    ofCurrent,
    ofStale,
    ofMissing,
    acknowledged: made.reduce((sum, increments) => sum + increments, 0),
    counted: countIn((await store.get(counter, { signal }))?.body),
    exhausted: made.filter((increments) => increments < INCREMENTS_PER_WRITER).length,
  }
}

async function incrementSeveral(store: ObjectStore, counter: string, signal: AbortSignal): Promise<number> {
  let made = 0
  for (let i = 0; i < MAX_INCREMENT_ATTEMPTS && made < INCREMENTS_PER_WRITER; i++) {
    const current = await store.get(counter, { signal })
    const next = counterBody(countIn(current?.body) + 1)
    const ifMatch = current?.etag ?? ""
    if ((await attempt(store.put(counter, next, { ifMatch, signal }))) === "written") made++
  }
  return made
}

// Never twice the same, so that no writer takes another's increment for its own whose reply was lost.
const counterBody = (count: number): Uint8Array => bytesOf(`${count} ${randomUUID()}`)
const countIn = (body: Uint8Array | undefined): number => Number.parseInt(textOf(body) ?? "", 10)

/** Waits for all, then throws the first failure: nothing of a race may still run when the next one begins. */
async function settleAll<T>(calls: readonly Promise<T>[]): Promise<T[]> {
  await Promise.allSettled(calls)
  return Promise.all(calls)
}

// ---- Delete -----------------------------------------------------------------------------------------------------

export interface DeleteSeen {
  readonly failures: readonly DeleteFailure[]
  /** Of the deleted objects, those that are still there. */
  readonly remaining: number
  readonly deleted: number
}

const DELETED_AT_ONCE = 10

/** Deletes one object, several in one call, and one that does not exist. */
export async function observeDelete({ store, key }: Probe, signal: AbortSignal): Promise<DeleteSeen> {
  const keys = Array.from({ length: DELETED_AT_ONCE + 1 }, (_, i) => key(`delete-${i}`))
  for (const each of keys) await store.put(each, bytesOf("to be deleted"), { signal })
  const failures = [
    ...(await store.delete(keys.slice(0, 1), { signal })),
    ...(await store.delete(keys.slice(1), { signal })),
    ...(await store.delete([key("delete-missing")], { signal })),
  ]
  let remaining = 0
  for (const each of keys) if ((await store.head(each, { signal })) !== undefined) remaining++
  return { failures, remaining, deleted: keys.length }
}

// ---- Listing ----------------------------------------------------------------------------------------------------

export interface ListingSeen {
  /** In the order that is right. */
  readonly expected: readonly string[]
  /** In the order that came. */
  readonly listed: readonly string[]
}

// The order of UTF-8 differs here from that of folders ("/" after "-" and "."), of languages (capitals first, "é" last)
// and of UTF-16 (the last two).
const LISTED_NAMES = ["a", "B", "a-b", "a.b", "a0b", "dir/b", "dir-b", "é", "\uff5e", "😀"]

/** Lists keys on which common orders differ, beside one that only looks as if it had the prefix. */
export async function observeListing({ store, key }: Probe, signal: AbortSignal): Promise<ListingSeen> {
  const expected = LISTED_NAMES.map((name) => key(`list/${name}`)).sort(compareKeys)
  const put = (each: string, signal: AbortSignal) => store.put(each, bytesOf("listed"), { signal })
  await inLanes([...expected, key("list-beside")], WRITES_IN_FLIGHT, put, signal)
  return { expected, listed: await keysOf(store, key("list/"), signal) }
}

/** More than a page of S3, which is 1,000 keys. */
export const PAGED_OBJECTS = 1050
const WRITES_IN_FLIGHT = 16

/** Lists more keys than fit into one answer. */
export async function observePaging({ store, key }: Probe, signal: AbortSignal): Promise<ListingSeen> {
  const expected = Array.from({ length: PAGED_OBJECTS }, (_, i) => key(`pages/${String(i).padStart(5, "0")}`))
  const put = (each: string, signal: AbortSignal) => store.put(each, new Uint8Array(1), { signal })
  await inLanes(expected, WRITES_IN_FLIGHT, put, signal)
  return { expected, listed: await keysOf(store, key("pages/"), signal) }
}

export async function keysOf(store: ObjectStore, prefix: string, signal: AbortSignal): Promise<string[]> {
  const keys: string[] = []
  for await (const { key } of store.list(prefix, { signal })) keys.push(key)
  return keys
}

// ---- Clock ------------------------------------------------------------------------------------------------------

/** All in milliseconds since 1970; the first and the last by the clock of this machine. */
export interface ClockSeen {
  readonly beforeMs: number
  readonly storedMs: number
  readonly afterMs: number
}

/** Writes an object and compares its time with the clock of this machine. */
export async function observeClock({ store, key }: Probe, signal: AbortSignal): Promise<ClockSeen> {
  const at = key("clock")
  const beforeMs = Date.now()
  await store.put(at, bytesOf("what time is it?"), { signal })
  const afterMs = Date.now()
  const storedMs = (await store.head(at, { signal }))?.lastModified.getTime() ?? Number.NaN
  return { beforeMs, storedMs, afterMs }
}

// ---- Multipart --------------------------------------------------------------------------------------------------

export interface MultipartSeen {
  readonly sizeBytes: number
  readonly winners: number
  /** Whether what is stored is, byte for byte, what one that was told to have won has sent. */
  readonly intact: boolean
}

/** Above the size from which uploads are made in parts (16 MiB, unless set otherwise). */
export const MULTIPART_BYTES = 16 * 1024 * 1024 + 1

/** Uploads two large files that race to create one object, and reads it back. */
export async function observeMultipart({ store, key }: Probe, signal: AbortSignal): Promise<MultipartSeen> {
  const dir = await mkdtemp(join(tmpdir(), "vecsnap-doctor-"))
  try {
    const at = key("multipart")
    const uploads = await Promise.all(
      [1, 2].map(async (seed) => {
        const file = join(dir, `upload-${seed}`)
        return { file, sha256: await writeLargeFile(file, seed) }
      }),
    )
    const outcomes = await settleAll(
      uploads.map(({ file }) => attempt(store.put(at, { file }, { ifAbsent: true, signal }))),
    )
    const winning = uploads.filter((_, i) => outcomes[i] === "written")
    const download = join(dir, "download")
    const found = await store.getFile(at, download, { signal })
    const sha256 = found && (await sha256OfFile(download))
    return {
      sizeBytes: MULTIPART_BYTES,
      winners: winning.length,
      intact: winning.some((upload) => upload.sha256 === sha256),
    }
  } finally {
    await rm(dir, { recursive: true, force: true })
  }
}

async function writeLargeFile(path: string, seed: number): Promise<string> {
  const bytes = pseudoRandomBytes(seed, MULTIPART_BYTES)
  const handle = await open(path, "wx")
  try {
    await handle.writeFile(bytes)
  } finally {
    await handle.close()
  }
  return sha256OfBytes(bytes)
}

/** Bytes without a period, so that pieces in the wrong place are found. */
function pseudoRandomBytes(seed: number, sizeBytes: number): Uint8Array {
  return createHash("shake256", { outputLength: sizeBytes }).update(String(seed)).digest()
}

// ---- Permissions ------------------------------------------------------------------------------------------------

/** What was granted and refused so far; what is still unknown is tried on nothing. */
export async function observePermissions(
  { store, key, permissions }: Probe,
  signal: AbortSignal,
): Promise<Readonly<Record<Permission, PermissionState>>> {
  const attempts: Partial<Record<Permission, () => Promise<unknown>>> = {
    list: () => keysOf(store, key("list/"), signal),
    delete: () => store.delete([key("missing")], { signal }),
  }
  for (const [permission, tryIt] of Object.entries(attempts)) {
    if (permissions[permission as Permission] !== "unknown") continue
    await tryIt().catch((error) => {
      if (!isRefusal(error)) throw error
    })
  }
  return permissions
}
