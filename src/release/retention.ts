/** Collection after a publication. */
import { messageOf } from "../errors.js"
import type { Logger } from "../logger.js"
import { collect } from "../maintenance/gc/collect.js"
import { type CollectOptions, resolveCollectOptions } from "../maintenance/gc/report.js"
import type { CallOptions, ObjectStore } from "../storage/store.js"

/** What a collection keeps; see {@link CollectOptions}. */
export type RetentionOptions = Pick<
  CollectOptions,
  "keepLast" | "keepDays" | "keepUnpublishedDays" | "graceSeconds"
>

/** What a collection after a build has removed, or why it has failed. */
export type CollectSummary =
  | {
      /** Runs whose snapshots were removed. */
      readonly snapshots: readonly string[]
      readonly objects: number
      readonly bytes: number
      /** Objects that could not be removed; the next collection tries again. */
      readonly failedObjects: number
    }
  | { readonly failure: string }

/** Throws `InvalidInput`, naming the option that is wrong. */
export function checkRetention(retention: RetentionOptions | undefined): void {
  if (retention !== undefined) resolveCollectOptions(retention)
}

/** Collects, and throws nothing: the snapshot is live by now, whatever comes of this. */
export async function collectAfterwards(
  store: ObjectStore,
  retention: RetentionOptions,
  logger: Logger,
  { signal }: CallOptions,
): Promise<CollectSummary> {
  try {
    const { removed, failed } = await collect(store, {
      ...retention,
      yes: true,
      logger,
      ...(signal && { signal }),
    })
    if (failed.length > 0)
      logger.warn({ objects: failed.length, first: failed[0] }, "objects were not removed by the collection")
    return {
      snapshots: removed.snapshots.map(({ run }) => run),
      objects: removed.objects,
      bytes: removed.bytes,
      failedObjects: failed.length,
    }
  } catch (error) {
    logger.warn({ error: messageOf(error) }, "the collection after the build failed")
    return { failure: messageOf(error) }
  }
}
