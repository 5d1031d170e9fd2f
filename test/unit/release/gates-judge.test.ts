import fc from "fast-check"
import { describe, expect, it, test } from "vitest"
import type { Manifest, RecallCertificate } from "../../../src/index.js"
import { judgeGates, type Measurement } from "../../../src/release/gates/judge.js"
import {
  checkGateOptions,
  GATE_NAMES,
  type GateName,
  type GateOptions,
  type GateResult,
} from "../../../src/release/gates/options.js"

interface Snapshot {
  readonly run?: string
  /** Rows of each shard. */
  readonly shards?: readonly number[]
  readonly dim?: number
  readonly metric?: string
  readonly model?: string
  readonly skipped?: number
  readonly duplicates?: number
  readonly norms?: { readonly median: number; readonly zeroRows?: number } | null
}

/** What the judge reads of a manifest. */
function snapshot({
  run = "aaaaaaaaaaaa",
  shards = [10],
  dim = 3,
  metric = "cosine",
  model,
  skipped = 0,
  duplicates = 0,
  norms = { median: 1 },
}: Snapshot = {}): Manifest {
  const manifest = {
    run,
    schema: { dim, metric, id: { type: "string", wide: false }, fields: [], model },
    sharding: { strategy: "explicit", shards: shards.length, options: {} },
    shards: shards.map((rows, shard) => ({
      ...{ shard, rows, folder: `shards/${run}/${shard}/0`, index: { kind: "flat" }, fingerprint: "" },
      files: [{ name: "shard.db", size: 1, sha256: "" }],
    })),
    rows: shards.reduce((sum, rows) => sum + rows, 0),
    build: {
      skippedRows: skipped,
      duplicateRows: duplicates,
      norms: norms === null ? undefined : { p05: 0, p95: 2, zeroRows: 0, rows: 10, ...norms },
    },
  }
  return manifest as unknown as Manifest
}

interface Case {
  readonly now?: Snapshot
  /** Null: nothing is live. */
  readonly live?: Snapshot | null
  readonly options?: GateOptions
  readonly allow?: readonly GateName[]
  readonly drift?: Measurement
  readonly overlap?: Measurement
}

const judge = ({ now, live = {}, options = {}, allow = [], drift, overlap }: Case): readonly GateResult[] =>
  judgeGates(
    {
      candidate: snapshot({ run: "bbbbbbbbbbbb", ...now }),
      live: live === null ? undefined : snapshot(live),
      options,
      measured: { centroidDrift: drift, overlap },
    },
    allow,
  )

function result(gate: GateName, given: Case): GateResult {
  const found = judge(given).find((candidate) => candidate.gate === gate)
  if (found === undefined) throw new Error(`no result of ${gate}`)
  return found
}

const verdictOf = (gate: GateName, given: Case): string => result(gate, given).verdict

const ALL: GateOptions = {
  rows: { min: 1, maxDropPercent: 10, maxGrowPercent: 10 },
  skippedRows: { maxPercent: 1 },
  duplicates: { maxPercent: 1 },
  skew: { max: 2 },
  norms: { maxDriftPercent: 10 },
  zeroNorms: { maxPercent: 0 },
  centroidDrift: { max: 0.1 },
  overlap: { min: 0.9 },
  recall: { min: 0.9 },
}

describe("which gates are checked", () => {
  it("dimension, metric and model always, the others with a limit, in the order of their names", () => {
    expect(judge({}).map(({ gate }) => gate)).toEqual(["dim", "metric", "model"])
    expect(judge({ options: ALL }).map(({ gate }) => gate)).toEqual(GATE_NAMES)
  })

  it("what needs a live snapshot does not apply to the first one, what does not is checked all the same", () => {
    const results = judge({ live: null, options: ALL })
    expect(Object.fromEntries(results.map(({ gate, verdict }) => [gate, verdict]))).toEqual({
      rows: "passed",
      dim: "not applicable",
      metric: "not applicable",
      model: "not applicable",
      "skipped-rows": "passed",
      duplicates: "passed",
      skew: "passed",
      norms: "not applicable",
      "zero-norms": "passed",
      "centroid-drift": "not applicable",
      overlap: "not applicable",
      // It does not say what its recall is.
      recall: "refused",
    })
    expect(result("dim", { live: null })).toEqual({
      gate: "dim",
      limit: null,
      value: null,
      verdict: "not applicable",
      reason: "nothing is live to compare it with",
    })
  })
})

