/**
 * Worker threads that share the steps of a layout with the thread that makes it. That one is busy or asleep
 * until a step is done, so all that passes between them goes through memory that they share.
 */
import { join } from "node:path"
import { MessageChannel, receiveMessageOnPort, Worker } from "node:worker_threads"
import { errorFromWire, type WireError } from "../../errors.js"
import { runPart } from "../../sharding/cluster/layout/parts.js"
import type { Part, Workers } from "../../sharding/cluster/space/workers.js"

/** What a helper is posted for each step. */
export interface Shift {
  readonly parts: readonly Part[]
  /** How many parts have been taken, and how many helpers have nothing left to take. */
  readonly counts: Int32Array
}
const TAKEN = 0
const FINISHED = 1

/**
 * Starts workers: `threads` threads, this one included, until `end` is called. They also end with this
 * thread.
 */
export async function startWorkers(threads: number): Promise<Workers & { end(): Promise<void> }> {
  const helpers = await Promise.all(Array.from({ length: threads - 1 }, startHelper))
  return {
    threads,
    run(parts) {
      const counts = new Int32Array(new SharedArrayBuffer(8))
      const shift: Shift = { parts, counts }
      for (const { worker } of helpers) worker.postMessage(shift)
      try {
        takeParts(shift)
      } catch (error) {
        Atomics.store(counts, TAKEN, parts.length) // the helpers need not go on
        throw error
      } finally {
        for (let finished = 0; finished < helpers.length; finished = Atomics.load(counts, FINISHED)) {
          Atomics.wait(counts, FINISHED, finished)
        }
      }
      for (const { failures } of helpers) {
        const failure = receiveMessageOnPort(failures)
        if (failure !== undefined) throw errorFromWire(failure.message as WireError)
      }
    },
    async end() {
      await Promise.all(helpers.map(({ worker }) => worker.terminate()))
    },
  }
}

async function startHelper() {
  const { port1: failures, port2 } = new MessageChannel()
  const worker = new Worker(join(import.meta.dirname, "helper.js"), {
    workerData: port2,
    transferList: [port2],
  })
  await new Promise<void>((resolve, reject) => worker.once("message", () => resolve()).once("error", reject))
  return { worker, failures }
}

/** Does parts until none is left. */
export function takeParts({ parts, counts }: Shift): void {
  for (let part = Atomics.add(counts, TAKEN, 1); part < parts.length; part = Atomics.add(counts, TAKEN, 1)) {
    runPart(parts[part]!)
  }
}

/** Says that the caller, a helper, has done the last part that it took. */
export function finishShift({ counts }: Shift): void {
  Atomics.add(counts, FINISHED, 1)
  Atomics.notify(counts, FINISHED)
}
