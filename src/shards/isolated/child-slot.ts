import type { ChildProcess } from "node:child_process"
// Not the global ones, which test runners replace by some that wait for the test to move the clock.
import { clearTimeout, setImmediate, setTimeout } from "node:timers"
import { settledWithin } from "../../async/settled-within.js"
import { aborted, closed, errorFromWire, messageOf, unavailable } from "../../errors.js"
import { launch } from "./launch.js"
import {
  type CallName,
  type Calls,
  type NumberedReply,
  type NumberedRequest,
  READY,
  type Reply,
  type Request,
  type Start,
} from "./protocol.js"

/** How long a process may take to start, whatever its requests may take: the machine may be busy. */
const START_MS = 60_000

/** How long a killed process may take to be gone before it is left to itself. */
const KILLED_MS = 2000

/** What is kept of what the process says on stderr: the reason of an abort is at its end. */
const STDERR_CHARACTERS = 500

/** The process has ended before it answered. */
export class ProcessEnded extends Error {
  constructor(
    /** How it ended, as half a sentence. */
    readonly reason: string,
    /** The shards that were being read. */
    readonly names: readonly string[],
    /** Whether the process reads one shard at a time. */
    readonly isAside: boolean,
  ) {
    super(reason)
  }
}

export interface ChildOptions {
  readonly start: Omit<Start, "parent">
  /** Requests that the process has at a time; the others wait here. */
  readonly inFlight: number
  /** How long it may take for a request, in milliseconds, before it is killed. */
  readonly timeoutMs: number
  /** Told which shards were being read when the process ended, and how it did, before their calls fail. */
  readonly onEnd: (names: readonly string[], reason: string) => void
}

export interface CallOptions {
  /** Names of the shards that it reads. */
  readonly names: readonly string[]
  readonly signal?: AbortSignal | undefined
}

interface Waiting extends NumberedRequest, CallOptions {
  readonly resolve: (value: Reply<CallName>) => void
  readonly reject: (error: unknown) => void
  deadline?: NodeJS.Timeout
}

/**
 * A process that reads shards, and the requests for it, first come, first served. It starts with the first
 * request and, should it end, again with the next one after; whatever it had not answered fails with
 * {@link ProcessEnded}. It keeps this process alive only while a request waits.
 */
export class ChildSlot {
  /** Counts the processes that ended. Shards that were opened at another count are gone. */
  generation = 0

  readonly #options: ChildOptions
  #child: ChildProcess | undefined
  #isReady = false
  #nextNumber = 0
  #queue: Waiting[] = []
  readonly #sent = new Map<number, Waiting>()
  #flushScheduled = false
  #closing: Promise<void> | undefined

  constructor(options: ChildOptions) {
    this.#options = options
  }

  /**
   * Sends a request when its turn comes, not before the end of this turn of the event loop. If the signal
   * fires before it is sent, it is not sent.
   */
  call<Name extends CallName>(
    call: Name,
    fields: Calls[Name]["request"],
    options: CallOptions,
  ): Promise<Reply<Name>> {
    return new Promise<Reply<Name>>((resolve, reject) => {
      if (this.#closing !== undefined) throw closed("the shard pool is closed")
      const settle = { resolve: resolve as (value: Reply<CallName>) => void, reject }
      const request = { call, ...fields } as Request
      this.#queue.push({ number: this.#nextNumber++, request, ...options, ...settle })
      if (this.#flushScheduled) return
      this.#flushScheduled = true
      setImmediate(() => {
        this.#flushScheduled = false
        this.#flush()
      })
    })
  }

  /** Ends the process; what still waits fails with `Closed`. Idempotent. */
  close(): Promise<void> {
    this.#closing ??= this.#stop()
    return this.#closing
  }

  #flush(): void {
    while (this.#queue.length > 0 && this.#sent.size < this.#options.inFlight) {
      const [first] = this.#queue
      if (first!.signal?.aborted) {
        this.#queue.shift()
        first!.reject(aborted("the search was aborted", {}, first!.signal.reason))
        continue
      }
      this.#child ??= this.#start()
      const child = this.#child
      hold(child)
      if (!this.#isReady) return
      this.#queue.shift()
      this.#send(child, first!)
    }
  }

  #send(child: ChildProcess, waiting: Waiting): void {
    const { timeoutMs } = this.#options
    const { number, request } = waiting
    this.#sent.set(number, waiting)
    waiting.deadline = setTimeout(() => {
      this.#end(child, `it was killed after ${timeoutMs} ms without an answer`)
    }, timeoutMs)
    // What cannot be sent is noticed by the end of the process.
    child.send({ number, request } satisfies NumberedRequest, () => {})
  }

  #start(): ChildProcess {
    const { start } = this.#options
    const child = launch(start)
    const late = setTimeout(() => this.#end(child, `it did not start within ${START_MS} ms`), START_MS)
    let said = ""
    child.stderr!.setEncoding("utf8").on("data", (text: string) => {
      said = (said + text).slice(-STDERR_CHARACTERS)
    })
    child.on("message", (message: typeof READY | NumberedReply) => {
      if (this.#child !== child) return
      if (message === READY) {
        clearTimeout(late)
        this.#isReady = true
      } else this.#settle(message)
      this.#flush()
      if (this.#sent.size === 0 && this.#queue.length === 0) release(child)
    })
    child.on("error", (error) => this.#end(child, messageOf(error)))
    // Not "exit", which may come before the last words.
    child.on("close", (code, signal) => {
      clearTimeout(late)
      const words = said.trim().split("\n").at(-1)
      const how = signal === null ? `it ended with exit code ${code}` : `it ended with ${signal}`
      this.#end(child, words ? `${how}: ${words}` : how)
    })
    child.send({ ...start, parent: process.pid } satisfies Start, () => {})
    return child
  }

  #settle(reply: NumberedReply): void {
    const waiting = this.#sent.get(reply.number)
    this.#sent.delete(reply.number)
    clearTimeout(waiting?.deadline)
    if ("error" in reply) waiting?.reject(errorFromWire(reply.error))
    else waiting?.resolve(reply.value)
  }

  /** The process is of no more use. */
  #end(child: ChildProcess, reason: string): void {
    if (this.#child !== child) return
    child.kill("SIGKILL")
    const hadStarted = this.#isReady
    const names = Array.from(this.#sent.values(), (sent) => sent.names).flat()
    this.#options.onEnd(names, reason)
    this.#fail(
      hadStarted
        ? new ProcessEnded(reason, names, this.#options.inFlight === 1)
        : unavailable(`the process that reads shards could not be started: ${reason}`),
    )
    release(child)
  }

  #fail(error: Error): void {
    const waiting = [...this.#sent.values(), ...this.#queue]
    this.#child = undefined
    this.#isReady = false
    this.#sent.clear()
    this.#queue = []
    this.generation++
    for (const { deadline, reject } of waiting) {
      clearTimeout(deadline)
      reject(error)
    }
  }

  async #stop(): Promise<void> {
    const child = this.#child
    this.#fail(closed("the shard pool was closed"))
    if (child === undefined) return
    const gone = new Promise((resolve) => child.once("exit", resolve))
    if (child.exitCode !== null || child.signalCode !== null) return
    child.kill("SIGKILL")
    await settledWithin(gone, KILLED_MS)
    release(child)
  }
}

/** While it has something to do, it keeps this process alive. */
function hold(child: ChildProcess): void {
  child.ref()
  child.channel?.ref()
}

function release(child: ChildProcess): void {
  child.unref()
  child.channel?.unref()
  // A socket, whatever the type says.
  ;(child.stderr as unknown as { unref(): void }).unref()
}