describe("rows", () => {
  it("tells limit, value and reason", () => {
    const options = { rows: { min: 100, maxDropPercent: 10, maxGrowPercent: 50 } }
    expect(result("rows", { now: { shards: [500] }, live: { shards: [1000] }, options })).toEqual({
      gate: "rows",
      limit: "at least 100, at most 10% fewer than 1000, at most 50% more than 1000",
      value: 500,
      verdict: "refused",
      reason: "it has 500 rows, 50% fewer than the 1000 of the live snapshot",
    })
  })

  test.each([
    // now, live, options, verdict
    [900, 1000, { maxDropPercent: 10 }, "passed"],
    [899, 1000, { maxDropPercent: 10 }, "refused"],
    [667, 1000, { maxDropPercent: 33.3 }, "passed"],
    [666, 1000, { maxDropPercent: 33.3 }, "refused"],
    [999, 1000, { maxDropPercent: 0.1 }, "passed"],
    [7, 10, { maxDropPercent: 30 }, "passed"],
    [2000, 1000, { maxDropPercent: 0 }, "passed"],
    [1100, 1000, { maxGrowPercent: 10 }, "passed"],
    [1101, 1000, { maxGrowPercent: 10 }, "refused"],
    [1, 1000, { maxGrowPercent: 0 }, "passed"],
    [100, 1000, { min: 100 }, "passed"],
    [99, 1000, { min: 100 }, "refused"],
    [99, null, { min: 100 }, "refused"],
    [99, null, { min: 100, maxDropPercent: 5 }, "refused"],
    [99, null, { maxDropPercent: 5 }, "not applicable"],
  ] as const)("%d after %s with %j: %s", (rows, before, options, verdict) => {
    const live = before === null ? null : { shards: [before] }
    expect(verdictOf("rows", { now: { shards: [rows] }, live, options: { rows: options } })).toBe(verdict)
  })
})

test.each([
  ["dim", { dim: 4 }, { dim: 3 }, "3", 4, "the dimension was 3 and is 4 now"],
  ["metric", { metric: "l2" }, { metric: "dot" }, "dot", "l2", "the metric was dot and is l2 now"],
  ["model", { model: "b" }, { model: "a" }, "a", "b", 'the model label was "a" and is "b" now'],
  ["model", { model: "b" }, {}, "no label", "b", 'the model label was none and is "b" now'],
  ["model", {}, { model: "a" }, "a", null, 'the model label was "a" and is none now'],
] as const)("a change of %s from %j is refused", (gate, now, live, limit, value, reason) => {
  expect(result(gate, { now, live })).toEqual({ gate, limit, value, verdict: "refused", reason })
  expect(verdictOf(gate, { now, live, allow: [gate] })).toBe("allowed")
  expect(verdictOf(gate, { now: live, live })).toBe(
    gate === "model" && !("model" in live) ? "not applicable" : "passed",
  )
})

describe("shares of the rows read", () => {
  test.each([
    // skipped and duplicates of 100 rows read
    [5, 5, "passed"],
    [5, 4.99, "refused"],
    [0, 0, "passed"],
  ])("%d of 100 with at most %d%%: %s", (part, maxPercent, verdict) => {
    const skipped = { now: { shards: [100 - part - 2], skipped: part, duplicates: 2 } }
    const duplicates = { now: { shards: [100 - part - 2], skipped: 2, duplicates: part } }
    expect(verdictOf("skipped-rows", { ...skipped, options: { skippedRows: { maxPercent } } })).toBe(verdict)
    expect(verdictOf("duplicates", { ...duplicates, options: { duplicates: { maxPercent } } })).toBe(verdict)
  })

  it("are told in full", () => {
    expect(
      result("skipped-rows", {
        now: { shards: [90], skipped: 10 },
        options: { skippedRows: { maxPercent: 1 } },
      }),
    ).toMatchObject({ limit: "at most 1%", value: 10, reason: "10 of 100 rows read were bad" })
  })

  it("zero lengths are counted before duplicates are dropped", () => {
    const now = { shards: [90], duplicates: 10, norms: { median: 1, zeroRows: 4 } }
    expect(result("zero-norms", { now, options: { zeroNorms: { maxPercent: 4 } } })).toMatchObject({
      value: 4,
      verdict: "passed",
      reason: "4 of 100 vectors have the length zero",
    })
    expect(verdictOf("zero-norms", { now, options: { zeroNorms: { maxPercent: 3.9 } } })).toBe("refused")
  })
})

