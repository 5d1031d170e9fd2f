/** What the answers of a case are worth, by what is known of its base. */
import { isDeepStrictEqual } from "node:util"
import { EXIT_UNEXPECTED } from "../../cli/exit-codes.js"
import { type FoundRecord, type Id, isVecsnapError, type Metric, stringifyJson } from "../../src/index.js"
import { plainDistance } from "../support/records.js"
import type { FuzzCase } from "./case.js"
import type { Answers, Plan, Search } from "./operations.js"

/**
 * - `error`: a call has thrown an error of ours; all other answers are as below.
 * - `right`: all answers are those of the base.
 * - `replaced`: answers differ as far as data was replaced, and are sound.
 * - `wrong`: an answer is neither, or an error is none of ours.
 * - `hang`: a call has ended because its time was up.
 */
export type Verdict = "error" | "right" | "replaced" | "wrong" | "hang"

export interface Judgement {
  readonly verdict: Verdict
  readonly reasons: readonly string[]
}

/** What is known of a base: each record with its shard. */
export interface Truth {
  readonly metric: Metric
  readonly run: string
  readonly records: readonly { readonly record: FoundRecord; readonly vector: Float32Array }[]
}

/** Longer ones fill a screen or a log: all that is told of a case is short, whatever lies in the root. */
const MESSAGE_MOST = 4000
/** A run record, of 256 KiB at most, is printed as it is. */
const PRINTED_MOST = 1_000_000

export function judge(it: Omit<FuzzCase, "objects">, answers: Answers, truth: Truth, plan: Plan): Judgement {
  const wrong: string[] = []
  const timeouts: string[] = []
  let differs = false
  for (const { call, error } of answers.errors) {
    if (!isVecsnapError(error)) {
      wrong.push(`${call}: untyped: ${error instanceof Error ? error.stack : String(error)}`)
      continue
    }
    if (error.message.length > MESSAGE_MOST) wrong.push(`${call}: a message of ${error.message.length}`)
    if (error.details.timeoutMs !== undefined || error.details.waitedMs !== undefined)
      timeouts.push(`${call}: ${error.message}`)
    if (error.tag === "InvalidInput" && it.target !== "manifest" && it.target !== "pointer")
      wrong.push(`${call}: blames the caller: ${error.message}`)
  }
  const isSame = it.replaced !== "all" && it.replaced.size === 0
  for (const search of answers.searches) {
    const problem = soundness(search, answers) ?? differences(search, it, truth)
    if (problem !== undefined) wrong.push(`search: ${problem}`)
    if (!isSame) differs ||= differencesFrom(search, truth) !== undefined
  }
  const { records } = answers
  if (records !== undefined) {
    if (records.length !== plan.ids.length) wrong.push(`get: ${records.length} records`)
    for (const [i, found] of records.entries()) {
      const known = byId(truth, plan.ids[i]!)
      if (found !== undefined && found.id !== plan.ids[i]) wrong.push(`get: ${found.id} for ${plan.ids[i]}`)
      if (isDeepStrictEqual(found, known)) continue
      differs = true
      const isLost = found === undefined && it.target === "locator"
      const isReplaced = it.replaced === "all" || (known !== undefined && it.replaced.has(known.shard))
      const isForged = known === undefined && !isSame
      if (!isLost && !isReplaced && !isForged) wrong.push(`get: ${String(plan.ids[i])} is not what it was`)
    }
  }
  if (it.target === "unsealed" && it.what !== "nothing" && answers.intact === true && isOfSnapshots(it))
    wrong.push("verify: finds nothing")
  if (answers.kept !== undefined && it.target === "records" && !answers.kept.includes(truth.run))
    wrong.push("gc: would not keep what is live")
  for (const { command, code, text } of answers.printed) {
    if (code === EXIT_UNEXPECTED) wrong.push(`${command}: unforeseen: ${text.slice(0, 300)}`)
    if (text.length > PRINTED_MOST) wrong.push(`${command}: prints ${text.length} characters`)
    if (/[\p{Cc}\p{Cs}\p{Default_Ignorable_Code_Point}]/u.test(text.replace(/[\n\t]/g, "")))
      wrong.push(`${command}: prints what is not printable`)
  }
  if (wrong.length > 0) return { verdict: "wrong", reasons: wrong }
  if (timeouts.length > 0) return { verdict: "hang", reasons: timeouts }
  if (answers.errors.length > 0) {
    const [{ call, error }] = answers.errors as [{ call: string; error: Error }]
    return { verdict: "error", reasons: [`${call}: ${error.message}`] }
  }
  return { verdict: differs ? "replaced" : "right", reasons: [] }
}

