/** The audits of a reader: what it does if it is opened with the option `audit`. */
// Not the global one, which test runners replace by one that waits for the test to move the clock.
import { setTimeout } from "node:timers"
import { unavailable } from "../../errors.js"
import type { Logger } from "../../logger.js"
import { effortOf, type RouteChoice } from "../../sharding/route.js"
import { unpackVector } from "../../vectors/packed.js"
import type { Calls } from "../calls/calls.js"
import type { HeldStates } from "../held.js"
import { DEFAULT_K } from "../search.js"
import type { OpenShards } from "../shards/open-shards.js"
import type { OpenOptions, QueryVector, SearchOptions, SearchResult } from "../types.js"
import { recallOf } from "./ask-again.js"
import { Audit, type AuditClock, type AuditedQuery } from "./audit.js"
import { AUDIT_FILE_BYTES, AuditFile } from "./audit-file.js"

export interface Audits {
  /** Draws from queries that were just answered. */
  offer(queries: readonly QueryVector[], options: SearchOptions, results: readonly SearchResult[]): void
  counts(): { readonly audited: number; readonly dropped: number }
  close(): Promise<void>
}

export interface AuditedReader {
  readonly states: HeldStates
  readonly shards: OpenShards
  readonly calls: Pick<Calls, "admission">
  readonly maxOpenShards: number
  readonly logger: Logger
}

/** Between two parts of a query that is asked again. */
const MOMENT_MS = 10

/** Undefined if none are wanted. */
export function createAudits(
  { states, shards, calls, maxOpenShards, logger }: AuditedReader,
  options: Pick<OpenOptions<unknown>, "audit" | "auditFile" | "auditFileBytes">,
  clock?: AuditClock,
): Audits | undefined {
  const { audit: wanted, auditFile, auditFileBytes = AUDIT_FILE_BYTES } = options
  if (wanted === undefined) return undefined
  const isIdle = (): boolean => calls.admission.running === 0 && calls.admission.queued === 0
  const moment = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, MOMENT_MS).unref())

  const ask = (query: AuditedQuery, signal: AbortSignal): Promise<void> =>
    states.use(async ({ state, observedRecall }) => {
      if (state.info.run !== query.snapshot) throw unavailable("another snapshot is open")
      if (!(await shards.fits(state))) throw unavailable("the disk cache is too small for all shards")
      const recall = await recallOf(state, query, { shards, maxOpenShards, isIdle, moment }, signal)
      if (recall !== undefined) observedRecall.note(recall, query.target)
    })
  /** The recall that a query asked for, or that the snapshot has for those that ask for nothing. */
  function targetOf(run: string, vector: ArrayLike<number>, choice: RouteChoice): number | undefined {
    const { state } = states.current!
    // Where another one has become live meanwhile, the query is not asked again.
    if (state.info.run !== run) return choice.targetRecall
    return effortOf(state.routed, Float32Array.from(vector), choice).targetRecall
  }

  const audit = new Audit({ options: wanted, isIdle, ask, logger, clock })
  const file = auditFile === undefined ? undefined : new AuditFile(auditFile, auditFileBytes, logger)

  return {
    offer(queries, { shards: named, context, probes, targetRecall, k = DEFAULT_K }, results) {
      // Those that name their shards, or ask all, want what they get.
      if (named !== undefined || context !== undefined || probes === "all") return
      for (const [i, { complete, snapshot, hits }] of results.entries()) {
        if (!complete || !audit.draw()) continue
        const vector = numbersOf(queries[i]!)
        file?.add(vector)
        const distances = hits.map(({ distance }) => distance)
        const target = targetOf(snapshot, vector, { probes, targetRecall })
        audit.add({ vector, k, snapshot, distances, target })
      }
    },
    counts: () => ({ audited: audit.audited, dropped: audit.dropped }),
    async close() {
      await audit.close()
      await file?.close()
    },
  }
}

/** A query was answered, so that its bytes are float32. */
const numbersOf = (query: QueryVector): ArrayLike<number> =>
  query instanceof Uint8Array ? (unpackVector(query, { encoding: "float32" }) as ArrayLike<number>) : query
