import { describe, expect, it } from "vitest"
import { conflict, lastingFault, notFound, unavailable } from "../../../src/errors.js"
import { judgeError } from "../../../src/maintenance/doctor/checks/check.js"
import { judgeCleanup } from "../../../src/maintenance/doctor/checks/cleanup.js"
import { judgeClock, skewOf } from "../../../src/maintenance/doctor/checks/clock.js"
import { judgeConditionalCreate } from "../../../src/maintenance/doctor/checks/conditional-create.js"
import { judgeConditionalOverwrite } from "../../../src/maintenance/doctor/checks/conditional-overwrite.js"
import { judgeConditionalRead } from "../../../src/maintenance/doctor/checks/conditional-read.js"
import { judgeConnection, judgeNoConnection } from "../../../src/maintenance/doctor/checks/connection.js"
import { judgeDelete } from "../../../src/maintenance/doctor/checks/delete.js"
import { judgeLatency } from "../../../src/maintenance/doctor/checks/latency.js"
import { judgeListing, listing } from "../../../src/maintenance/doctor/checks/listing.js"
import { judgeMultipart } from "../../../src/maintenance/doctor/checks/multipart.js"
import { judgeObjects, objects } from "../../../src/maintenance/doctor/checks/objects.js"
import { judgePermissions } from "../../../src/maintenance/doctor/checks/permissions.js"
import { judgeRanges } from "../../../src/maintenance/doctor/checks/ranges.js"
import {
  type Check,
  diagnosisOf,
  enumerate,
  type Verdict,
} from "../../../src/maintenance/doctor/diagnosis.js"
import { withinLimit } from "../../../src/maintenance/doctor/time-limit.js"
import { isRefusal } from "../../../src/maintenance/doctor/trial.js"

