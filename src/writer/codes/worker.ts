/** Thread entry: trains a codebook for `training.ts`, unless an older one is as good. */
import { parentPort, workerData } from "node:worker_threads"
import { errorToWire, type WireError } from "../../errors.js"
import { decodeCodebook, encodeCodebook, stillFits, trainCodebook } from "../../vectors/cells/codebook.js"
import type { Metric } from "../../vectors/metric.js"

export interface CodesTask {
  readonly metric: Metric
  readonly dim: number
  /** In memory that threads share, `rows × dim`. */
  readonly sample: Float32Array
  /** The file of an older codebook for the same metric and dimension. */
  readonly known: Uint8Array | undefined
}

/** The file of a new codebook, or that the known one serves. */
export type CodesMessage =
  | { readonly file: Uint8Array }
  | { readonly serves: true }
  | { readonly error: WireError }

parentPort!.postMessage(answer(workerData))

function answer({ metric, dim, sample, known }: CodesTask): CodesMessage {
  try {
    if (known !== undefined && stillFits(decodeCodebook(known, "codes.npz"), sample)) return { serves: true }
    return { file: encodeCodebook(trainCodebook(metric, sample, dim)) }
  } catch (error) {
    return { error: errorToWire(error) }
  }
}