test.each([
  [[6, 2, 4], 1.5, "passed"],
  [[6, 2, 4], 1.49, "refused"],
  [[5, 5, 5], 1, "passed"],
] as const)("skew of %j with at most %d: %s", (shards, max, verdict) => {
  expect(verdictOf("skew", { now: { shards }, options: { skew: { max } } })).toBe(verdict)
})

describe("norms", () => {
  const options = { norms: { maxDriftPercent: 25 } }
  test.each([
    [1.25, "passed"],
    [1.26, "refused"],
    [0.75, "passed"],
    [0.74, "refused"],
    [Number.NaN, "refused"],
  ])("a median of %d after 1: %s", (median, verdict) => {
    expect(verdictOf("norms", { now: { norms: { median } }, options })).toBe(verdict)
  })

  test.each([
    [
      { norms: null },
      {},
      "snapshot bbbbbbbbbbbb does not say how long its vectors are: an older vecsnap built it",
    ],
    [
      {},
      { norms: null },
      "snapshot aaaaaaaaaaaa does not say how long its vectors are: an older vecsnap built it",
    ],
    [{}, { norms: { median: 0 } }, "the median length of the live snapshot's vectors is 0"],
  ])("does not apply to %j after %j", (now, live, reason) => {
    expect(result("norms", { now, live, options })).toMatchObject({ verdict: "not applicable", reason })
  })
})

describe("what is measured", () => {
  const measured = (value: number): Measurement => ({ value, reason: "measured" })
  test.each([
    [0.1, 0.9, "passed"],
    [0.1000001, 0.8999999, "refused"],
    [Number.NaN, Number.NaN, "refused"],
  ])("drift %d and overlap %d: %s", (drift, overlap, verdict) => {
    const given = { options: ALL, drift: measured(drift), overlap: measured(overlap) }
    expect(verdictOf("centroid-drift", given)).toBe(verdict)
    expect(verdictOf("overlap", given)).toBe(verdict)
  })

  it("is refused if it failed or was left out, and does not apply if there is nothing to measure", () => {
    expect(verdictOf("overlap", { options: ALL })).toBe("refused")
    expect(result("overlap", { options: ALL, overlap: { missing: "because" } })).toMatchObject({
      verdict: "not applicable",
      reason: "because",
    })
    const failed = { options: ALL, overlap: { failed: "the store is away" } }
    expect(verdictOf("overlap", failed)).toBe("refused")
    expect(result("overlap", { ...failed, allow: ["overlap"] })).toEqual({
      gate: "overlap",
      limit: "at least 0.9",
      value: null,
      verdict: "allowed",
      reason: "it can't be measured: the store is away",
    })
  })
})

