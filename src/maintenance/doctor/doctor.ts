import { aborted, assertWholeNumber, throwIfAborted } from "../../errors.js"
import { type Root, type RootOptions, withRoot } from "../../storage/root.js"
import { judgeError, type StoreCheck } from "./checks/check.js"
import { cleanUp, judgeCleanup } from "./checks/cleanup.js"
import { CHECKS } from "./checks/registry.js"
import { type Check, type CheckName, type Diagnosis, diagnosisOf, type Judgement } from "./diagnosis.js"
import { withinLimit } from "./time-limit.js"
import { createTrial, type Trial } from "./trial.js"

export interface DoctorOptions extends RootOptions {
  /** Leaves out what writes much: a listing of more than a page, and an upload in parts. Default false. */
  readonly quick?: boolean | undefined
  /** Of each check, in milliseconds. Default 30,000. */
  readonly checkTimeoutMs?: number | undefined
  readonly signal?: AbortSignal | undefined
  /** Called with each check as soon as it is made. */
  readonly onCheck?: ((check: Check) => void) | undefined
}

const DEFAULT_CHECK_TIMEOUT_MS = 30_000

/**
 * Tries out whether a store does what vecsnap asks of it. Writes below `probes/<id>/` only, and removes what
 * it wrote, also after a failure; what could not be removed is told by the check "cleanup".
 *
 * What is wrong with the store is never thrown but found. Throws `InvalidInput` for wrong options, and
 * `Aborted` when the signal fires, after cleaning up; its details then have `remaining`, the number of
 * objects that may be left, and their `prefix`.
 */
export async function diagnoseStore(root: Root, options: DoctorOptions = {}): Promise<Diagnosis> {
  return withRoot(root, options, async (store) => {
    const { signal, onCheck, quick = false, checkTimeoutMs = DEFAULT_CHECK_TIMEOUT_MS } = options
    assertWholeNumber("checkTimeoutMs", checkTimeoutMs, 1)
    throwIfAborted(signal)
    const trial = createTrial(store)
    const checks: Check[] = []
    const report = (name: CheckName, judgement: Judgement): void => {
      const check = { name, ...judgement }
      checks.push(check)
      onCheck?.(check)
    }
    try {
      for (const check of CHECKS) {
        const reason = reasonToSkip(check, checks, trial, quick)
        report(
          check.name,
          reason === undefined
            ? await make(check, trial, checkTimeoutMs, signal)
            : { verdict: "skipped", finding: reason },
        )
      }
    } catch (error) {
      const { remaining, prefix } = await cleanUp(trial, checkTimeoutMs)
      if (!signal?.aborted) throw error
      const left = remaining === 0 ? "" : `; ${remaining} objects may be left below ${prefix}`
      throw aborted(`doctor was stopped${left}`, { remaining, prefix }, signal.reason)
    }
    report("cleanup", judgeCleanup(await cleanUp(trial, checkTimeoutMs)))
    return diagnosisOf(store.url, checks)
  })
}

/** Why a check is not made, if it is not. */
function reasonToSkip(
  { name, lavish = false, needsWriting = true }: StoreCheck,
  made: readonly Check[],
  { store, permissions }: Trial,
  quick: boolean,
): string | undefined {
  const earlier = (other: CheckName): Check | undefined => made.find((check) => check.name === other)
  if (earlier("connection")?.verdict === "failed") return "the store cannot be used at all"
  if (earlier("objects")?.error !== undefined && needsWriting)
    return "it needs objects that can be written and read"
  if (lavish && quick) return "left out, as asked for"
  if (lavish && permissions.delete === "refused") return "what it writes could not be removed"
  if (name === "paging" && earlier("listing")?.error !== undefined) return "nothing can be listed"
  if (name === "multipart" && !/^s3:/i.test(store.url)) return "uploads in parts are an affair of S3"
  return undefined
}

/** Makes a check within the limit of time. Throws only if the caller's signal has fired. */
async function make(
  check: StoreCheck,
  trial: Trial,
  limitMs: number,
  callerSignal: AbortSignal | undefined,
): Promise<Judgement> {
  try {
    return await withinLimit(limitMs, callerSignal, (signal) => check.make(trial, signal))
  } catch (error) {
    throwIfAborted(callerSignal)
    return check.judgeError?.(error) ?? judgeError(check, error)
  }
}
