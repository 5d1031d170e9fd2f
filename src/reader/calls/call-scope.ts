/**
 * What bounds one call of a reader: the caller's signal, a time limit, and the end of the reader, as one
 * signal.
 */
import { setMaxListeners } from "node:events"
import { onAbort } from "../../async/abortable.js"
import { aborted, assertMilliseconds, closed, isVecsnapError, type VecsnapError } from "../../errors.js"
import { asTagged } from "../../storage/system-fault.js"

export interface CallScope {
  /**
   * Fires when the call is to stop, and also when it has failed, so that nothing it began goes on for nobody.
   */
  readonly signal: AbortSignal
  /**
   * The error that the caller is to see: why the call was stopped, if that is what went wrong. One of the
   * system gets a tag.
   */
  explain(error: unknown): unknown
  /**
   * To be called when the call has ended, whatever its result. If it is `complete`, all that it began has
   * ended as well, so that there is nothing to stop: a signal that fires costs as much as a small search.
   */
  end(complete?: boolean): void
}

export interface CallBounds {
  /** What runs, for messages: "search". */
  readonly what: string
  readonly signal?: AbortSignal | undefined
  readonly timeoutMs?: number | undefined
  /** The option that the limit is from; default "timeoutMs". */
  readonly option?: string | undefined
  /** Fires when the reader is closed without waiting. */
  readonly closing: AbortSignal
}

/** One for all calls: an error takes its stack with it, which costs as much as all the rest. */
const ENDED = new Error("the call has ended")

/**
 * Begins a call. `AbortSignal.any` would do, but keeps every call of a long-lived signal in memory on Node
 * 20.
 */
export function createCallScope({
  what,
  signal,
  timeoutMs,
  option = "timeoutMs",
  closing,
}: CallBounds): CallScope {
  if (timeoutMs !== undefined) assertMilliseconds(option, timeoutMs)
  const controller = new AbortController()
  // Many shards at a time rightly wait for one signal; Node would print a warning.
  setMaxListeners(0, controller.signal)

  let verdict: VecsnapError | undefined
  const stop = (why: VecsnapError | undefined, reason: unknown) => {
    if (controller.signal.aborted) return
    verdict = why
    controller.abort(reason)
  }
  const onSignal = () => stop(undefined, signal?.reason)
  const onClosing = () => stop(closed(`this reader was closed while a ${what} ran`), closing.reason)
  const onTimeout = () => {
    const late = aborted(`the ${what} has not ended within ${timeoutMs} ms (${option})`, {
      [option]: timeoutMs,
    })
    stop(late, late)
  }
  if (signal?.aborted) onSignal()
  const forgetSignal = signal && onAbort(signal, onSignal)
  const forgetClosing = onAbort(closing, onClosing)
  const timer = timeoutMs === undefined ? undefined : setTimeout(onTimeout, timeoutMs)

  return {
    signal: controller.signal,
    explain: (error) =>
      verdict !== undefined && isVecsnapError(error, "Aborted") ? verdict : asTagged(error, `a ${what}`),
    end(complete = false) {
      clearTimeout(timer)
      forgetSignal?.()
      forgetClosing()
      if (!complete) stop(undefined, ENDED)
    },
  }
}
