/** Whether an object is overwritten only by who knows what is there. */
import { randomUUID } from "node:crypto"
import type { ObjectStore } from "../../../storage/store.js"
import type { Judgement } from "../diagnosis.js"
import type { Trial } from "../trial.js"
import type { StoreCheck } from "./check.js"
import { bytesOf, textOf } from "./contents.js"
import { failed, ok, warning } from "./judgements.js"
import { attempt, type Outcome, RACES_NOT_EXCLUDED, RACING_WRITERS, settleAll } from "./races.js"

const INCREMENTS_PER_WRITER = 3
/** Of one writer; a race in which everybody loses must end. */
const MAX_INCREMENT_ATTEMPTS = 200

interface ConditionalOverwriteSeen {
  readonly ofCurrent: Outcome
  readonly ofStale: Outcome
  readonly ofMissing: Outcome
  /** Increments that writers were told to have made, and the counter in the end. */
  readonly acknowledged: number
  readonly counted: number
  /** Writers that gave up, each after many lost attempts. */
  readonly exhausted: number
}

/** Overwrites an object by its current and by a stale ETag, then lets writers race to increment a counter. */
async function observeConditionalOverwrite(
  { store, key }: Trial,
  signal: AbortSignal,
): Promise<ConditionalOverwriteSeen> {
  const at = key("overwrite")
  const { etag } = await store.put(at, bytesOf("first"), { signal })
  const overwrite = (target: string, text: string): Promise<Outcome> =>
    attempt(store.put(target, bytesOf(text), { ifMatch: etag, signal }))
  const ofCurrent = await overwrite(at, "second")
  const ofStale = await overwrite(at, "third")
  const ofMissing = await overwrite(key("overwrite-missing"), "fourth")

  const counter = key("counter")
  await store.put(counter, counterBody(0), { signal })
  const made = await settleAll(
    Array.from({ length: RACING_WRITERS }, () => incrementSeveral(store, counter, signal)),
  )
  return {
    ofCurrent,
    ofStale,
    ofMissing,
    acknowledged: made.reduce((sum, increments) => sum + increments, 0),
    counted: countIn((await store.get(counter, { signal }))?.body),
    exhausted: made.filter((increments) => increments < INCREMENTS_PER_WRITER).length,
  }
}

async function incrementSeveral(store: ObjectStore, counter: string, signal: AbortSignal): Promise<number> {
  let made = 0
  for (let i = 0; i < MAX_INCREMENT_ATTEMPTS && made < INCREMENTS_PER_WRITER; i++) {
    const current = await store.get(counter, { signal })
    const next = counterBody(countIn(current?.body) + 1)
    const ifMatch = current?.etag ?? ""
    if ((await attempt(store.put(counter, next, { ifMatch, signal }))) === "written") made++
  }
  return made
}

// Never twice the same, so that no writer takes another's increment for its own whose reply was lost.
const counterBody = (count: number): Uint8Array => bytesOf(`${count} ${randomUUID()}`)
const countIn = (body: Uint8Array | undefined): number => Number.parseInt(textOf(body) ?? "", 10)

export function judgeConditionalOverwrite(seen: ConditionalOverwriteSeen): Judgement {
  const { ofCurrent, ofStale, ofMissing, acknowledged, counted, exhausted } = seen
  if (ofCurrent === "conflict")
    return failed("an overwrite with the current ETag is refused", "no build but the first can be published")
  const faults = [
    ofStale === "written" ? "an overwrite with a stale ETag is accepted" : "",
    ofMissing === "written" ? "an overwrite with an ETag creates a key that does not exist" : "",
    counted !== acknowledged
      ? `${RACING_WRITERS} racing writers made ${acknowledged} increments, and the counter shows ${counted}`
      : "",
  ].filter(Boolean)
  if (faults.length > 0) return warning(faults.join("; "), RACES_NOT_EXCLUDED)
  if (exhausted > 0)
    return warning(
      `${exhausted} of ${RACING_WRITERS} racing writers never got their turn`,
      "a publisher that races with others may have to be started again",
    )
  return ok(
    `a stale ETag is refused; ${RACING_WRITERS} racing writers made ${acknowledged} increments, and none was lost`,
  )
}

export const conditionalOverwrite: StoreCheck = {
  name: "conditional overwrite",
  withoutIt: "the second build is never published",
  make: async (...at) => judgeConditionalOverwrite(await observeConditionalOverwrite(...at)),
}
