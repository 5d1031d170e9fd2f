// Not the global ones, which test runners replace by some that wait for the test to move the clock.
import { clearTimeout, setImmediate, setTimeout } from "node:timers"
import { Worker } from "node:worker_threads"
import { settledWithin } from "../../async/settled-within.js"
import { aborted, closed, errorFromWire, unavailable } from "../../errors.js"
import type { PoolShard } from "./memory/shard.js"
import type {
  CallName,
  Calls,
  Message,
  News,
  NumberedReply,
  NumberedRequest,
  Reply,
  WorkerData,
} from "./protocol.js"

// Some batches in flight keep a worker busy while a reply travels and the event loop is busy with others;
// what waits behind them can still be dropped when its caller gives up. Large batches would be answered late,
// and then all at once.
const BATCH_MAX = 4
const BATCHES_IN_FLIGHT_MAX = 4

/** How long a thread that is told to end may take before it is left to itself. */
const TERMINATION_MS = 2000

export interface SlotOptions {
  readonly script: URL
  readonly workerData: WorkerData
  /** How long a worker may take for a batch before it is ended. */
  readonly batchMs: number
  /** What the worker, which has been told of `known`, must be told before it is asked of some shards. */
  readonly newsFor: (shards: readonly PoolShard[], known: Knowledge) => News | undefined
  /** Called when the thread has begun to end; `gone` resolves when it has ended. */
  readonly onEnd: (gone: Promise<void>) => void
}

/** What a worker has been told: versions of shards by handle, sizes of memories by number. */
export interface Knowledge {
  readonly shards: Map<number, number>
  readonly arenas: Map<number, number>
}

interface Call<Name extends CallName> {
  /** That it is about. */
  readonly shards: readonly PoolShard[]
  /** Called when it is sent. */
  readonly fields: () => Calls[Name]["request"]
  readonly signal?: AbortSignal | undefined
}

interface Waiting extends Call<CallName> {
  readonly call: CallName
  readonly number: number
  readonly resolve: (value: Reply<CallName>) => void
  readonly reject: (error: unknown) => void
}

/**
 * A worker thread and the requests for it, first come, first served. The thread starts with the first request
 * and, should it die, again with the next one after; what it was working on then fails with `Unavailable`,
 * and so does what it has taken too long for. It keeps the process alive only while a request waits.
 */
export class WorkerSlot {
  readonly #options: SlotOptions
  #known: Knowledge = { shards: new Map(), arenas: new Map() }
  #gone: Promise<void> = Promise.resolve()
  #worker: Worker | undefined
  #nextNumber = 0
  #queue: Waiting[] = []
  /** Batches that were sent and not answered, in order. */
  #sent: (readonly Waiting[])[] = []
  #watchdog: NodeJS.Timeout | undefined
  #flushScheduled = false
  #closing: Promise<void> | undefined

  constructor(options: SlotOptions) {
    this.#options = options
  }

  /** Requests that wait for an answer. */
  get pending(): number {
    return this.#sent.reduce((sum, batch) => sum + batch.length, this.#queue.length)
  }

  /** Resolves when no thread runs any more that was to end. */
  get gone(): Promise<void> {
    return this.#gone
  }

  knows({ handle }: PoolShard): boolean {
    return this.#known.shards.has(handle)
  }

  forget({ handle }: PoolShard): void {
    this.#known.shards.delete(handle)
  }