describe("verdicts", () => {
  it("on conditional creates", () => {
    const good = { ofMissing: "written", ofExisting: "conflict", winners: [1, 1], overwritten: 0 } as const
    expect(judgeConditionalCreate(good).verdict).toBe("ok")
    expect(judgeConditionalCreate({ ...good, ofMissing: "conflict" }).verdict).toBe("failed")
    expect(judgeConditionalCreate({ ...good, ofExisting: "written" }).verdict).toBe("warning")
    expect(judgeConditionalCreate({ ...good, winners: [1, 0] })).toMatchObject({
      verdict: "failed",
      finding: "of 8 racing creates none won in 1 of 2 rounds",
    })
    expect(judgeConditionalCreate({ ...good, winners: [1, 3] }).finding).toMatch(/up to 3 were told/)
    expect(judgeConditionalCreate({ ...good, overwritten: 1 }).verdict).toBe("warning")
  })

  it("on conditional overwrites", () => {
    const good = {
      ofCurrent: "written",
      ofStale: "conflict",
      ofMissing: "conflict",
      acknowledged: 24,
      counted: 24,
      exhausted: 0,
    } as const
    expect(judgeConditionalOverwrite(good).verdict).toBe("ok")
    expect(judgeConditionalOverwrite({ ...good, ofCurrent: "conflict" }).verdict).toBe("failed")
    expect(judgeConditionalOverwrite({ ...good, ofStale: "written" }).verdict).toBe("warning")
    expect(judgeConditionalOverwrite({ ...good, ofMissing: "written" }).verdict).toBe("warning")
    expect(judgeConditionalOverwrite({ ...good, counted: 23 }).finding).toBe(
      "8 racing writers made 24 increments, and the counter shows 23",
    )
    expect(judgeConditionalOverwrite({ ...good, counted: Number.NaN }).verdict).toBe("warning")
    expect(judgeConditionalOverwrite({ ...good, exhausted: 1 }).verdict).toBe("warning")
  })

  it("on clocks allow for the second that S3 cuts off, and for five of skew", () => {
    const at = (storedMs: number) => ({ beforeMs: 10_900, storedMs, afterMs: 11_100 })
    expect([10_000, 11_000, 11_100].map((ms) => skewOf(at(ms)))).toEqual([0, 0, 0])
    expect(skewOf(at(9_000))).toBe(-900)
    expect(skewOf(at(12_000))).toBe(900)
    expect(judgeClock(at(4_900)).verdict).toBe("ok")
    expect(judgeClock(at(4_800)).finding).toBe("the store's clock is 5 s behind this machine's")
    expect(judgeClock(at(16_100)).verdict).toBe("ok")
    expect(judgeClock(at(71_100)).finding).toBe("the store's clock is 60 s ahead of this machine's")
    expect(judgeClock(at(Number.NaN)).verdict).toBe("failed")
  })

  it("on latency go by the median of reads", () => {
    const times = (ms: number) => [...Array(9).fill(ms), 4000]
    expect(judgeLatency({ getMs: times(400), putMs: times(3000) })).toEqual({
      verdict: "ok",
      finding: "GET p50 400 ms, max 4000 ms; PUT p50 3000 ms, max 4000 ms (1 kB, one after the other)",
    })
    expect(judgeLatency({ getMs: times(401), putMs: times(1) }).verdict).toBe("warning")
  })

  it("on listings tell missing, repeated, foreign and unordered keys apart", () => {
    const expected = ["a", "b", "c"]
    const findings = [
      ["a", "c"],
      ["a", "a", "b", "c"],
      ["a", "b", "c", "d"],
      ["b", "a", "c"],
      ["a", "b", "c"],
    ].map((listed) => judgeListing({ expected, listed }).finding)
    expect(findings).toEqual([
      "1 of 3 keys are missing",
      "1 keys come twice",
      "1 keys come that do not start with the prefix, or were never written",
      "all keys, but not in the order of their bytes in UTF-8",
      "3 keys, each once, in the order of their bytes in UTF-8",
    ])
  })

  it("on the other experiments", () => {
    expect(judgeRanges([{ range: "first bytes", got: "refused" }]).finding).toBe(
      "asked for first bytes, got no such range",
    )
    expect(judgeRanges([{ range: "a range past the end", got: "as written" }]).verdict).toBe("failed")
    expect(judgeConditionalRead({ same: "unchanged", changed: "other content" }).verdict).toBe("failed")
    expect(judgeObjects({ faults: [], missing: "refused" }).verdict).toBe("warning")
    expect(judgeDelete({ failures: [], remaining: 0, deleted: 11 }).verdict).toBe("ok")
    expect(judgeMultipart({ sizeBytes: 2 ** 24, winners: 0, intact: false }).verdict).toBe("failed")
    expect(judgeMultipart({ sizeBytes: 2 ** 24, winners: 2, intact: true }).verdict).toBe("warning")
    expect(judgeConnection("refused")).toMatchObject({ verdict: "warning", error: "InvalidInput" })
    expect(judgeCleanup({ written: 5, remaining: 2, prefix: "probes/x/", reason: "why" })).toMatchObject({
      verdict: "warning",
      finding: "2 objects may be left below probes/x/: why",
    })
  })

  it("on permissions name those that are missing, and for what they are needed", () => {
    const all = { get: "granted", put: "granted", list: "granted", delete: "granted" } as const
    expect(judgePermissions(all)).toEqual({ verdict: "ok", finding: "get, put, list and delete allowed" })
    expect(judgePermissions({ ...all, list: "refused", delete: "unknown" })).toEqual({
      verdict: "warning",
      finding: "get and put allowed; list refused; delete not known",
      meaning: "list is needed for history and gc; delete is needed for gc",
    })
    expect(judgePermissions({ ...all, put: "refused" }).verdict).toBe("failed")
  })

  it("on errors: a refusal is borne where part of vecsnap does without, an outage is not", () => {
    const refusal = lastingFault("no", { code: "AccessDenied" })
    expect(judgeError(listing, refusal)).toMatchObject({ verdict: "warning", error: "InvalidInput" })
    expect(judgeError(objects, refusal).verdict).toBe("failed")
    expect(judgeError(listing, unavailable("down"))).toMatchObject({ verdict: "failed", finding: "down" })
    expect(judgeNoConnection(unavailable("down")).meaning).toMatch(/does not answer/)
    expect(judgeNoConnection(notFound("no bucket"))).toMatchObject({ verdict: "failed", error: "NotFound" })
  })
})

