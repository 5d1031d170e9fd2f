/**
 * One check of doctor, a file each: an experiment with the store, and a pure judgement of what it showed.
 * What a check is not about (an outage, a refusal) its experiment throws.
 */
import { isLasting, isVecsnapError, messageOf } from "../../../errors.js"
import type { CheckName, Judgement } from "../diagnosis.js"
import { isRefusal, type Trial } from "../trial.js"

export interface StoreCheck {
  readonly name: CheckName
  /** What it means for vecsnap if this does not work at all. */
  readonly withoutIt?: string
  /** Part of vecsnap does without: then a refusal is a warning. */
  readonly dispensable?: boolean
  /** Whether it writes much. */
  readonly lavish?: boolean
  /** False if it can be made, and tells something, where nothing can be written. Default true. */
  readonly needsWriting?: boolean
  /** Makes the experiment, below the keys of the trial only, and judges it. */
  make(trial: Trial, signal: AbortSignal): Promise<Judgement>
  /** Judges that the experiment could not be made. Default: {@link judgeError}. */
  judgeError?(error: unknown): Judgement
}

/** What it means that a check could not be made at all. */
export function judgeError(
  { withoutIt, dispensable = false }: Pick<StoreCheck, "name" | "withoutIt" | "dispensable">,
  error: unknown,
): Judgement {
  return {
    verdict: dispensable && isRefusal(error) ? "warning" : "failed",
    finding: isRefusal(error) ? `refused: ${messageOf(error)}` : messageOf(error),
    ...(withoutIt !== undefined && { meaning: withoutIt }),
    // What is lasting is asked about here: for the doctor it is what the user gave that is wrong.
    ...(isVecsnapError(error) && { error: isLasting(error) ? "InvalidInput" : error.tag }),
  }
}