  /**
   * Sends a request, together with all others of this turn of the event loop. If the signal fires before it
   * is sent, it is not sent.
   */
  call<Name extends CallName>(name: Name, call: Call<Name>): Promise<Reply<Name>> {
    return new Promise<Reply<Name>>((resolve, reject) => {
      if (this.#closing !== undefined) throw closed("the pool of search workers is closed")
      const settle = { resolve: resolve as (value: Reply<CallName>) => void, reject }
      this.#queue.push({ ...(call as Call<CallName>), call: name, number: this.#nextNumber++, ...settle })
      if (this.#flushScheduled) return
      this.#flushScheduled = true
      setImmediate(() => {
        this.#flushScheduled = false
        this.#flush()
      })
    })
  }

  /** Ends the thread if nothing waits for it; the next request starts another one. */
  rest(): void {
    if (this.#worker !== undefined && this.pending === 0)
      void this.#end(() => unavailable("a search worker was ended"))
  }

  /** Ends the thread; what still waits fails with `Closed`. Idempotent. */
  close(): Promise<void> {
    this.#closing ??= this.#end(() => closed("the pool of search workers was closed"))
    return this.#closing
  }

  #flush(): void {
    while (this.#queue.length > 0 && this.#sent.length < BATCHES_IN_FLIGHT_MAX) {
      const batch: Waiting[] = []
      const requests: NumberedRequest[] = []
      for (const waiting of this.#queue.splice(0, BATCH_MAX)) {
        const request = requestOf(waiting)
        if (request === undefined) continue
        batch.push(waiting)
        requests.push(request)
      }
      if (batch.length === 0) continue
      const news = this.#options.newsFor(
        batch.flatMap(({ shards }) => shards),
        this.#known,
      )
      this.#worker ??= this.#start()
      this.#worker.ref()
      this.#sent.push(batch)
      if (this.#sent.length === 1) this.#watch()
      this.#worker.postMessage({ news, requests } satisfies Message)
    }
  }

  /** Ends the worker unless the first batch that it has is answered in time. */
  #watch(): void {
    if (this.#watchdog !== undefined) clearTimeout(this.#watchdog)
    this.#watchdog = undefined
    if (this.#sent.length > 0)
      this.#watchdog = setTimeout(() => this.#giveUp(), this.#options.batchMs).unref()
  }

  #giveUp(): void {
    const { batchMs } = this.#options
    const stuck = this.#sent.shift() ?? []
    // What was to come after it has done nothing, and goes to the next worker.
    this.#queue.unshift(...this.#sent.splice(0).flat())
    const waiting = this.#queue.splice(0)
    for (const { shards, reject } of stuck) {
      const files = Array.from(new Set(shards.map(({ file }) => file)))
      const what = `a search worker has not answered for ${batchMs} ms and was ended`
      reject(unavailable(`${what}; it was reading ${files.join(", ")}`, { files }))
    }
    void this.#end((): Error => unavailable("a search worker was ended"))
    this.#queue.push(...waiting)
    this.#flush()
  }

  #start(): Worker {
    // Without the flags of the process: some of them, like --input-type, are errors in a worker.
    const { script, workerData } = this.#options
    const worker = new Worker(script, { name: "vecsnap-search", execArgv: [], workerData })
    worker.on("message", (replies: readonly NumberedReply[]) => {
      if (this.#worker !== worker) return
      const batch = this.#sent.shift()!
      this.#watch()
      if (this.#sent.length === 0) worker.unref()
      this.#flush()
      for (const [i, reply] of replies.entries()) settle(batch[i]!, reply)
    })
    let reason: unknown
    worker.on("error", (error) => {
      reason = error
    })
    worker.on("exit", (code) => {
      if (this.#worker !== worker) return
      const detail = reason instanceof Error ? reason.message : `exit code ${code}`
      void this.#end(() => unavailable(`a search worker ended unexpectedly: ${detail}`, {}, reason))
    })
    return worker
  }

  async #end(error: () => Error): Promise<void> {
    const worker = this.#worker
    const waiting = [...this.#sent.flat(), ...this.#queue]
    this.#worker = undefined
    this.#sent = []
    this.#queue = []
    this.#watch()
    this.#known = { shards: new Map(), arenas: new Map() }
    const termination = worker?.terminate()
    const gone = Promise.all([this.#gone, termination]).then(() => {})
    this.#gone = gone
    this.#options.onEnd(gone)
    for (const { reject } of waiting) reject(error())
    // A thread within native code ends when that does, which may be never. It must not keep the process
    // alive.
    if (termination !== undefined && !(await settledWithin(termination, TERMINATION_MS))) worker!.unref()
  }
}

/** Undefined, and an end of the waiting, for what shall not or cannot be sent. */
function requestOf({ call, number, fields, signal, reject }: Waiting): NumberedRequest | undefined {
  if (signal?.aborted) {
    reject(aborted("the search was aborted", {}, signal.reason))
    return undefined
  }
  try {
    return { number, request: { call, ...fields() } } as NumberedRequest
  } catch (error) {
    reject(error)
    return undefined
  }
}

function settle({ resolve, reject }: Waiting, reply: NumberedReply): void {
  if ("error" in reply) reject(errorFromWire(reply.error))
  else resolve(reply.value)
}
