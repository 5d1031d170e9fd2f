/**
 * A run that is going on: its record, and the lease that a heartbeat renews.
 */
import { hostname } from "node:os"
import { conflict, isVecsnapError, messageOf, type VecsnapError } from "../errors.js"
import type { Logger } from "../logger.js"
import { type LiveSnapshot, readPointer, readSnapshot } from "../manifest/current.js"
import { newId, runKey } from "../manifest/keys.js"
import { encodeRunRecord, type RunRecord, readRunRecord } from "../manifest/run-record.js"
import { type RetryClock, SYSTEM_CLOCK } from "../storage/retry.js"
import type { CallOptions, ObjectStore } from "../storage/store.js"
import { tagOf } from "../tracing.js"
import { VERSION } from "../version.js"

const DEFAULT_LEASE_SECONDS = 120

/** The lease is renewed so many times before it would end, so that a few failures do no harm. */
const BEATS_PER_LEASE = 4

/** What a run says about itself, besides that it is alive. */
export type RunFacts = Partial<Pick<RunRecord, "stage" | "manifest" | "published" | "counts">>

export interface RunOptions extends CallOptions {
  readonly logger: Logger
  /** Default 120. */
  readonly leaseSeconds?: number | undefined
  readonly configDigest?: string | undefined
  /** Default: a new id. */
  readonly run?: string | undefined
  readonly clock?: (Pick<RetryClock, "sleep"> & { date(): Date }) | undefined
}

export interface ActiveRun {
  readonly run: string
  readonly startedAt: Date
  /**
   * What was live when the run started, and what it may replace. Protected from collection until the run
   * ends.
   */
  readonly base: LiveSnapshot | undefined
  /** Fires with a `Conflict` when the lease is lost: another, most likely a collection, has ended the run. */
  readonly lost: AbortSignal
  /** Is written to the record with the next renewal. */
  note(facts: RunFacts): void
  /**
   * Renews the lease now. Throws `Conflict` if it is lost, and what the store throws if it can't be renewed.
   */
  renew(): Promise<void>
  /**
   * Ends the lease and writes the last record. Best effort: what the run has done stays done, so a failure is
   * logged. The record then says "running" until a collection notices that nobody renews it.
   */
  end(outcome: RunFacts & ({ readonly error: unknown } | { readonly error?: undefined })): Promise<void>
}

const DEFAULT_CLOCK = { ...SYSTEM_CLOCK, date: () => new Date() }

/**
 * Registers a run and starts to renew its lease, in the background, until it ends.
 *
 * A renewal that fails is logged and tried again at the next beat; only `renew`, which comes before the
 * pointer moves, insists. Throws what the store throws, before anything but the record is written.
 */
export async function startRun(store: ObjectStore, options: RunOptions): Promise<ActiveRun> {
  const { logger, signal, leaseSeconds = DEFAULT_LEASE_SECONDS, clock = DEFAULT_CLOCK } = options
  const run = options.run ?? newId()
  const key = runKey(run)
  const startedAt = clock.date()
  const lost = new AbortController()
  const ended = new AbortController()
  let record: RunRecord = {
    run,
    state: "running",
    startedAt,
    updatedAt: startedAt,
    host: hostname(),
    pid: process.pid,
    tool: `vecsnap ${VERSION}`,
    versions: { node: process.versions.node },
    configDigest: options.configDigest,
    leaseSeconds,
    base: undefined,
    stage: undefined,
    manifest: undefined,
    published: false,
    counts: undefined,
    error: undefined,
  }

  const bodyOf = (changed: RunRecord): Buffer => encodeRunRecord({ ...changed, updatedAt: clock.date() })
  const contentType = "application/json"

  let etag = ""
  const base = await lockBase()
  await probePreconditions()

  /**
   * Notes what is live as the base of the run, so that a collection spares it, and makes sure that it still
   * is live then.
   */
  async function lockBase(): Promise<LiveSnapshot | undefined> {
    let pointer = await readPointer(store, { signal })
    for (;;) {
      record = { ...record, base: pointer?.run }
      etag = (await store.put(key, bodyOf(record), { contentType, signal })).etag
      const now = await readPointer(store, { signal })
      if (now?.number === pointer?.number && now?.run === pointer?.run)
        return now && readSnapshot(store, now, { signal })
      pointer = now
    }
  }

  /** Looks whether the store heeds preconditions, with one that does not hold. */
  async function probePreconditions(): Promise<void> {
    try {
      const wrong = `"${"0".repeat(32)}"`
      etag = (await store.put(key, bodyOf(record), { contentType, ifMatch: wrong, signal })).etag
    } catch (error) {
      if (isVecsnapError(error, "Conflict")) return
      throw error
    }
    logger.warn(
      { url: store.url, run },
      "the store ignores preconditions: if two runs publish at the same moment, or while a collection runs, one may undo the other",
    )
  }

  // One write of the record at a time, in order.
  let last: Promise<unknown> = Promise.resolve()
  function inOrder<T>(work: () => Promise<T>): Promise<T> {
    const result = last.then(work)
    last = result.catch(() => {})
    return result
  }

  async function write(changed: RunRecord): Promise<void> {
    lost.signal.throwIfAborted()
    for (;;) {
      try {
        const written = await store.put(key, bodyOf(changed), { contentType, ifMatch: etag })
        etag = written.etag
        return
      } catch (error) {
        if (!isVecsnapError(error, "Conflict")) throw error
        const found = await readRunRecord(store, key)
        // Nobody else writes "running": it is an earlier write of ours whose reply was lost.
        if (found?.record?.state !== "running" || found.etag === etag) {
          lost.abort(leaseLost(store, run, found?.record?.state))
          lost.signal.throwIfAborted()
        }
        etag = found!.etag
      }
    }
  }

  const renew = (): Promise<void> => inOrder(() => write(record))

  async function beat(): Promise<void> {
    while (!ended.signal.aborted && !lost.signal.aborted) {
      const stopped = await clock.sleep((leaseSeconds * 1000) / BEATS_PER_LEASE, ended.signal).then(
        () => false,
        () => true,
      )
      if (stopped || ended.signal.aborted) return
      await renew().catch((error) =>
        logger.warn({ run, error: messageOf(error) }, "the lease of the run was not renewed"),
      )
    }
  }
  void beat()

  return {
    run,
    startedAt,
    base,
    lost: lost.signal,
    note: (facts) => {
      record = { ...record, ...facts }
    },
    renew,
    end: async ({ error, ...facts }) => {
      ended.abort()
      record = {
        ...record,
        ...facts,
        state: error === undefined ? "succeeded" : "failed",
        error: error === undefined ? undefined : { tag: tagOf(error), message: messageOf(error) },
      }
      await inOrder(() => write(record)).catch((cause) =>
        logger.warn({ run, state: record.state, error: messageOf(cause) }, "run record not written"),
      )
    },
  }
}

function leaseLost({ url }: ObjectStore, run: string, state: string | undefined): VecsnapError {
  const how = state === undefined ? "its record is gone" : `its record says ${state}`
  return conflict(
    `run ${run} at ${url} has lost its lease (${how}), most likely to a collection that took it for dead: build again`,
    { url, run },
  )
}
