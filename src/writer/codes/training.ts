/**
 * The codebook of a build: trained on a sample of the rows, in a thread of its own, while the rows are laid
 * out and divided. That of the live snapshot is kept as long as it is as good as when it was new, so that
 * shards whose rows are the same are reused.
 */
import { join } from "node:path"
import { Worker } from "node:worker_threads"
import { errorFromWire, isVecsnapError, throwIfAborted } from "../../errors.js"
import { CODES_FILE } from "../../manifest/artifacts.js"
import { readLive } from "../../manifest/current.js"
import type { FileEntry, Manifest } from "../../manifest/manifest.js"
import { backendByName } from "../../shards/registry.js"
import { codesOf } from "../../snapshot/codes.js"
import { readVerified } from "../../snapshot/content.js"
import { openStore } from "../../storage/open.js"
import { CODEBOOK_ROWS, type SnapshotCodes } from "../../vectors/cells/codebook.js"
import type { Job } from "../job.js"
import type { CodesMessage, CodesTask } from "./worker.js"

export interface BuiltCodes {
  readonly codes: SnapshotCodes
  /** The object that has it, or what is to be stored as one. */
  readonly file: FileEntry | Uint8Array
}

export interface CodesTraining {
  /** Rows from which on shards have codes; `undefined` if those of the backend have none. */
  readonly fewest: number | undefined
  readonly hasBegun: boolean
  /** Rows of a sample, all of it if the input has fewer. */
  sampleRows(dim: number): number
  /** Begins, once; `sample` is in memory that threads share and does not change. */
  begin(sample: Float32Array, dim: number): void
  /** The codebook, if one was begun. */
  finish(): Promise<BuiltCodes | undefined>
  /** Ends what is not wanted any more. */
  end(): Promise<void>
}

/** The part of the memory limit that a sample may take: some copies of it are made on the way. */
const SAMPLE_SHARE = 1 / 8
/** Fewer rows say too little, whatever memory they take. */
const LEAST_SAMPLE_ROWS = 2048

export function createCodesTraining(job: Job): CodesTraining {
  const { options } = job
  const over = new AbortController()
  const signal = AbortSignal.any([job.signal, over.signal])
  let training: Promise<BuiltCodes> | undefined
  return {
    fewest: backendByName(options.backend).codedRows,
    get hasBegun() {
      return training !== undefined
    },
    sampleRows(dim) {
      const affordable = Math.floor((SAMPLE_SHARE * options.memoryLimit) / (4 * dim))
      return Math.min(CODEBOOK_ROWS, Math.max(LEAST_SAMPLE_ROWS, affordable))
    },
    begin(sample, dim) {
      training ??= trainCodes(job, sample, dim, signal)
      // Whoever waits for it is told; nobody may, where something else has failed before.
      training.catch(() => {})
    },
    finish: async () => training,
    async end() {
      over.abort()
      await training?.catch(() => {})
    },
  }
}

/** A codebook that there is already. */
interface KnownCodes {
  readonly file: Uint8Array
  /** Where it is stored in the root of this build. */
  readonly entry: FileEntry | undefined
  /** Whether it is taken whatever the rows are. */
  readonly isGiven: boolean
}

async function trainCodes(
  job: Job,
  sample: Float32Array,
  dim: number,
  signal: AbortSignal,
): Promise<BuiltCodes> {
  const { metric } = job.options
  const known = await knownCodes(job, dim, signal)
  const built = (file: Uint8Array, entry?: FileEntry): BuiltCodes => ({
    codes: codesOf(file, CODES_FILE, { dim, metric }),
    file: entry ?? file,
  })
  if (known?.isGiven) return built(known.file, known.entry)
  const reply = await runThread({ metric, dim, sample, known: known?.file }, signal)
  return "file" in reply ? built(reply.file) : built(known!.file, known!.entry)
}

/** That of the snapshot whose routing is taken, or else of the one whose shards may be reused. */
async function knownCodes(job: Job, dim: number, signal: AbortSignal): Promise<KnownCodes | undefined> {
  const { options, store, run, reuseFrom = run.base?.manifest ?? "nothing" } = job
  const base = options.reuse && reuseFrom !== "nothing" ? reuseFrom : undefined
  const fits = ({ schema }: Pick<Manifest, "schema">) =>
    schema.dim === dim && schema.metric === options.metric
  try {
    if (options.routingFrom !== undefined) {
      const from = openStore(options.routingFrom, options.store)
      try {
        const { manifest } = await readLive(from, { signal })
        if (manifest.codes !== undefined && fits(manifest)) {
          const file = await readVerified(from, manifest.codes, { signal })
          const isSame = base?.codes?.sha256 === manifest.codes.sha256
          return { file, entry: isSame ? base?.codes : undefined, isGiven: true }
        }
      } finally {
        from.close()
      }
    }
    if (base?.codes === undefined || !fits(base)) return undefined
    return { file: await readVerified(store, base.codes, { signal }), entry: base.codes, isGiven: false }
  } catch (error) {
    // One that is damaged, lost or too new is replaced.
    const isBad = ["Corrupt", "NotFound", "Unsupported"].some((tag) =>
      isVecsnapError(error, tag as "Corrupt"),
    )
    if (!isBad) throw error
    options.logger.warn({ error: (error as Error).message }, "a new codebook is trained")
    return undefined
  }
}

async function runThread(
  task: CodesTask,
  signal: AbortSignal,
): Promise<Exclude<CodesMessage, { error: unknown }>> {
  throwIfAborted(signal)
  const worker = new Worker(join(import.meta.dirname, "worker.js"), { workerData: task })
  const end = (): void => void worker.terminate()
  signal.addEventListener("abort", end)
  try {
    return await new Promise((resolve, reject) => {
      worker.on("message", (message: CodesMessage) => {
        if ("error" in message) reject(errorFromWire(message.error))
        else resolve(message)
      })
      worker.on("error", reject)
      worker.on("exit", () =>
        reject(new Error("the thread that trained the codebook ended before it was done")),
      )
    })
  } catch (error) {
    throwIfAborted(signal)
    throw error
  } finally {
    signal.removeEventListener("abort", end)
    await worker.terminate()
  }
}
