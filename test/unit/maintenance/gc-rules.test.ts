import fc from "fast-check"
import { describe, expect, it } from "vitest"
import {
  type Evidence,
  isAlive,
  isDead,
  keepReasons,
  mayGo,
  type Retention,
  type Survey,
  usesOf,
} from "../../../src/maintenance/gc/rules.js"
import { parseKey, routingKey, runKey } from "../../../src/manifest/keys.js"
import { type Publication, publicationsOf } from "../../../src/manifest/pointer.js"
import type { RunRecord } from "../../../src/manifest/run-record.js"
import { runId, shardKey } from "../../support/roots.js"

const NOW = new Date("2026-11-21T00:00:00Z")
const ago = (seconds: number): Date => new Date(NOW.getTime() - seconds * 1000)
const RUNS = ["a", "b", "c", "d", "e"].map(runId)
const manifestOf = (run: string): string => `manifests/20261101T000000.000Z-${run}.json`

const run = fc.constantFrom(...RUNS)
const age = fc.integer({ min: 0, max: 40 }).map((days) => days * 40_000)
const publication = (number: number): fc.Arbitrary<Publication> =>
  fc.record({ run, age }).map(({ run, age }) => ({
    number,
    run,
    manifest: manifestOf(run),
    publishedAt: ago(age),
    action: "publish",
  }))

const survey: fc.Arbitrary<Survey> = fc
  .record({
    live: publication(9),
    history: fc.array(publication(1), { maxLength: 6 }),
    condemned: fc.uniqueArray(run, { maxLength: 2 }),
    ages: fc.tuple(age, age, age, age, age),
    pins: fc.array(fc.record({ run, age, confirmed: fc.boolean() }), { maxLength: 2 }),
    leases: fc.array(fc.record({ run, age }), { maxLength: 2 }),
    records: fc.uniqueArray(fc.record({ run, age, base: run }), { maxLength: 2, selector: (r) => r.run }),
  })
  .map(({ live, history, condemned, ages, pins, leases, records }) => ({
    now: NOW,
    pointer: {
      ...live,
      history,
      condemned: condemned.filter((run) => run !== live.run),
      write: "w",
      lastModified: live.publishedAt,
    },
    manifests: RUNS.map((run, i) => ({
      key: manifestOf(run),
      run,
      size: 1,
      lastModified: ago(ages[i]!),
    })),
    pins: pins.map(({ run, age, confirmed }) => ({
      key: `pins/${run}.json`,
      run,
      lastModified: ago(age),
      pin: { run, pinnedAt: NOW, note: undefined, confirmed },
    })),
    leases: leases.map(({ run, age }) => ({
      key: "readers/000000000000.json",
      lastModified: ago(age),
      lease: { runs: [run], leaseSeconds: 60, host: "h", pid: 1 },
    })),
    runs: records.map(({ run, age, base }) => ({
      key: runKey(run),
      run,
      etag: "e",
      lastModified: ago(age),
      record: { run, state: "running", leaseSeconds: 60, base } as RunRecord,
    })),
  }))

const retention: fc.Arbitrary<Retention> = fc.record({
  keepLast: fc.integer({ min: 1, max: 4 }),
  keepDays: fc.integer({ min: 0, max: 5 }),
  keepUnpublishedDays: fc.integer({ min: 0, max: 10 }),
  graceSeconds: fc.constantFrom(0, 40_000, 100_000),
})

const SHORTEST: Retention = { keepLast: 1, keepDays: 0, keepUnpublishedDays: 0, graceSeconds: 0 }
const keptRuns = (survey: Survey, rules: Retention): ReadonlySet<string> => {
  const kept = keepReasons(survey, rules)
  return new Set(RUNS.filter((run) => kept.has(manifestOf(run))))
}