describe("for all snapshots", () => {
  const rows = fc.integer({ min: 1, max: 500 })
  const facts = fc.record({
    shards: fc.array(rows, { minLength: 1, maxLength: 5 }),
    skipped: fc.nat(50),
    duplicates: fc.nat(50),
    norms: fc.record({ median: fc.double({ min: 0.01, max: 10, noNaN: true }), zeroRows: fc.nat(3) }),
  })
  const unit = fc.double({ min: 0, max: 1, noNaN: true })
  const percent = fc.double({ min: 0, max: 100, noNaN: true })
  /** A pair: the looser limit, then the tighter one. */
  const both = (limit: fc.Arbitrary<number>) =>
    fc.tuple(limit, limit).map(([a, b]) => [Math.max(a, b), Math.min(a, b)] as const)
  const limits = fc.record({
    min: both(rows),
    drop: both(percent),
    grow: both(percent),
    share: both(percent),
    skew: both(fc.double({ min: 1, max: 5, noNaN: true })),
    norms: both(percent),
    drift: both(unit),
    overlap: both(unit),
  })
  const optionsOf = (limit: Record<string, readonly [number, number]>, side: 0 | 1): GateOptions => {
    const most = (name: string): number => limit[name]![side]
    const least = (name: string): number => limit[name]![side === 0 ? 1 : 0]
    return {
      rows: { min: least("min"), maxDropPercent: most("drop"), maxGrowPercent: most("grow") },
      skippedRows: { maxPercent: most("share") },
      duplicates: { maxPercent: most("share") },
      skew: { max: most("skew") },
      norms: { maxDriftPercent: most("norms") },
      zeroNorms: { maxPercent: most("share") },
      centroidDrift: { max: most("drift") },
      overlap: { min: least("overlap") },
    }
  }

  it("a tighter limit never lets pass what a looser one refused", () => {
    fc.assert(
      fc.property(facts, facts, limits, unit, unit, (now, live, limit, drift, overlap) => {
        const given = {
          ...{ now, live },
          drift: { value: drift, reason: "" },
          overlap: { value: overlap, reason: "" },
        }
        const loose = judge({ ...given, options: optionsOf(limit, 0) })
        const tight = judge({ ...given, options: optionsOf(limit, 1) })
        for (const [i, { gate, verdict }] of loose.entries())
          if (verdict === "refused") expect(tight[i], gate).toMatchObject({ gate, verdict: "refused" })
      }),
      { numRuns: 300 },
    )
  })

  it("allowing gates turns their refusals into allowances, and changes nothing else", () => {
    fc.assert(
      fc.property(facts, facts, limits, fc.subarray([...GATE_NAMES]), (now, live, limit, allow) => {
        const options = optionsOf(limit, 1)
        const strict = judge({ now, live, options })
        expect(judge({ now, live, options, allow })).toEqual(
          strict.map((one) =>
            one.verdict === "refused" && allow.includes(one.gate) ? { ...one, verdict: "allowed" } : one,
          ),
        )
      }),
    )
  })

  it("equal snapshots pass every gate that compares, however tight", () => {
    fc.assert(
      fc.property(facts, (same) => {
        const options = { rows: { maxDropPercent: 0, maxGrowPercent: 0 }, norms: { maxDriftPercent: 0 } }
        const results = judge({ now: { ...same, model: "m" }, live: { ...same, model: "m" }, options })
        expect(results.map(({ verdict }) => verdict)).toEqual(Array(5).fill("passed"))
      }),
    )
  })
})

describe("options", () => {
  test.each([
    [{ rows: { min: -1 } }, "option gates.rows.min is -1, expected a whole number from 0"],
    [
      { rows: { maxDropPercent: 101 } },
      "option gates.rows.maxDropPercent is 101, expected a number from 0 to 100",
    ],
    [{ skew: { max: 0.9 } }, "option gates.skew.max is 0.9, expected a number from 1"],
    [{ skew: {} }, "option gates.skew.max is undefined, expected a number from 1"],
    [
      { norms: { maxDriftPercent: Number.NaN } },
      "option gates.norms.maxDriftPercent is NaN, expected a number from 0",
    ],
    [{ overlap: { min: "1" } }, "option gates.overlap.min is 1, expected a number from 0 to 1"],
    [
      { overlap: { min: 1, probes: "some" } },
      'option gates.overlap.probes is some, expected a whole number from 1, or "all"',
    ],
    [
      { zeroNorm: { maxPercent: 1 } },
      "option gates.zeroNorm is not known, expected one of rows, skippedRows, duplicates, skew, norms, zeroNorms, centroidDrift, overlap, recall",
    ],
    [{ skew: { max: 2, min: 1 } }, "option gates.skew.min is not known, expected one of max"],
  ])("%j is refused", (options, message) => {
    expect(() => checkGateOptions(options as GateOptions)).toThrow(
      expect.objectContaining({ tag: "InvalidInput", message }),
    )
  })

  it("are fine without any, with all, and at the ends of their ranges", () => {
    checkGateOptions()
    checkGateOptions(ALL, GATE_NAMES)
    checkGateOptions({ overlap: { min: 0, probes: "all", k: 1, queries: 1 }, rows: {} })
  })

  it("names of allowed gates are known", () => {
    expect(() => checkGateOptions({}, ["row"])).toThrow(
      /^option allow has "row", expected names of gates: rows, dim,/,
    )
  })
})

