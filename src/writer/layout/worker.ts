/** Thread entry: makes a layout for `layout.ts`. */
import { parentPort, workerData } from "node:worker_threads"
import { errorToWire, type WireError } from "../../errors.js"
import { type LaidOut, type LayoutTask, runLayoutTask } from "./task.js"
import { createCrew } from "./threads.js"

export type LayoutMessage =
  | { readonly step: string }
  | { readonly laidOut: LaidOut }
  | { readonly error: WireError }

const post = (message: LayoutMessage): void => parentPort!.postMessage(message)

try {
  const task: LayoutTask = workerData
  const crew = task.threads > 1 ? await createCrew(task.threads) : undefined
  const laidOut = runLayoutTask(task, crew, (step) => post({ step }))
  await crew?.end()
  post({ laidOut })
} catch (error) {
  post({ error: errorToWire(error) })
}