describe("a refusal", () => {
  it("is the answer to who is known, not to wrong credentials", () => {
    const refused = (details: object) => isRefusal(lastingFault("no", { ...details }))
    expect(refused({ status: 403, code: "AccessDenied" })).toBe(true)
    expect(refused({ status: 403, code: "Forbidden" })).toBe(true)
    expect(refused({ code: "EACCES" })).toBe(true)
    for (const code of [
      "InvalidAccessKeyId",
      "SignatureDoesNotMatch",
      "ExpiredToken",
      "RequestTimeTooSkewed",
    ])
      expect(refused({ status: 403, code }), code).toBe(false)
    expect(refused({ status: 404, code: "Unknown" })).toBe(false)
    expect(isRefusal(conflict("no", { code: "AccessDenied" }))).toBe(false)
  })
})

describe("the diagnosis", () => {
  const check = (name: Check["name"], verdict: Verdict, more: Partial<Check> = {}): Check => ({
    name,
    verdict,
    finding: "",
    ...more,
  })
  const conditions = [check("conditional create", "ok"), check("conditional overwrite", "ok")]

  it("is as bad as its worst check", () => {
    const verdictOf = (...verdicts: Verdict[]) =>
      diagnosisOf(
        "s3://x",
        verdicts.map((verdict) => check("clock", verdict)),
      ).verdict
    expect(verdictOf("ok", "skipped")).toBe("ok")
    expect(verdictOf("ok", "warning")).toBe("warning")
    expect(verdictOf("failed", "warning")).toBe("failed")
  })

  it.each([
    [
      "all",
      conditions,
      "This store can be used for reading snapshots, building and publishing, history and collection (gc).",
    ],
    [
      "no deletes",
      [...conditions, check("delete", "warning", { error: "InvalidInput" })],
      "This store can be used for reading snapshots, building and publishing and history. It cannot be used for collection (gc).",
    ],
    [
      "no preconditions",
      [check("conditional create", "warning"), check("conditional overwrite", "warning")],
      "This store can be used for reading snapshots, building and publishing, history and collection (gc). Racing publishers are not excluded, so see to it that only one job publishes at a time.",
    ],
    [
      "no connection",
      [check("connection", "failed")],
      "Nothing can be said about this store until it can be reached with these settings.",
    ],
    [
      "too little",
      [
        check("connection", "warning", { error: "InvalidInput" }),
        check("objects", "failed", { error: "InvalidInput" }),
      ],
      "With these credentials too little is allowed to try anything out.",
    ],
    [
      "nothing",
      [check("ranges", "failed"), check("listing", "failed")],
      "This store cannot be used for anything that vecsnap does.",
    ],
  ] as const)("says what the store can be used for: %s", (_, checks, summary) => {
    expect(diagnosisOf("s3://x", checks).summary).toBe(summary)
  })

  it("enumerates", () => {
    expect([[], ["a"], ["a", "b"], ["a", "b", "c"]].map(enumerate)).toEqual([
      "",
      "a",
      "a and b",
      "a, b and c",
    ])
  })
})

describe("a time limit", () => {
  it("ends what does not end, and tells its signal", async () => {
    let seen: AbortSignal | undefined
    const hanging = withinLimit(10, undefined, (signal) => {
      seen = signal
      return new Promise(() => {})
    })
    await expect(hanging).rejects.toMatchObject({ tag: "Unavailable", message: "no answer within 0.01 s" })
    expect(seen?.aborted).toBe(true)
  })

  it("is Aborted if the caller gave up, before or meanwhile", async () => {
    const forever = () => new Promise(() => {})
    await expect(withinLimit(60_000, AbortSignal.abort(), forever)).rejects.toMatchObject({ tag: "Aborted" })
    const stop = new AbortController()
    const pending = withinLimit(60_000, stop.signal, forever)
    stop.abort()
    await expect(pending).rejects.toMatchObject({ tag: "Aborted" })
  })

  it("passes on results and errors", async () => {
    expect(await withinLimit(60_000, undefined, async () => 7)).toBe(7)
    const error = conflict("lost")
    await expect(withinLimit(60_000, undefined, () => Promise.reject(error))).rejects.toBe(error)
  })
})
