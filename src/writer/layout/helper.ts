/** Thread entry: does parts of steps for `threads.ts`. */
import { type MessagePort, parentPort, workerData } from "node:worker_threads"
import { errorToWire } from "../../errors.js"
import { finishShift, type Shift, takeParts } from "./threads.js"

const failures: MessagePort = workerData

parentPort!.on("message", (shift: Shift) => {
  try {
    takeParts(shift)
  } catch (error) {
    failures.postMessage(errorToWire(error))
  } finally {
    finishShift(shift)
  }
})
parentPort!.postMessage("ready")
