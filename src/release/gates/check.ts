/** Checks the gates of a stored snapshot: measures what needs measuring, judges, and refuses. */
import { gateRefused, messageOf, throwIfAborted, type VecsnapError } from "../../errors.js"
import type { Logger } from "../../logger.js"
import { manifestKey } from "../../manifest/keys.js"
import type { Manifest } from "../../manifest/manifest.js"
import type { TrustOptions } from "../../shards/pools.js"
import type { ObjectStore } from "../../storage/store.js"
import { measureCentroidDrift } from "./centroid-drift.js"
import { judgeGates, type Measurement, shortNumber } from "./judge.js"
import type { GateName, GateOptions, GateResult } from "./options.js"
import { measureOverlap } from "./overlap.js"

export interface GateCheck extends TrustOptions {
  readonly store: ObjectStore
  /** The snapshot that is to become live; all that its manifest names is stored. */
  readonly candidate: Manifest
  /** The snapshot that is live now, if any is. */
  readonly live: Manifest | undefined
  readonly options?: GateOptions | undefined
  /** Gates that may refuse all the same. */
  readonly allow?: readonly GateName[] | undefined
  readonly logger: Logger
  /** Where shards are downloaded to for a while; default: the system's temporary directory. */
  readonly tempDir?: string | undefined
  readonly signal?: AbortSignal | undefined
  /** Told how many gates that take time are done, if there are any. */
  readonly onProgress?: (done: number, total: number) => void
}

/**
 * The results of all gates, none of which refuses.
 *
 * Throws `GateRefused` if one does; `details.gates` then has all results. What can't be measured throws its
 * own error, unless its gate is allowed: so a live snapshot that is damaged can be replaced. Options are
 * checked before, by `checkGateOptions`.
 */
export async function checkGates(check: GateCheck): Promise<readonly GateResult[]> {
  const { store, candidate, live, options = {}, allow = [], logger } = check
  const measured = await measure(check)
  const results = judgeGates({ candidate, live, options, measured }, allow)
  for (const { gate, verdict, reason } of results) {
    if (verdict === "allowed") logger.warn({ run: candidate.run, gate }, `gate ${gate} is allowed: ${reason}`)
  }
  if (results.some(({ verdict }) => verdict === "refused")) throw refusal(store, candidate, results)
  return results
}

async function measure({
  store,
  candidate,
  live,
  options = {},
  allow = [],
  ...context
}: GateCheck): Promise<{ readonly centroidDrift?: Measurement; readonly overlap?: Measurement }> {
  if (live === undefined) return {}
  const { overlap } = options
  const jobs: readonly (readonly [GateName, boolean, () => Promise<Measurement>])[] = [
    [
      "centroid-drift",
      options.centroidDrift !== undefined,
      () => measureCentroidDrift(store, candidate, live, { signal: context.signal }),
    ],
    ["overlap", overlap !== undefined, () => measureOverlap(store, candidate, live, overlap!, context)],
  ]
  const wanted = jobs.filter(([, configured]) => configured)
  const measured = new Map<GateName, Measurement>()
  for (const [gate, , work] of wanted) {
    context.onProgress?.(measured.size, wanted.length)
    measured.set(gate, await attempt(gate, work))
  }
  const drift = measured.get("centroid-drift")
  const share = measured.get("overlap")
  return { ...(drift && { centroidDrift: drift }), ...(share && { overlap: share }) }

  async function attempt(gate: GateName, work: () => Promise<Measurement>): Promise<Measurement> {
    try {
      return await work()
    } catch (error) {
      throwIfAborted(context.signal)
      if (!allow.includes(gate)) throw error
      return { failed: messageOf(error) }
    }
  }
}

function refusal({ url }: ObjectStore, manifest: Manifest, results: readonly GateResult[]): VecsnapError {
  const { run, createdAt } = manifest
  const refused = results.filter(({ verdict }) => verdict === "refused")
  const faults = refused.map(({ gate, value, limit }) => `${gate} is ${shownValue(value)}, expected ${limit}`)
  const names = refused.map(({ gate }) => gate).join(",")
  return gateRefused(
    `run ${run} is not published: ${faults.join("; ")}; ` +
      `to look at it, vecsnap query ${url} --snapshot ${run}; ` +
      `to publish it as it is, vecsnap publish ${url} ${run} --allow ${names}, or build with --allow ${names}`,
    { url, run, manifest: manifestKey(createdAt, run), gates: results },
  )
}

const shownValue = (value: GateResult["value"]): string =>
  typeof value === "number" ? String(shortNumber(value)) : (value ?? "not known")
