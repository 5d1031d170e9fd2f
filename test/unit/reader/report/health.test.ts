import { describe, expect, it } from "vitest"
import { aborted, corrupt, invalidInput, unavailable, unsupported } from "../../../../src/errors.js"
import {
  createRecentCalls,
  createRecentQueries,
  FAILING_SHARD_MS,
  type HealthFacts,
  judgeHealth,
  outcomeOf,
  POINTER_UNREADABLE_MS,
} from "../../../../src/reader/report/health.js"
import { fileError } from "../../../../src/storage/files.js"

const NOW = Date.UTC(2026, 0, 2)
const FINE: HealthFacts = {
  nowMs: NOW,
  closed: false,
  pinned: false,
  snapshot: "run000000000",
  publishedAtMs: NOW - 100_000,
  maxAgeSeconds: 100,
  lastRefresh: { at: new Date(NOW), changed: false, error: undefined },
  pointerFailure: undefined,
  calls: { answered: 5, failed: 0, refused: 0 },
  lastFailure: undefined,
  failingShards: new Map(),
}
const OLD = { publishedAtMs: NOW - 101_000 }
const UNREADABLE = { pointerFailure: { sinceMs: NOW - 3000, reason: "HTTP 503" } }

const failing = (atMs: number) => ({ failingShards: new Map([[3, { reason: "damaged", atMs }]]) })

describe("judgeHealth", () => {
  it.each<[string, Partial<HealthFacts>, string, RegExp[]]>([
    ["all is well", {}, "healthy", []],
    ["no age was asked for", { ...OLD, maxAgeSeconds: undefined }, "healthy", []],
    ["nobody asked anything", { calls: { answered: 0, failed: 0, refused: 0 } }, "healthy", []],
    ["the snapshot is old", OLD, "degraded", [/^snapshot run000000000 was published 101 s ago, .* 100$/]],
    [
      "the pointer is unreadable",
      UNREADABLE,
      "degraded",
      [/^the pointer could not be read for 3 s: HTTP 503$/],
    ],
    [
      "the pointer is unreadable for long",
      { pointerFailure: { sinceMs: NOW - POINTER_UNREADABLE_MS, reason: "HTTP 503" } },
      "unhealthy",
      [/for 300 s/],
    ],
    [
      "the snapshot is old and the pointer unreadable",
      { ...OLD, ...UNREADABLE },
      "unhealthy",
      [/pointer/, /101 s/],
    ],
    [
      "the last refresh failed",
      { lastRefresh: { at: new Date(NOW), changed: false, error: "no manifest" } },
      "degraded",
      [/^the last refresh, at 2026-01-02T00:00:00.000Z, failed: no manifest$/],
    ],
    [
      "some calls failed",
      { calls: { answered: 1, failed: 9, refused: 0 }, lastFailure: "gone" },
      "degraded",
      [/^9 of the last 10 calls have failed, the latest: gone$/],
    ],
    [
      "too few failed to tell",
      { calls: { answered: 0, failed: 4, refused: 0 } },
      "degraded",
      [/4 of the last 4/],
    ],
    [
      "all calls failed",
      { calls: { answered: 0, failed: 5, refused: 0 } },
      "unhealthy",
      [/^all of the last 5/],
    ],
    ["a shard fails", failing(NOW - FAILING_SHARD_MS), "degraded", [/^shard 3 fails: damaged$/]],
    ["a shard has failed that nobody asks again", failing(NOW - FAILING_SHARD_MS - 1), "healthy", []],
    ["a trial has answered", { trial: { shard: 1, failure: undefined, late: false } }, "healthy", []],
    [
      "a trial has failed",
      { trial: { shard: 1, failure: "HTTP 403", late: false } },
      "unhealthy",
      [/^a search of shard 1, made as a trial, has failed: HTTP 403$/],
    ],
    ["a trial was too slow", { trial: { shard: 1, failure: "late", late: true } }, "degraded", [/late$/]],
    [
      "calls were refused",
      { calls: { answered: 0, failed: 0, refused: 7 } },
      "degraded",
      [/^7 calls were turned/],
    ],
    [
      "queries find less than they asked for",
      { observedRecall: { queries: 400, recall: 0.91, low: 0.878, high: 0.934, target: 0.95 } },
      "healthy",
      [
        /^queries get a recall of \.91 where \.95 was asked for \(\.878 to \.934, of 400 that were asked again\): build/,
      ],
    ],
    [
      "queries may find what they asked for",
      { observedRecall: { queries: 40, recall: 0.91, low: 0.78, high: 0.95, target: 0.95 } },
      "healthy",
      [],
    ],
    [
      "queries ask for nothing",
      { observedRecall: { queries: 40, recall: 0.1, low: 0, high: 0.2, target: undefined } },
      "healthy",
      [],
    ],
    ["it is closed", { closed: true }, "unhealthy", [/^this reader is closed$/]],
  ])("when %s", (_, facts, status, reasons) => {
    const verdict = judgeHealth({ ...FINE, ...facts })
    expect(verdict.status).toBe(status)
    expect(verdict.reasons).toHaveLength(reasons.length)
    for (const [i, reason] of reasons.entries()) expect(verdict.reasons[i]).toMatch(reason)
  })

  it("has no negative age where clocks differ", () => {
    expect(judgeHealth({ ...FINE, publishedAtMs: NOW + 5000 }).ageSeconds).toBe(0)
  })
})

