/**
 * What the machine, or the container on it, gives to this process; and the defaults that follow from it.
 */
import { readFileSync } from "node:fs"
import { availableParallelism, totalmem } from "node:os"

export interface MachineLimits {
  /** Memory in bytes: that of the container where one is bounded, else that of the machine. */
  readonly memoryBytes: number
  /** Files and sockets open at the same time, at most (`ulimit -n`). */
  readonly openFiles: number
  readonly cores: number
}

export interface ReaderDefaults {
  /** Vectors held in memory by a reader: a quarter of the memory, at most 1 GiB. */
  readonly memoryBytes: number
  /** Threads that search: one a core, at most 8, and one for each 128 MiB of memory. */
  readonly workers: number
  /** Shards open at the same time: a quarter of the open files, at most 256. */
  readonly maxOpenShards: number
  /**
   * Shards in work at the same time, each with a file and a connection: an eighth of the open files, at most
   * 64.
   */
  readonly concurrency: number
}

const GIB = 2 ** 30
const WORKER_BYTES = 128 * 2 ** 20

/** The defaults of a reader on such a machine. */
export function readerDefaults({ memoryBytes, openFiles, cores }: MachineLimits): ReaderDefaults {
  return {
    memoryBytes: share(memoryBytes, 4, GIB),
    workers: Math.min(cores, share(memoryBytes, WORKER_BYTES, 8)),
    maxOpenShards: share(openFiles, 4, 256),
    concurrency: share(openFiles, 8, 64),
  }
}

/** What help and schema say of {@link buildMemoryDefault}. */
export const BUILD_MEMORY_RULE = "1 GiB, or half of the container's or machine's memory if that is less"

/** What a build may take for a layout and for large rows where nothing is said. */
export const buildMemoryDefault = ({ memoryBytes }: Pick<MachineLimits, "memoryBytes">): number =>
  share(memoryBytes, 2, GIB)

const share = (whole: number, part: number, most: number): number =>
  Math.max(1, Math.min(most, Math.floor(whole / part)))

let limits: MachineLimits | undefined

/** The limits of this process, read once. */
export function machineLimits(): MachineLimits {
  limits ??= {
    memoryBytes: memoryOf(process.constrainedMemory(), totalmem()),
    openFiles: openFilesOf(procLimits()) ?? openFilesByReport(),
    cores: availableParallelism(),
  }
  return limits
}

/** Where nothing bounds it, Node says 0, or a number beyond all memory there is. */
export const memoryOf = (constrained: number | undefined, total: number): number =>
  constrained !== undefined && constrained > 0 ? Math.min(constrained, total) : total

/** The soft limit that the text of `/proc/self/limits` states; undefined if it states none. */
export function openFilesOf(text: string | undefined): number | undefined {
  const [, soft] = /^Max open files\s+(\d+|unlimited)/m.exec(text ?? "") ?? []
  if (soft === undefined) return undefined
  return soft === "unlimited" ? Number.POSITIVE_INFINITY : Number(soft)
}

function procLimits(): string | undefined {
  try {
    return readFileSync("/proc/self/limits", "utf8")
  } catch {
    return undefined
  }
}

// Where there is no /proc. Windows has no such limit.
function openFilesByReport(): number {
  const { excludeNetwork } = process.report as { excludeNetwork?: boolean }
  // It would look up the names of the peers of all connections.
  Object.assign(process.report, { excludeNetwork: true })
  const { userLimits } = process.report.getReport() as {
    readonly userLimits?: { readonly open_files?: { readonly soft: number | string } }
  }
  Object.assign(process.report, { excludeNetwork })
  const soft = userLimits?.open_files?.soft
  return typeof soft === "number" ? soft : Number.POSITIVE_INFINITY
}
