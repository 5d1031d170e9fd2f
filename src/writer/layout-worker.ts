/** Thread entry: runs the parts of a layout for `layout.ts`. */
import { errorToWire, type WireError } from "../errors.js"
import { type LayoutTask, type LayoutTaskResult, runLayoutTask } from "./layout-task.js"

export type LayoutWorkerReply =
  | { readonly result: LayoutTaskResult[keyof LayoutTaskResult] }
  | { readonly error: WireError }

export default function run(task: LayoutTask): LayoutWorkerReply {
  try {
    return { result: runLayoutTask(task) }
  } catch (error) {
    return { error: errorToWire(error) }
  }
}
