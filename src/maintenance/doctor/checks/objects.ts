/** Whether what is written is read. */
import type { Judgement } from "../diagnosis.js"
import type { Trial } from "../trial.js"
import type { StoreCheck } from "./check.js"
import { type MissingSeen, NO_FIRST_BUILD, observeConnection } from "./connection.js"
import { bytesOf, textOf } from "./contents.js"
import { failed, ok, warning } from "./judgements.js"

interface ObjectsSeen {
  /** What did not come back as it was written, in words. */
  readonly faults: readonly string[]
  readonly missing: MissingSeen
}

/** Writes, reads and overwrites an object, and asks for one that does not exist. */
async function observeObjects(trial: Trial, signal: AbortSignal): Promise<ObjectsSeen> {
  const { store, key } = trial
  const at = key("object")
  const faults: string[] = []
  for (const text of ["first content", "second, longer content"]) {
    const { etag } = await store.put(at, bytesOf(text), { signal })
    const [got, head] = [await store.get(at, { signal }), await store.head(at, { signal })]
    if (got === undefined || head === undefined) faults.push("an object that was written is not found")
    else {
      if (textOf(got.body) !== text) faults.push("GET right after PUT gives other bytes than were written")
      if (head.size !== bytesOf(text).length)
        faults.push(`HEAD says ${head.size} bytes of ${bytesOf(text).length}`)
      if (got.etag !== etag || head.etag !== etag) faults.push("PUT, GET and HEAD do not give the same ETag")
    }
  }
  return { faults, missing: await observeConnection(trial, signal) }
}

export function judgeObjects({ faults, missing }: ObjectsSeen): Judgement {
  if (faults.length > 0) return failed(faults.join("; "), "snapshots would be damaged, or not seen")
  if (missing === "found")
    return failed(
      "a key that was never written is found",
      "an empty root would be taken for a damaged snapshot",
    )
  if (missing === "refused")
    return warning("PUT, GET and HEAD work; a key that does not exist is refused", NO_FIRST_BUILD)
  return ok("PUT, GET and HEAD agree, also right after overwriting; missing keys are missing")
}

export const objects: StoreCheck = {
  name: "objects",
  needsWriting: false,
  withoutIt: "builds cannot write",
  make: async (...at) => judgeObjects(await observeObjects(...at)),
}
