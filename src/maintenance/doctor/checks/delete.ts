/** Whether what is deleted is gone. */
import type { DeleteFailure } from "../../../storage/store.js"
import type { Judgement } from "../diagnosis.js"
import type { Trial } from "../trial.js"
import type { StoreCheck } from "./check.js"
import { bytesOf } from "./contents.js"
import { failed, ok } from "./judgements.js"

interface DeleteSeen {
  readonly failures: readonly DeleteFailure[]
  /** Of the deleted objects, those that are still there. */
  readonly remaining: number
  readonly deleted: number
}

const DELETED_AT_ONCE = 10

/** Deletes one object, several in one call, and one that does not exist. */
async function observeDelete({ store, key }: Trial, signal: AbortSignal): Promise<DeleteSeen> {
  const keys = Array.from({ length: DELETED_AT_ONCE + 1 }, (_, i) => key(`delete-${i}`))
  for (const each of keys) await store.put(each, bytesOf("to be deleted"), { signal })
  const failures = [
    ...(await store.delete(keys.slice(0, 1), { signal })),
    ...(await store.delete(keys.slice(1), { signal })),
    ...(await store.delete([key("delete-missing")], { signal })),
  ]
  let remaining = 0
  for (const each of keys) if ((await store.head(each, { signal })) !== undefined) remaining++
  return { failures, remaining, deleted: keys.length }
}

export function judgeDelete({ failures, remaining, deleted }: DeleteSeen): Judgement {
  if (remaining > 0)
    return failed(
      `${remaining} of ${deleted} deleted objects are still there`,
      "gc would report what it did not do",
    )
  const [first] = failures
  if (first !== undefined)
    return failed(
      `objects are deleted, but ${failures.length} failures were reported, the first: ${first.reason}`,
      "gc would report failures and never be done",
    )
  return ok("one, many at once and a missing one")
}

export const deletion: StoreCheck = {
  name: "delete",
  dispensable: true,
  withoutIt: "gc removes nothing: what old runs and snapshots occupy stays",
  make: async (...at) => judgeDelete(await observeDelete(...at)),
}
