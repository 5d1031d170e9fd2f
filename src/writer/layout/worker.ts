/** Thread entry: makes a layout for `layout.ts`. */
import { parentPort, workerData } from "node:worker_threads"
import { errorToWire, type WireError } from "../../errors.js"
import { type LaidOut, type LayoutTask, runLayoutTask } from "./task.js"
import { startWorkers } from "./threads.js"

export type LayoutMessage =
  | { readonly step: string }
  | { readonly laidOut: LaidOut }
  | { readonly error: WireError }

const post = (message: LayoutMessage): void => parentPort!.postMessage(message)

try {
  const task: LayoutTask = workerData
  const workers = task.threads > 1 ? await startWorkers(task.threads) : undefined
  const laidOut = runLayoutTask(task, workers, (step) => post({ step }))
  await workers?.end()
  post({ laidOut })
} catch (error) {
  post({ error: errorToWire(error) })
}
