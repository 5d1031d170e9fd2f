/** The judge finds what is wrong: answers that are put wrong by hand. */
import { expect, it } from "vitest"
import { EXIT_UNEXPECTED } from "../../cli/exit-codes.js"
import { corrupt, unavailable } from "../../src/errors.js"
import type { FuzzCase } from "./case.js"
import { judge, type Truth } from "./judge.js"
import type { Answers, Plan, Search } from "./operations.js"

const found = (id: string, shard: number) => ({ id, shard, fields: { a: 1 }, payload: null, vector: [] })
const RECORDS = [
  { record: found("x", 0), vector: Float32Array.of(1) },
  { record: found("y", 1), vector: Float32Array.of(2) },
  { record: found("z", 1), vector: Float32Array.of(4) },
] as unknown as Truth["records"]
const TRUTH: Truth = { metric: "l2", run: "run", records: RECORDS }
const PLAN = { ids: ["x", "nobody"] } as unknown as Plan
const CASE: FuzzCase = { objects: new Map(), target: "records", what: "", replaced: new Set() }

function search(): Search {
  const hit = (i: number, distance: number) => {
    const { id, shard, fields, payload } = RECORDS[i]!.record
    return { id, shard, fields, payload, distance }
  }
  const shards = { asked: [0, 1], answered: [0, 1], failed: [] }
  const result = { snapshot: "run", hits: [hit(0, 1), hit(1, 2)], shards, complete: true }
  return { query: Float32Array.of(0), k: 2, all: true, result }
}

function answers(change: (hits: Record<string, unknown>[], all: Answers) => void = () => {}): Answers {
  const made = {
    errors: [],
    searches: [search()],
    records: [RECORDS[0]!.record, undefined],
    info: { run: "run", idType: "string", fields: [{ name: "a", type: "int64" }] },
    intact: true,
    kept: ["run"],
    printed: [],
  } as unknown as Answers
  change(made.searches[0]!.result.hits as unknown as Record<string, unknown>[], made)
  return made
}

const verdict = (it: Partial<FuzzCase>, change?: Parameters<typeof answers>[0]) =>
  judge({ ...CASE, ...it }, answers(change), TRUTH, PLAN).verdict

const ALL = { replaced: "all" } as const

it("right answers are right", () => {
  expect(verdict({})).toBe("right")
  expect(verdict(ALL)).toBe("right")
})

it.each<[string, (hits: Record<string, unknown>[], all: Answers) => void]>([
  ["a distance that is no number", (hits) => (hits[1]!.distance = Number.NaN)],
  ["hits out of order", (hits) => hits.reverse()],
  ["an id twice", (hits) => (hits[1]!.id = "x")],
  ["an id of another type", (hits) => (hits[0]!.id = 7)],
  ["a field that is missing", (hits) => (hits[0]!.fields = {})],
  ["a shard that was not asked", (hits) => (hits[0]!.shard = 9)],
  ["more hits than asked for", (hits) => hits.push({ ...hits[1]!, id: "w" })],
  ["another snapshot", (_, all) => ((all.info as { run: string }).run = "other")],
  ["an error without a tag", (_, all) => all.errors.push({ call: "gc", error: new TypeError("x") })],
  ["a long message", (_, all) => all.errors.push({ call: "gc", error: longError() })],
  ["an unforeseen error of a command", (_, all) => pushPrinted(all, EXIT_UNEXPECTED, "")],
  ["an escape on the terminal", (_, all) => pushPrinted(all, 0, "\u001b[2J")],
])("%s is wrong, whatever was replaced", (_, change) => {
  expect(verdict(ALL, change)).toBe("wrong")
})

const longError = (): Error => Object.assign(corrupt("x"), { message: "x".repeat(5000) })

function pushPrinted(all: Answers, code: number, text: string): void {
  ;(all.printed as { command: string; code: number; text: string }[]).push({ command: "info", code, text })
}

it.each<[string, (hits: Record<string, unknown>[], all: Answers) => void]>([
  ["another distance", (hits) => (hits[0]!.distance = 0.5)],
  ["an id that is not there", (hits) => (hits[0]!.id = "w")],
  ["another field", (hits) => (hits[0]!.fields = { a: 2 })],
  [
    "a nearer record that is missing",
    (hits) => Object.assign(hits[0]!, hits[1]!, { id: "z", distance: 4 }) && hits.reverse(),
  ],
  ["a hit less", (hits) => hits.pop()],
  ["a record that is another", (_, all) => (all.records = [RECORDS[1]!.record, undefined])],
  ["a live snapshot that would be collected", (_, all) => (all.kept = [])],
])("%s is wrong where no row was replaced", (_, change) => {
  expect(verdict({}, change)).toBe("wrong")
})

it("rows of a shard that was replaced may be others, those of the others not", () => {
  const forge = (i: number) => (hits: Record<string, unknown>[]) => (hits[i]!.fields = { a: 2 })
  expect(verdict({ replaced: new Set([0]), target: "shard" }, forge(0))).toBe("replaced")
  expect(verdict({ replaced: new Set([0]), target: "shard" }, forge(1))).toBe("wrong")
})

it("errors of ours are errors, and those of time are hangs", () => {
  expect(verdict({}, (_, all) => all.errors.push({ call: "open", error: corrupt("x") }))).toBe("error")
  const late = unavailable("x", { timeoutMs: 5 })
  expect(verdict({}, (_, all) => all.errors.push({ call: "open", error: late }))).toBe("hang")
})

it("a locator may lose records, not find others", () => {
  const lose = (_: unknown, all: Answers) => (all.records = [undefined, undefined])
  expect(verdict({ target: "locator" }, lose)).toBe("replaced")
  expect(verdict({ target: "routing" }, lose)).toBe("wrong")
})
