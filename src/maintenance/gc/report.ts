/** What a collection takes and reports. */
import { assertWholeNumber, invalidInput } from "../../errors.js"
import { type Logger, silentLogger } from "../../logger.js"
import type { ParsedKey } from "../../manifest/keys.js"
import type { RootCallOptions } from "../../storage/root.js"
import type { CallOptions } from "../../storage/store.js"
import type { Retention } from "./rules.js"

export interface CollectOptions extends RootCallOptions {
  /** Whether to remove what may go. Default false: the report tells what would be removed. */
  readonly yes?: boolean | undefined
  /** Snapshots that were live last, the live one included, that are kept; 1 to 100, default 3. */
  readonly keepLast?: number | undefined
  /** Snapshots built within so many days are kept; default 0. */
  readonly keepDays?: number | undefined
  /**
   * Snapshots that were never live, and records of runs without a snapshot, are kept for so many days;
   * default 7.
   */
  readonly keepUnpublishedDays?: number | undefined
  /** Nothing goes that was written, or was live, within so many seconds; default 21,600, 6 hours. */
  readonly graceSeconds?: number | undefined
  readonly onProgress?: ((progress: CollectProgress) => void) | undefined
  readonly logger?: Logger | undefined
}

export interface CollectProgress {
  /** Reading what is used, listing objects, or removing them. */
  readonly stage: "survey" | "list" | "remove"
  /** Manifests, objects listed, or objects removed so far. */
  readonly done: number
  readonly total: number | undefined
}

export type RemovableKind = Exclude<ParsedKey["kind"], "pointer">
export const REMOVABLE_KINDS = ["manifest", "shard", "routing", "probe", "pin", "reader", "run"] as const

/** In a dry run: what would be removed. */
export interface RemovedObjects {
  readonly snapshots: readonly { readonly run: string; readonly manifest: string }[]
  readonly objects: number
  readonly bytes: number
  readonly byKind: Readonly<Record<RemovableKind, { readonly objects: number; readonly bytes: number }>>
}

export interface CollectReport {
  readonly url: string
  readonly dryRun: boolean
  /** When the collection began; by the store's clock, if `clock` is "store". */
  readonly now: Date
  /**
   * "machine": this may not write, so the ages of objects are by the clock of this machine; dry runs only.
   */
  readonly clock: "store" | "machine"
  readonly removed: RemovedObjects
  /** Snapshots that stay, newest first, and why. */
  readonly kept: readonly {
    readonly run: string
    readonly manifest: string
    readonly reasons: readonly string[]
  }[]
  /** Runs that go on or may, all of whose files stay. */
  readonly protectedRuns: readonly { readonly run: string; readonly reason: string }[]
  /** Objects below our folders that are not ours; the first few keys. They are never removed. */
  readonly foreign: { readonly objects: number; readonly keys: readonly string[] }
  /** What could not be removed; the next collection tries again. */
  readonly failed: readonly { readonly key: string; readonly reason: string }[]
  /** What somebody should look at, a sentence each. */
  readonly problems: readonly string[]
}

export interface ResolvedCollectOptions extends Retention, CallOptions {
  readonly yes: boolean
  readonly onProgress: (progress: CollectProgress) => void
  readonly logger: Logger
}

/** The options with their defaults. Throws `InvalidInput`, naming the option that is wrong. */
export function resolveCollectOptions(options: CollectOptions): ResolvedCollectOptions {
  const { keepLast = 3, keepDays = 0, keepUnpublishedDays = 7, graceSeconds = 21_600 } = options
  assertWholeNumber("keepLast", keepLast, 1)
  if (keepLast > 100)
    throw invalidInput(`option keepLast is ${keepLast}, expected a whole number from 1 to 100`, { keepLast })
  for (const [option, value] of Object.entries({ keepDays, keepUnpublishedDays, graceSeconds })) {
    if (Number.isFinite(value) && value >= 0) continue
    throw invalidInput(`option ${option} is ${value}, expected a number from 0`, { option, value })
  }
  return {
    keepLast,
    keepDays,
    keepUnpublishedDays,
    graceSeconds,
    yes: options.yes ?? false,
    onProgress: options.onProgress ?? (() => {}),
    logger: options.logger ?? silentLogger,
    signal: options.signal,
  }
}