describe("recall", () => {
  const recall: RecallCertificate = {
    queries: { kind: "rows", count: 900, seed: 1 },
    rows: 9999,
    routedBy: "vector",
    probes: [1, 2, 4],
    curves: [1, 10].map((k) => ({
      k,
      recall: [0.7, 0.9, 1].map((share) => share - k / 1000),
      low: [0.6, 0.85, 0.98],
      high: [0.8, 0.95, 1],
      zero: [0.1, 0, 0],
      p05: [0, 0.5, 1],
    })),
    stopping: "fixed",
    targets: [],
    notes: [],
  }
  const judgeIt = (
    limits: NonNullable<GateOptions["recall"]>,
    measured: RecallCertificate | undefined = recall,
    effort?: object,
  ) => {
    const options = { probes: 2, ...(effort && { effort }) }
    const sharding = { strategy: "cluster", shards: 4, options }
    return judgeGates(
      {
        candidate: { ...snapshot(), sharding, recall: measured },
        live: undefined,
        options: { recall: limits },
        measured: {},
      },
      [],
    ).find(({ gate }) => gate === "recall")!
  }

  it.each<[NonNullable<GateOptions["recall"]>, number, string]>([
    [{ min: 0.89 }, 0.89, "passed"],
    [{ min: 0.8901 }, 0.89, "refused"],
    [{ min: 0.89, k: 1 }, 0.899, "passed"],
    [{ min: 0.7, probes: 1 }, 0.69, "refused"],
    // What was measured below counts.
    [{ min: 0.9, probes: 3 }, 0.89, "refused"],
    [{ min: 0.9, probes: 99 }, 0.99, "passed"],
  ])("of %j is %d: %s", (limits, value, verdict) => {
    expect(judgeIt(limits)).toMatchObject({ value: expect.closeTo(value, 10), verdict })
  })

  it("is by default that of the target that queries get, if they get one", () => {
    const targets = [{ target: 0.95, probes: 1.5, rows: 700, recall: 0.956, low: 0.95, high: 0.962 }]
    const measured = { ...recall, targets }
    const target = { targetRecall: 0.95 }
    expect(judgeIt({ min: 0.956 }, measured, target)).toMatchObject({
      value: 0.956,
      verdict: "passed",
      limit: "at least 0.956 of 10 at target 0.95",
      reason:
        "900 rows held out found 0.956 of their 10 nearest at target 0.95, 95 % sure from 0.95 to 0.962",
    })
    expect(judgeIt({ min: 0.5, probes: 1 }, measured, target)).toMatchObject({ value: 0.69 })
    expect(judgeIt({ min: 0.5, k: 1 }, measured, target)).toMatchObject({ value: 0.899 })
    expect(judgeIt({ min: 0.5 }, measured, { probes: 1 })).toMatchObject({ value: 0.89 })
  })

  it("that nobody has measured is refused, with a sentence that says so", () => {
    const without = judgeGates(
      { candidate: snapshot(), live: undefined, options: { recall: { min: 0 } }, measured: {} },
      [],
    )
    expect(without.at(-1)).toMatchObject({
      verdict: "refused",
      limit: "at least 0 of 10 at 1 probe",
      reason: expect.stringMatching(/^the recall of snapshot aaaaaaaaaaaa was not measured/),
    })
    expect(judgeIt({ min: 0.5, k: 100 })).toMatchObject({
      verdict: "refused",
      reason: "the recall of the 100 nearest was not measured: snapshot aaaaaaaaaaaa has fewer rows",
    })
    expect(() => checkGateOptions({ recall: { min: 0.5, k: 5 } })).toThrow(
      "option gates.recall.k is 5, expected 1, 10 or 100",
    )
  })
})
