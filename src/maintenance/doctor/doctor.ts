import { aborted, assertWholeNumber, messageOf, throwIfAborted } from "../../errors.js"
import { parseStoreUrl } from "../../storage/open.js"
import type { ObjectStore } from "../../storage/store.js"
import { type Check, type CheckName, type Diagnosis, diagnosisOf, type Judgement } from "./diagnosis.js"
import * as judge from "./judge.js"
import * as observe from "./observe.js"
import { createProbe, type Probe } from "./probe.js"
import { withinLimit } from "./time-limit.js"

export interface DoctorOptions {
  /** Leaves out what writes much: a listing of more than a page, and an upload in parts. Default false. */
  readonly quick?: boolean
  /** Of each check, in milliseconds. Default 30,000. */
  readonly checkTimeoutMs?: number
  readonly signal?: AbortSignal
  /** Called with each check as soon as it is made. */
  readonly onCheck?: (check: Check) => void
}

const DEFAULT_CHECK_TIMEOUT_MS = 30_000

/**
 * Tries out whether a store does what vecsnap asks of it. Writes below `probes/<id>/` only, and removes what it wrote,
 * also after a failure; what could not be removed is told by the check "cleanup".
 *
 * What is wrong with the store is never thrown but found. Throws `InvalidInput` for wrong options, and `Aborted` when
 * the signal fires, after cleaning up; its details then have `remaining`, the number of objects that may be left, and
 * their `prefix`.
 */
export async function diagnoseStore(store: ObjectStore, options: DoctorOptions = {}): Promise<Diagnosis> {
  const { signal, onCheck, quick = false, checkTimeoutMs = DEFAULT_CHECK_TIMEOUT_MS } = options
  assertWholeNumber("checkTimeoutMs", checkTimeoutMs, 1)
  throwIfAborted(signal)
  const probe = createProbe(store)
  const checks: Check[] = []
  const report = (name: CheckName, judgement: Judgement): void => {
    const check = { name, ...judgement }
    checks.push(check)
    onCheck?.(check)
  }
  try {
    for (const [name, experiment] of EXPERIMENTS) {
      const reason = reasonToSkip(name, checks, probe, quick)
      report(
        name,
        reason === undefined
          ? await make(name, (limited) => experiment(probe, limited), checkTimeoutMs, signal)
          : { verdict: "skipped", finding: reason },
      )
    }
  } catch (error) {
    const { remaining, prefix } = await cleanUp(probe, checkTimeoutMs)
    if (!signal?.aborted) throw error
    const left = remaining === 0 ? "" : `; ${remaining} objects may be left below ${prefix}`
    throw aborted(`doctor was stopped${left}`, { remaining, prefix }, signal.reason)
  }
  report("cleanup", judge.judgeCleanup(await cleanUp(probe, checkTimeoutMs)))
  return diagnosisOf(store.url, checks)
}

type Experiment = (probe: Probe, signal: AbortSignal) => Promise<Judgement>

/** In the order in which they are made. */
const EXPERIMENTS: readonly (readonly [CheckName, Experiment])[] = [
  ["connection", async (...at) => judge.judgeConnection(await observe.observeConnection(...at))],
  ["objects", async (...at) => judge.judgeObjects(await observe.observeObjects(...at))],
  ["latency", async (...at) => judge.judgeLatency(await observe.observeLatency(...at))],
  ["ranges", async (...at) => judge.judgeRanges(await observe.observeRanges(...at))],
  [
    "conditional read",
    async (...at) => judge.judgeConditionalRead(await observe.observeConditionalRead(...at)),
  ],
  [
    "conditional create",
    async (...at) => judge.judgeConditionalCreate(await observe.observeConditionalCreate(...at)),
  ],
  [
    "conditional overwrite",
    async (...at) => judge.judgeConditionalOverwrite(await observe.observeConditionalOverwrite(...at)),
  ],
  ["delete", async (...at) => judge.judgeDelete(await observe.observeDelete(...at))],
  ["listing", async (...at) => judge.judgeListing(await observe.observeListing(...at))],
  ["paging", async (...at) => judge.judgeListing(await observe.observePaging(...at))],
  ["clock", async (...at) => judge.judgeClock(await observe.observeClock(...at))],
  ["multipart", async (...at) => judge.judgeMultipart(await observe.observeMultipart(...at))],
  ["permissions", async (...at) => judge.judgePermissions(await observe.observePermissions(...at))],
]

/** Those that write much. */
const LAVISH = new Set<CheckName>(["paging", "multipart"])
/** Those that can be made, and tell something, where nothing can be written. */
const WITHOUT_WRITING = new Set<CheckName>(["connection", "objects", "permissions"])

/** Why a check is not made, if it is not. */
function reasonToSkip(
  name: CheckName,
  made: readonly Check[],
  { store, permissions }: Probe,
  quick: boolean,
): string | undefined {
  const earlier = (other: CheckName): Check | undefined => made.find((check) => check.name === other)
  if (earlier("connection")?.verdict === "failed") return "the store cannot be used at all"
  if (earlier("objects")?.error !== undefined && !WITHOUT_WRITING.has(name))
    return "it needs objects that can be written and read"
  if (LAVISH.has(name) && quick) return "left out, as asked for"
  if (LAVISH.has(name) && permissions.delete === "refused") return "what it writes could not be removed"
  if (name === "paging" && earlier("listing")?.error !== undefined) return "nothing can be listed"
  if (name === "multipart" && parseStoreUrl(store.url).kind !== "s3")
    return "uploads in parts are an affair of S3"
  return undefined
}

async function make(
  name: CheckName,
  experiment: (signal: AbortSignal) => Promise<Judgement>,
  limitMs: number,
  callerSignal: AbortSignal | undefined,
): Promise<Judgement> {
  try {
    return await withinLimit(limitMs, callerSignal, experiment)
  } catch (error) {
    throwIfAborted(callerSignal)
    return name === "connection" ? judge.judgeNoConnection(error) : judge.judgeError(name, error)
  }
}

/** Removes all that the probe wrote, and looks whether it is gone. Never throws. */
async function cleanUp({ store, prefix, written }: Probe, limitMs: number): Promise<judge.CleanupSeen> {
  let remaining = written.size
  let reason: string | undefined
  const remove = async (keys: readonly string[]): Promise<void> => {
    if (keys.length === 0) return
    const failures = await withinLimit(limitMs, undefined, (signal) => store.delete(keys, { signal }))
    remaining = failures.length
    reason = failures[0]?.reason
  }
  const list = (): Promise<string[]> =>
    withinLimit(limitMs, undefined, (signal) => observe.keysOf(store, prefix, signal))

  await remove([...written]).catch((error) => {
    reason = messageOf(error)
  })
  try {
    const left = await list()
    remaining = left.length
    // A write that was given up may have landed after all.
    await remove(left)
    if (left.length > 0) remaining = (await list()).length
  } catch (error) {
    // Who may not list relies on what the removal said.
    reason ??= remaining === 0 ? undefined : messageOf(error)
  }
  return { written: written.size, remaining, prefix, ...(reason !== undefined && { reason }) }
}
