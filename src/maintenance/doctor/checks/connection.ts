/** Whether the store answers, and knows who asks. */
import { type ErrorTag, isLasting, isVecsnapError } from "../../../errors.js"
import type { Judgement } from "../diagnosis.js"
import { isRefusal, type Trial } from "../trial.js"
import { judgeError, type StoreCheck } from "./check.js"
import { ok, warning } from "./judgements.js"

export const NO_FIRST_BUILD =
  "the first build at an empty root looks for a pointer that is missing, and stops at the refusal; grant s3:ListBucket, with which the answer is 404"

/** What a key that does not exist gives. */
export type MissingSeen = "missing" | "refused" | "found"

/** Asks for a key that does not exist. */
export async function observeConnection({ store, key }: Trial, signal: AbortSignal): Promise<MissingSeen> {
  const none = key("missing")
  try {
    const found = (await store.get(none, { signal })) ?? (await store.head(none, { signal }))
    return found === undefined ? "missing" : "found"
  } catch (error) {
    if (isRefusal(error)) return "refused"
    throw error
  }
}

/** Of asking for a key that does not exist. */
export function judgeConnection(seen: MissingSeen): Judgement {
  if (seen === "refused")
    return {
      ...warning("the store answers, but refuses to say whether a key exists", NO_FIRST_BUILD),
      error: "InvalidInput",
    }
  return ok("the store answers, and knows who asks")
}

const MEANING_OF_NO_CONNECTION: Readonly<Partial<Record<ErrorTag, string>>> = {
  Unavailable: "the store does not answer now, or not at this address",
  InvalidInput: "the settings or the credentials are wrong",
}

/** Of an error on asking for a key that does not exist. */
export function judgeNoConnection(error: unknown): Judgement {
  const judgement = judgeError({ name: "connection" }, error)
  if (isLasting(error)) {
    return { ...judgement, meaning: MEANING_OF_NO_CONNECTION.InvalidInput! }
  }
  const meaning = isVecsnapError(error) ? MEANING_OF_NO_CONNECTION[error.tag] : undefined
  return { ...judgement, ...(meaning !== undefined && { meaning }) }
}

export const connection: StoreCheck = {
  name: "connection",
  needsWriting: false,
  make: async (...at) => judgeConnection(await observeConnection(...at)),
  judgeError: judgeNoConnection,
}
