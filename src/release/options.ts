/** What a build and its release take together, and what they tell at the end. */
import { assertWholeNumber } from "../errors.js"
import type { ShardFigures } from "../manifest/figures.js"
import type { SigningOptions } from "../manifest/signing.js"
import type { RecallCertificate } from "../recall/curves.js"
import { assertTrust, type TrustOptions } from "../shards/pools.js"
import type { ObjectStore } from "../storage/store.js"
import type { RequestCounts } from "../storage/with-counting.js"
import type { WriterOptions } from "../writer/options.js"
import { checkGateOptions, type GateName, type GateOptions, type GateResult } from "./gates/options.js"
import { type CollectSummary, checkRetention, type RetentionOptions } from "./retention.js"

/** Options of {@link buildSnapshot}: those of the writer, and how what was built is released. */
export interface BuildOptions extends WriterOptions, SigningOptions, TrustOptions {
  /** Root of the snapshots: `s3://bucket/prefix`, a directory, `memory://name`, or an open store. */
  readonly to: string | ObjectStore
  /** Make the snapshot live; default true. If not, `publishRun` does later. */
  readonly publish?: boolean | undefined
  /**
   * Limits that the snapshot must keep before it becomes live, else `GateRefused` is thrown and nothing is
   * published. Dimension, metric and model label are compared with the live snapshot even if there are no
   * limits. Not checked without `publish`.
   */
  readonly gates?: GateOptions | undefined
  /** Gates that may refuse all the same. */
  readonly allow?: readonly GateName[] | undefined
  /**
   * Collect what is no longer needed after publishing; default: collect nothing. If that fails, the report
   * tells.
   */
  readonly retention?: RetentionOptions | undefined
  /** Publish even if another run was published since this one started. */
  readonly force?: boolean | undefined
  /**
   * The run is taken for dead, and what it wrote is collected in the end, if it gives no sign of life for so
   * long; default 120 s, at least 30.
   */
  readonly leaseSeconds?: number | undefined
}

export interface BuildReport {
  readonly run: string
  /** Root of the snapshot, as in `to`. */
  readonly url: string
  /** Key of the manifest. */
  readonly manifest: string
  /** Whether the snapshot is live now. */
  readonly published: boolean
  /** Run that was live before, if any. */
  readonly replaced: string | undefined
  /** What was collected afterwards, or why nothing was; undefined if nothing was to be. */
  readonly collected: CollectSummary | undefined
  /** Rows of the snapshot, each counted once. */
  readonly rows: number
  /** Rows stored beyond `rows`: copies in further shards. */
  readonly copies: number
  /** What was done otherwise than asked for, and why: a layout that needs less memory, say. */
  readonly notes: readonly string[]
  readonly skippedRows: number
  /** The first few bad rows that were skipped, as sentences. */
  readonly skippedReasons: readonly string[]
  readonly duplicateRows: number
  /** Recall as it was measured; `undefined` if it was not. */
  readonly recall: RecallCertificate | undefined
  readonly dim: number
  /** Results of the gates, none of which refused; empty if the snapshot was not to be published. */
  readonly gates: readonly GateResult[]
  readonly shards: ShardFigures
  /** Bytes of all shard files, routing artifacts and the id locator of the snapshot. */
  readonly bytes: number
  /** Calls to the store by operation, and bytes written to it. */
  readonly requests: Readonly<RequestCounts>
  /** Milliseconds by stage, and in all. */
  readonly timingsMs: Readonly<Record<string, number>>
}

/** Throws `InvalidInput` for what is wrong with the options of the release; the writer checks its own. */
export function checkReleaseOptions(options: BuildOptions): void {
  const { leaseSeconds, gates, allow, retention } = options
  assertTrust(options)
  assertWholeNumber("leaseSeconds", leaseSeconds, 30)
  checkGateOptions(gates, allow)
  checkRetention(retention)
}
