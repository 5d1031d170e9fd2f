/** Whether the store's clock agrees with ours. */
import type { Judgement } from "../diagnosis.js"
import type { Trial } from "../trial.js"
import type { StoreCheck } from "./check.js"
import { bytesOf } from "./contents.js"
import { failed, ok, warning } from "./judgements.js"

/** All in milliseconds since 1970; the first and the last by the clock of this machine. */
interface ClockSeen {
  readonly beforeMs: number
  readonly storedMs: number
  readonly afterMs: number
}

/** Writes an object and compares its time with the clock of this machine. */
async function observeClock({ store, key }: Trial, signal: AbortSignal): Promise<ClockSeen> {
  const at = key("clock")
  const beforeMs = Date.now()
  await store.put(at, bytesOf("what time is it?"), { signal })
  const afterMs = Date.now()
  const storedMs = (await store.head(at, { signal }))?.lastModified.getTime() ?? Number.NaN
  return { beforeMs, storedMs, afterMs }
}

/** S3 tells times in whole seconds, cut off. */
const RESOLUTION_MS = 1000
const TOLERATED_SKEW_MS = 5000

/** How far the store's clock is ahead of ours (behind, if negative), at the least. */
export function skewOf({ beforeMs, storedMs, afterMs }: ClockSeen): number {
  if (storedMs > afterMs) return storedMs - afterMs
  if (storedMs + RESOLUTION_MS < beforeMs) return storedMs + RESOLUTION_MS - beforeMs
  return 0
}

export function judgeClock(seen: ClockSeen): Judgement {
  const skewMs = skewOf(seen)
  if (Number.isNaN(seen.storedMs))
    return failed("the store does not tell when an object was written", "gc cannot tell what is old")
  if (Math.abs(skewMs) <= TOLERATED_SKEW_MS) return ok("this machine and the store agree within 5 s")
  const direction = skewMs > 0 ? "ahead of" : "behind"
  return warning(
    `the store's clock is ${Math.round(Math.abs(skewMs) / 1000).toLocaleString("en-US")} s ${direction} this machine's`,
    "which of two runs began first is told by the clocks of the machines that build: set this one right; ages in gc go by the store's clock alone; S3 refuses what is 15 minutes off, so that requests are signed by the store's clock then, and other tools fail",
  )
}

export const clock: StoreCheck = {
  name: "clock",
  dispensable: true,
  make: async (...at) => judgeClock(await observeClock(...at)),
}
