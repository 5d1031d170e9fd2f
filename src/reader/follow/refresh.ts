/**
 * Following the live snapshot: which shards to open before the swap, and the timer of `autoRefresh`.
 */
import { invalidInput } from "../../errors.js"
import type { SnapshotState } from "../state.js"
import type { AutoRefresh } from "../types.js"

export interface WarmBudget {
  readonly shards: number
  /** Of their files. */
  readonly bytes: number
}

/**
 * Shards of the next snapshot to open before it answers, by number: those that `recent` (latest last) names,
 * that both snapshots have, and whose content changed. The latest used come first; a shard beyond the budget
 * is passed over, a smaller one after it may still fit.
 */
export function chooseShardsToWarm(
  before: Pick<SnapshotState, "contents">,
  after: Pick<SnapshotState, "contents" | "shards">,
  recent: Iterable<number>,
  budget: WarmBudget,
): readonly number[] {
  const known = new Set(before.contents.values())
  const chosen: number[] = []
  let bytes = 0
  for (const shard of [...recent].reverse()) {
    if (chosen.length >= budget.shards) break
    const entry = after.shards.get(shard)
    if (entry === undefined || !before.contents.has(shard) || known.has(after.contents.get(shard)!)) continue
    const size = entry.files.reduce((sum, file) => sum + file.size, 0)
    if (bytes + size > budget.bytes) continue
    bytes += size
    chosen.push(shard)
  }
  return chosen
}

/** Time and chance, which tests replace. */
export interface RefreshClock {
  /**
   * Calls back once, after `ms`, without keeping the process alive. Returns a function that takes this back.
   */
  after(ms: number, callback: () => void): () => void
  /** At least 0, less than 1. */
  random(): number
}

const SYSTEM_CLOCK: RefreshClock = {
  after(ms, callback) {
    const timer = setTimeout(callback, ms).unref()
    return () => clearTimeout(timer)
  },
  random: Math.random,
}

const DEFAULT_JITTER = 0.1
const MAX_SECONDS = 1_000_000

/**
 * Refreshes again and again: `everySeconds`, more or less by the share `jitter`, after the previous refresh
 * has ended, so that they never overlap. What `refresh` throws is for it to report. Returns a function that
 * stops.
 */
export function startAutoRefresh(
  { everySeconds, jitter = DEFAULT_JITTER }: AutoRefresh,
  refresh: () => Promise<unknown>,
  clock: RefreshClock = SYSTEM_CLOCK,
): () => void {
  if (!(everySeconds > 0 && everySeconds <= MAX_SECONDS)) {
    throw invalidInput(
      `option autoRefresh.everySeconds is ${everySeconds}, expected a number above 0, at most ${MAX_SECONDS}`,
      { everySeconds },
    )
  }
  if (!(jitter >= 0 && jitter <= 1)) {
    throw invalidInput(`option autoRefresh.jitter is ${jitter}, expected a number from 0 to 1`, { jitter })
  }
  let stopped = false
  let cancel = (): void => {}
  const schedule = (): void => {
    if (stopped) return
    const delayMs = everySeconds * 1000 * (1 + jitter * (2 * clock.random() - 1))
    cancel = clock.after(delayMs, () => {
      refresh().then(schedule, schedule)
    })
  }
  schedule()
  return () => {
    stopped = true
    cancel()
  }
}