/**
 * What verification always reads, if it is there. A root without a pointer is one where nothing is published
 * yet, and one without an old manifest has collected that snapshot.
 */
const isOfSnapshots = ({ what }: Pick<FuzzCase, "what">): boolean =>
  /^(_CURRENT|manifests)/.test(what) && !/^(_CURRENT|.*oldoldoldold).*: deleted$/.test(what)

const byId = (truth: Truth, id: Id): FoundRecord | undefined =>
  truth.records.find(({ record }) => record.id === id)?.record

/** What no answer may be, whatever the data are. */
function soundness({ k, result }: Search, { info }: Answers): string | undefined {
  const { hits, shards, complete, snapshot } = result
  if (info === undefined || snapshot !== info.run) return `the snapshot is ${snapshot}`
  if (hits.length > k) return `${hits.length} hits for ${k}`
  if (complete !== (shards.failed.length === 0)) return "it says complete and is not"
  const asked = new Set(shards.asked)
  const answered = new Set(shards.answered)
  if (shards.answered.length + shards.failed.length !== shards.asked.length) return "a shard is not told of"
  let before = -Infinity
  for (const { id, distance, shard, fields, payload } of hits) {
    if (!Number.isFinite(distance)) return `a distance is ${distance}`
    if (distance < before) return "hits are out of order"
    before = distance
    if (!asked.has(shard) || !answered.has(shard)) return `a hit is of shard ${shard}, which was not asked`
    const isString = info.idType === "string"
    if (isString ? typeof id !== "string" : typeof id !== "number" && typeof id !== "bigint")
      return `an id is ${typeof id}`
    const names = info.fields.map(({ name }) => name)
    if (!isDeepStrictEqual(Object.keys(fields).sort(), [...names].sort())) return "fields are missing"
    stringifyJson(payload)
  }
  if (new Set(hits.map(({ id }) => id)).size < hits.length) return "an id comes twice"
  return undefined
}

/** How a search is not what the rows that nobody has replaced make it. */
function differences(search: Search, it: Pick<FuzzCase, "replaced">, truth: Truth): string | undefined {
  if (it.replaced === "all" || search.result.snapshot !== truth.run) return undefined
  return differencesFrom(search, truth, it.replaced)
}

const TOLERANCE = 1e-5

function differencesFrom(
  { query, k, all, result }: Search,
  { metric, records }: Truth,
  replaced: ReadonlySet<number> = new Set(),
): string | undefined {
  const { hits, shards } = result
  for (const { id, distance, shard, fields, payload } of hits) {
    if (replaced.has(shard)) continue
    const known = records.find(({ record }) => record.id === id)
    if (known === undefined) return `there is no record ${String(id)}`
    const { record, vector } = known
    if (record.shard !== shard) return `record ${String(id)} is in shard ${record.shard}`
    if (!isDeepStrictEqual({ fields, payload }, { fields: record.fields, payload: record.payload }))
      return `record ${String(id)} has other fields`
    if (Math.abs(plainDistance(metric, query, vector) - distance) > TOLERANCE)
      return `record ${String(id)} is at another distance`
  }
  if (!all) return undefined
  const answered = new Set(shards.answered)
  if (shards.failed.length === 0 && replaced.size === 0 && hits.length !== Math.min(k, records.length))
    return `${hits.length} hits`
  const last = hits.length < k ? Infinity : hits.at(-1)!.distance
  const ids = new Set(hits.map(({ id }) => id))
  for (const { record, vector } of records) {
    if (!answered.has(record.shard) || replaced.has(record.shard) || ids.has(record.id)) continue
    if (plainDistance(metric, query, vector) < last - TOLERANCE)
      return `record ${String(record.id)} is nearer`
  }
  return undefined
}