it("counts what the reader is to blame for, and nothing else", () => {
  expect(outcomeOf(invalidInput("k is 0"))).toBeUndefined()
  expect(outcomeOf(aborted("by the caller"))).toBeUndefined()
  expect(outcomeOf(aborted("late", { timeoutMs: 5 }))).toBe("failed")
  expect(outcomeOf(unavailable("busy", { retryAfterMs: 5 }))).toBe("refused")
  expect(outcomeOf(unavailable("HTTP 503"))).toBe("failed")
  expect(outcomeOf(corrupt("damaged"))).toBe("failed")
  expect(outcomeOf(fileError("write", "/cache/x", Object.assign(new Error(), { code: "EACCES" })))).toBe(
    "failed",
  )
  expect(outcomeOf(unsupported("no certificate"))).toBeUndefined()
  expect(outcomeOf(unsupported("no package", { package: "sqlite-vec" }))).toBe("failed")
  expect(outcomeOf(new TypeError("a bug"))).toBe("failed")
})

it("remembers the latest 20 calls for a minute", () => {
  let now = 0
  const recent = createRecentCalls(() => now)
  recent.note("failed", "first")
  for (let i = 0; i < 19; i++) recent.note("answered")
  expect(recent.counts()).toEqual({ answered: 19, failed: 1, refused: 0 })
  recent.note("refused")
  expect(recent.counts()).toEqual({ answered: 19, failed: 0, refused: 1 })
  now = 60_001
  expect(recent.counts()).toEqual({ answered: 0, failed: 0, refused: 0 })
  expect(recent.lastFailure).toBe("first")
})

describe("createRecentQueries", () => {
  it("tells the share of the latest ones, and nothing before the first", () => {
    const queries = createRecentQueries(4)
    expect(queries.unlike()).toBeUndefined()
    queries.note(true)
    expect(queries.unlike()).toEqual({ share: 1, of: 1 })
    for (const unlike of [false, false, true, true]) queries.note(unlike)
    expect(queries.unlike()).toEqual({ share: 0.5, of: 4 })
  })

  it.each([
    [0.25, 1000, 0],
    [0.26, 199, 0],
    [0.26, 200, 1],
  ])("a share of %d of %d gives %d reasons, and no other status", (share, of, reasons) => {
    const verdict = judgeHealth({ ...FINE, unlikeQueries: { share, of } })
    expect(verdict.status).toBe("healthy")
    expect(verdict.reasons).toHaveLength(reasons)
  })
})
