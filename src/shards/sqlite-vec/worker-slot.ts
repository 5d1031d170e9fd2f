// Not the global one, which test runners replace by one that waits for the test to move the clock.
import { setImmediate } from "node:timers"
import { Worker } from "node:worker_threads"
import { settledWithin } from "../../async/settled-within.js"
import { aborted, closed, errorFromWire, unavailable } from "../../errors.js"
import type { CallName, Calls, NumberedReply, NumberedRequest, Reply, WorkerData } from "./protocol.js"

// Some batches in flight keep a worker busy while a reply travels and the event loop is busy with others;
// what waits behind them can still be dropped when its caller gives up. Large batches would be answered late,
// and then all at once.
const BATCH_MAX = 4
const BATCHES_IN_FLIGHT_MAX = 4

/** How long a thread that is told to end may take before it is left to itself. */
const TERMINATION_MS = 2000

interface Waiting {
  readonly request: NumberedRequest
  readonly signal: AbortSignal | undefined
  readonly onSend: (() => void) | undefined
  readonly resolve: (value: Reply<CallName>) => void
  readonly reject: (error: unknown) => void
}

/**
 * A worker thread and the requests for it, first come, first served. The thread starts with the first request
 * and, should it die, again with the next one after; what it was working on then fails with `Unavailable`. It
 * keeps the process alive only while a request waits.
 */
export class WorkerSlot {
  /** Counts the deaths of the thread. Shards that were opened at another count are gone. */
  generation = 0
  /** Bytes of shard files that live here; kept by the pool. */
  readonly load = { fileBytes: 0 }

  readonly #script: URL
  readonly #workerData: WorkerData
  #worker: Worker | undefined
  #nextNumber = 0
  #queue: Waiting[] = []
  readonly #sent = new Map<number, Waiting>()
  #batchesInFlight = 0
  #flushScheduled = false
  #closing: Promise<void> | undefined

  constructor(script: URL, workerData: WorkerData) {
    this.#script = script
    this.#workerData = workerData
  }

  /**
   * Sends a request, together with all others of this turn of the event loop. If the signal fires before it
   * is sent, it is not sent. `fields` may change until `onSend` is called.
   */
  call<Name extends CallName>(
    call: Name,
    fields: Calls[Name]["request"],
    signal?: AbortSignal | undefined,
    onSend?: () => void,
  ): Promise<Reply<Name>> {
    return new Promise<Reply<Name>>((resolve, reject) => {
      if (this.#closing !== undefined) throw closed("the pool of search workers is closed")
      const request = { number: this.#nextNumber++, request: { call, ...fields } } as NumberedRequest
      const settle = { resolve: resolve as (value: Reply<CallName>) => void, reject }
      this.#queue.push({ request, signal, onSend, ...settle })
      if (this.#flushScheduled) return
      this.#flushScheduled = true
      setImmediate(() => {
        this.#flushScheduled = false
        this.#flush()
      })
    })
  }

  /** Ends the thread; what still waits fails with `Closed`. Idempotent. */
  close(): Promise<void> {
    this.#closing ??= this.#stop(closed("the pool of search workers was closed"))
    return this.#closing
  }

  #flush(): void {
    while (this.#queue.length > 0 && this.#batchesInFlight < BATCHES_IN_FLIGHT_MAX) {
      const batch = this.#queue.splice(0, BATCH_MAX).filter((waiting) => {
        if (waiting.signal?.aborted)
          waiting.reject(aborted("the search was aborted", {}, waiting.signal.reason))
        return !waiting.signal?.aborted
      })
      if (batch.length === 0) continue
      this.#worker ??= this.#start()
      this.#worker.ref()
      for (const waiting of batch) {
        this.#sent.set(waiting.request.number, waiting)
        waiting.onSend?.()
      }
      this.#batchesInFlight++
      this.#worker.postMessage(batch.map(({ request }) => request))
    }
  }

  #start(): Worker {
    // Without the flags of the process: some of them, like --input-type, are errors in a worker.
    const worker = new Worker(this.#script, {
      name: "vecsnap-search",
      execArgv: [],
      workerData: this.#workerData,
    })
    worker.on("message", (replies: readonly NumberedReply[]) => {
      if (this.#worker !== worker) return
      this.#batchesInFlight--
      if (this.#batchesInFlight === 0) worker.unref()
      this.#flush()
      for (const reply of replies) this.#settle(reply)
    })
    let reason: unknown
    worker.on("error", (error) => {
      reason = error
    })
    worker.on("exit", (code) => {
      if (this.#worker !== worker) return
      const detail = reason instanceof Error ? reason.message : `exit code ${code}`
      void this.#stop(unavailable(`a search worker ended unexpectedly: ${detail}`, {}, reason))
    })
    return worker
  }

  #settle(reply: NumberedReply): void {
    const waiting = this.#sent.get(reply.number)
    this.#sent.delete(reply.number)
    if ("error" in reply) waiting?.reject(errorFromWire(reply.error))
    else waiting?.resolve(reply.value)
  }

  async #stop(error: Error): Promise<void> {
    const worker = this.#worker
    const waiting = [...this.#sent.values(), ...this.#queue]
    this.#worker = undefined
    this.#sent.clear()
    this.#queue = []
    this.#batchesInFlight = 0
    this.generation++
    this.load.fileBytes = 0
    for (const { reject } of waiting) reject(error)
    // A thread within native code ends when that does, which may be never. It must not keep the process
    // alive.
    if (worker !== undefined && !(await settledWithin(worker.terminate(), TERMINATION_MS))) worker.unref()
  }
}
