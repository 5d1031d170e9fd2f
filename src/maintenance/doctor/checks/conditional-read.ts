/** Whether a reader that has what is there is told so. */
import type { Judgement } from "../diagnosis.js"
import type { Trial } from "../trial.js"
import type { StoreCheck } from "./check.js"
import { bytesOf, textOf } from "./contents.js"
import { failed, ok, warning } from "./judgements.js"

interface ConditionalReadSeen {
  /** Asked with the ETag that the object has. */
  readonly same: "unchanged" | "object"
  /** Asked with the ETag that it had before. */
  readonly changed: "unchanged" | "new content" | "other content"
}

/** Reads an object "if changed", before and after it was replaced. */
async function observeConditionalRead(
  { store, key }: Trial,
  signal: AbortSignal,
): Promise<ConditionalReadSeen> {
  const at = key("conditional-read")
  const { etag } = await store.put(at, bytesOf("before"), { signal })
  const same = await store.getIfChanged(at, etag, { signal })
  await store.put(at, bytesOf("after"), { signal })
  const changed = await store.getIfChanged(at, etag, { signal })
  const content = changed === "unchanged" ? undefined : textOf(changed?.body)
  return {
    same: same === "unchanged" ? "unchanged" : "object",
    changed: changed === "unchanged" ? "unchanged" : content === "after" ? "new content" : "other content",
  }
}

export function judgeConditionalRead({ same, changed }: ConditionalReadSeen): Judgement {
  if (changed !== "new content") {
    const got = changed === "unchanged" ? '"unchanged"' : "other content"
    return failed(
      `a changed object, asked for if changed, gives ${got}`,
      "readers that refresh would not see new snapshots",
    )
  }
  if (same !== "unchanged")
    return warning(
      "an object that did not change is sent again",
      "readers that refresh read the whole pointer each time: slower, not wrong",
    )
  return ok("what did not change is not sent again; what changed is")
}

export const conditionalRead: StoreCheck = {
  name: "conditional read",
  withoutIt: "readers look for a new snapshot so",
  make: async (...at) => judgeConditionalRead(await observeConditionalRead(...at)),
}
