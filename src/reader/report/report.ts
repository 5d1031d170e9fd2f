/** What a reader says of itself when it is asked: its health and its figures, gathered from its parts. */
import type { Calls } from "../calls/calls.js"
import type { Follower } from "../follow/follower.js"
import type { SnapshotLease } from "../follow/lease.js"
import type { HeldState } from "../held.js"
import type { OpenShards } from "../shards/open-shards.js"
import { recallAtDefault } from "../state.js"
import type { Health, ReaderStats } from "../types.js"
import { judgeHealth, type Trial } from "./health.js"

export interface HealthParts {
  readonly held: HeldState
  readonly calls: Calls
  readonly follower: Follower
  readonly lease: SnapshotLease | undefined
  readonly maxAgeSeconds: number | undefined
  readonly trial: Trial | undefined
}

export function reportHealth({ held, calls, follower, lease, maxAgeSeconds, trial }: HealthParts): Health {
  const { info, snapshot, fellBack } = held.state
  const { pointer, pinned, lastRefresh } = follower
  const counts = calls.recent.counts()
  const unlikeQueries = held.recentQueries.unlike()
  const observedRecall = held.observedRecall.summary()
  const verdict = judgeHealth({
    nowMs: Date.now(),
    closed: calls.ended,
    pinned,
    snapshot: info.run,
    fellBack,
    // The pointer may have been moved away and back since this snapshot was opened.
    publishedAtMs: (pointer.last?.run === info.run ? pointer.last : info).publishedAt.getTime(),
    maxAgeSeconds,
    lastRefresh,
    pointerFailure: pointer.failure,
    calls: counts,
    lastFailure: calls.recent.lastFailure,
    failingShards: held.failingShards,
    trial,
    leaseOver: lease?.over(),
    unlikeQueries,
    observedRecall,
  })
  const facts = {
    recall: recallAtDefault(snapshot),
    lastRefresh,
    pointerReadAt: pointer.readAt,
    calls: counts,
    unlikeQueries,
    observedRecall,
  }
  return {
    ...verdict,
    snapshot: info.run,
    format: info.format,
    pinned,
    signedBy: info.signedBy,
    ...facts,
  }
}

/** Calls and shards as they are now. */
export function reportStats(
  calls: Calls,
  shards: OpenShards,
  requests: ReaderStats["requests"],
  audit: ReaderStats["audit"],
): ReaderStats {
  const { running, queued, refused } = calls.admission
  const { open, opens, bytes, waiting, downloads } = shards.stats()
  return {
    openShards: open,
    openShardBytes: bytes,
    waitingForShards: waiting,
    shardOpens: opens,
    shardDownloads: downloads,
    requests,
    calls: { running, queued, refused },
    audit,
  }
}
