/** Counts what a collection removes, over all its passes. */
import { type CollectReport, REMOVABLE_KINDS, type RemovableKind } from "./report.js"

/** An object that goes, or went. */
export interface RemovedObject {
  readonly key: string
  readonly kind: RemovableKind
  /** Run that it belongs to, if to one. */
  readonly run: string | undefined
  readonly size: number
}

export interface Tally {
  readonly objects: number
  readonly failed: ReadonlyMap<string, string>
  remove(object: RemovedObject): void
  fail(key: string, reason: string): void
  removed(): CollectReport["removed"]
}

export function createTally(): Tally {
  const failed = new Map<string, string>()
  const snapshots: { run: string; manifest: string }[] = []
  const counts = new Map(REMOVABLE_KINDS.map((kind) => [kind, { objects: 0, bytes: 0 }]))
  const sum = (field: "objects" | "bytes"): number =>
    [...counts.values()].reduce((total, count) => total + count[field], 0)
  return {
    get objects() {
      return sum("objects")
    },
    failed,
    remove({ key, kind, run, size }) {
      // What failed in an earlier pass may have gone in this one.
      failed.delete(key)
      const count = counts.get(kind)!
      count.objects++
      count.bytes += size
      if (kind === "manifest") snapshots.push({ run: run!, manifest: key })
    },
    fail: (key, reason) => void failed.set(key, reason),
    removed: () => ({
      snapshots,
      objects: sum("objects"),
      bytes: sum("bytes"),
      byKind: Object.fromEntries(counts) as CollectReport["removed"]["byKind"],
    }),
  }
}
