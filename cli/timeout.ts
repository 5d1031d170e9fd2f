import { VecsnapError } from "../src/errors.js"
import type { Io } from "./io.js"

/**
 * Runs `work` for at most so many seconds, if a number is given; the signal that it gets then fires. Throws
 * `Unavailable` in place of what came of that, so that the exit code says "retry later", not "stopped by
 * Ctrl-C".
 */
export async function withTimeout<T>(
  io: Io,
  seconds: number | undefined,
  work: (io: Io) => Promise<T>,
): Promise<T> {
  if (seconds === undefined) return work(io)
  // Rounded, since 4.35 s are not a whole number of milliseconds in floating point.
  const limit = AbortSignal.timeout(Math.ceil(seconds * 1000))
  try {
    return await work({ ...io, signal: AbortSignal.any([io.signal, limit]) })
  } catch (error) {
    if (!limit.aborted || io.signal.aborted) throw error
    throw new VecsnapError("Unavailable", `no answer within ${seconds} s (--timeout)`, { seconds }, error)
  }
}
