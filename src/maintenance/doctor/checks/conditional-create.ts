/** Whether of many who create an object one wins. */
import type { Judgement } from "../diagnosis.js"
import type { Trial } from "../trial.js"
import type { StoreCheck } from "./check.js"
import { bytesOf, textOf } from "./contents.js"
import { count, failed, ok, warning } from "./judgements.js"
import { attempt, type Outcome, RACES_NOT_EXCLUDED, RACING_WRITERS, settleAll } from "./races.js"

const CREATE_ROUNDS = 5

interface ConditionalCreateSeen {
  readonly ofMissing: Outcome
  readonly ofExisting: Outcome
  /** Number of those who were told to have won, round by round. */
  readonly winners: readonly number[]
  /** Rounds in which the object does not hold what the one winner wrote. */
  readonly overwritten: number
}

/** Creates an object twice, then lets writers race to create one. */
async function observeConditionalCreate(
  { store, key }: Trial,
  signal: AbortSignal,
): Promise<ConditionalCreateSeen> {
  const create = (file: string, text: string): Promise<Outcome> =>
    attempt(store.put(key(file), bytesOf(text), { ifAbsent: true, signal }))
  const ofMissing = await create("create", "first")
  const ofExisting = await create("create", "second")
  const winners: number[] = []
  let overwritten = 0
  for (let round = 0; round < CREATE_ROUNDS; round++) {
    const file = `create-race-${round}`
    // Each writes something else: equal bytes would count as the same write whose reply was lost.
    const texts = Array.from({ length: RACING_WRITERS }, (_, writer) => `writer ${writer}`)
    const outcomes = await settleAll(texts.map((text) => create(file, text)))
    const winning = texts.filter((_, writer) => outcomes[writer] === "written")
    winners.push(winning.length)
    const stored = textOf((await store.get(key(file), { signal }))?.body)
    if (winning.length === 1 && stored !== winning[0]) overwritten++
  }
  return { ofMissing, ofExisting, winners, overwritten }
}

export function judgeConditionalCreate(seen: ConditionalCreateSeen): Judgement {
  const { ofMissing, ofExisting, winners, overwritten } = seen
  if (ofMissing === "conflict")
    return failed(
      "creating a key that does not exist is refused as existing",
      "builds fail at their first object",
    )
  if (winners.includes(0))
    return failed(
      `of ${RACING_WRITERS} racing creates none won in ${count(winners, (n) => n === 0)} of ${winners.length} rounds`,
      "two builds that publish at the same time could both fail",
    )
  const faults = [
    ofExisting === "written" ? "create-only overwrites an object that exists" : "",
    winners.some((n) => n > 1)
      ? `of ${RACING_WRITERS} racing creates up to ${Math.max(...winners)} were told to have won`
      : "",
    overwritten > 0 ? `in ${overwritten} rounds the object is not what its one winner wrote` : "",
  ].filter(Boolean)
  if (faults.length > 0) return warning(faults.join("; "), RACES_NOT_EXCLUDED)
  return ok(
    `create-only is honoured; exactly 1 of ${RACING_WRITERS} racing writers won in ${winners.length} rounds`,
  )
}

export const conditionalCreate: StoreCheck = {
  name: "conditional create",
  withoutIt: "builds create every object so, and fail",
  make: async (...at) => judgeConditionalCreate(await observeConditionalCreate(...at)),
}
