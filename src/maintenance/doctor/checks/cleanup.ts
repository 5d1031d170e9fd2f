/** The removal of what doctor wrote, which is a check of its own: the last one. */
import { messageOf } from "../../../errors.js"
import type { Judgement } from "../diagnosis.js"
import { withinLimit } from "../time-limit.js"
import type { Trial } from "../trial.js"
import { ok, warning } from "./judgements.js"
import { keysOf } from "./listing.js"

interface CleanupSeen {
  readonly written: number
  /** What is known, or to be feared, to remain. */
  readonly remaining: number
  readonly prefix: string
  readonly reason?: string
}

/** Removes all that the trial wrote, and looks whether it is gone. Never throws. */
export async function cleanUp({ store, prefix, written }: Trial, limitMs: number): Promise<CleanupSeen> {
  let remaining = written.size
  let reason: string | undefined
  const remove = async (keys: readonly string[]): Promise<void> => {
    if (keys.length === 0) return
    const failures = await withinLimit(limitMs, undefined, (signal) => store.delete(keys, { signal }))
    remaining = failures.length
    reason = failures[0]?.reason
  }
  const list = (): Promise<string[]> =>
    withinLimit(limitMs, undefined, (signal) => keysOf(store, prefix, signal))

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

export function judgeCleanup({ written, remaining, prefix, reason }: CleanupSeen): Judgement {
  if (remaining === 0) return ok(`all ${written.toLocaleString("en-US")} keys of doctor are removed`)
  const why = reason === undefined ? "" : `: ${reason}`
  return warning(
    `${remaining.toLocaleString("en-US")} objects may be left below ${prefix}${why}`,
    "nothing but doctor uses them; gc removes them, or delete them by hand",
  )
}