describe("what is kept", () => {
  it("is what is live, whatever else holds", () => {
    fc.assert(
      fc.property(survey, retention, (survey, rules) => keptRuns(survey, rules).has(survey.pointer.run)),
    )
  })

  it("is, unless condemned, whatever is pinned, leased, built upon, young, or was live of late", () => {
    fc.assert(
      fc.property(survey, retention, (survey, rules) => {
        const kept = keptRuns(survey, rules)
        const { graceSeconds } = rules
        const graceStart = ago(graceSeconds)
        const publications = publicationsOf(survey.pointer)
        const needed = [
          ...survey.pins.filter(({ pin }) => pin!.confirmed).map(({ run }) => run),
          ...survey.leases.filter((l) => l.lastModified > ago(60)).map(({ lease }) => lease!.runs[0]!),
          ...survey.runs
            .filter((found) => found.lastModified > ago(60 + graceSeconds))
            .flatMap(({ run, record }) => [run, record!.base!]),
          ...survey.manifests.filter((m) => m.lastModified > graceStart).map(({ run }) => run),
          // Replaced within the grace period, the latest time that it was.
          ...RUNS.filter((run) => {
            const at = publications.findIndex((publication) => publication.run === run)
            return at > 0 && publications[at - 1]!.publishedAt > graceStart
          }),
        ]
        for (const run of needed) expect(kept.has(run) || survey.pointer.condemned.includes(run)).toBe(true)
      }),
    )
  })

  it("grows with every rule that keeps more, and never holds what is condemned", () => {
    fc.assert(
      fc.property(survey, retention, retention, (survey, one, other) => {
        const more: Retention = {
          keepLast: Math.max(one.keepLast, other.keepLast),
          keepDays: Math.max(one.keepDays, other.keepDays),
          keepUnpublishedDays: Math.max(one.keepUnpublishedDays, other.keepUnpublishedDays),
          graceSeconds: Math.max(one.graceSeconds, other.graceSeconds),
        }
        const keptByMore = keptRuns(survey, more)
        for (const run of keptRuns(survey, one)) expect(keptByMore.has(run)).toBe(true)
        for (const run of survey.pointer.condemned) expect(keptByMore.has(run)).toBe(false)
      }),
    )
  })

  it("is the live snapshot alone, at last, if nobody needs another", () => {
    fc.assert(
      fc.property(survey, (survey) => {
        const later = { ...survey, pins: [], now: new Date(NOW.getTime() + 1e9) }
        expect([...keptRuns(later, SHORTEST)]).toEqual([survey.pointer.run])
      }),
    )
  })
})

describe("whether a run is alive", () => {
  it("is one or the other for a run that says it goes on", () => {
    fc.assert(
      fc.property(survey, retention, ({ runs }, { graceSeconds }) => {
        for (const found of runs)
          expect(isAlive(found, NOW, graceSeconds)).toBe(!isDead(found, NOW, graceSeconds))
      }),
    )
  })

  it("is taken for granted for a day if its record can't be read", () => {
    const found = { key: runKey(RUNS[0]!), run: RUNS[0]!, etag: "e", lastModified: ago(86_400 + 59) }
    expect(isAlive(found, NOW, 60)).toBe(true)
    expect(isAlive(found, NOW, 59)).toBe(false)
    expect([...usesOf({ runs: [found], pins: [], leases: [] }, NOW, 60)]).toEqual([
      [RUNS[0], ["its record can't be read"]],
    ])
  })
})

describe("an object", () => {
  const evidence = (facts: Partial<Evidence>): Evidence => ({
    now: NOW,
    retention: { ...SHORTEST, graceSeconds: 100 },
    hold: false,
    marked: new Set(),
    withManifest: new Set(),
    untouchable: new Set(),
    records: new Map(),
    leases: new Map(),
    ...facts,
  })
  const decide = (key: string, facts: Partial<Evidence> = {}, seconds = 100): boolean =>
    mayGo({ key, lastModified: ago(seconds) }, parseKey(key)!, evidence(facts))
  const [A] = RUNS as [string]

  it.each([shardKey(A), routingKey(A, "centroids.npy")])(
    "such as %s goes unless something holds it",
    (key) => {
      expect(decide(key)).toBe(true)
      expect(decide(key, {}, 99)).toBe(false)
      expect(decide(key, { marked: new Set([key]) })).toBe(false)
      expect(decide(key, { untouchable: new Set([A]) })).toBe(false)
      expect(decide(key, { hold: true })).toBe(false)
    },
  )

  it("such as the pointer never goes", () => {
    expect(decide("_CURRENT", {}, 1e9)).toBe(false)
  })

  it("such as the record of a run goes when the run has ended and has no snapshot", () => {
    const key = runKey(A)
    const found = (state: RunRecord["state"]) => ({
      records: new Map([
        [
          key,
          {
            key,
            run: A,
            etag: "e",
            lastModified: ago(1e6),
            record: { run: A, state, leaseSeconds: 60 } as RunRecord,
          },
        ],
      ]),
    })
    expect(decide(key, found("failed"), 1e6)).toBe(true)
    expect(decide(key, found("running"), 1e6)).toBe(false)
    expect(decide(key, { ...found("failed"), withManifest: new Set([A]) }, 1e6)).toBe(false)
    // Written since the records were read.
    expect(decide(key, {}, 1e6)).toBe(false)
  })
})
