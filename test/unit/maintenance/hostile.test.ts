/**
 * Objects at a root by somebody who may write some of them: each is reported, and stops nobody from looking
 * at the rest.
 */
import { describe, expect, it } from "vitest"
import { collect, listRuns, readHistory } from "../../../src/index.js"
import { manifestKey, pinKey, readerKey, runKey } from "../../../src/manifest/keys.js"
import { seal } from "../../../src/manifest/seal.js"
import { publishSnapshot, runId, timedStore } from "../../support/roots.js"

const [LIVE, FOREIGN] = [runId("a"), runId("b")]
const TIME = new Date("2026-11-21T00:00:00Z")

const BODIES: readonly (readonly [string, Uint8Array])[] = [
  ["nothing", Buffer.alloc(0)],
  ["what is not JSON", Buffer.from("<html>")],
  ["a list", Buffer.from("[]")],
  ["bytes that are no text", Buffer.from([0xff, 0xfe, 0xc0])],
  ["five megabytes", Buffer.alloc(5 * 2 ** 20, "x")],
]
const VALUES: readonly unknown[] = [{ toString: 1, valueOf: 1 }, [[{}]], 2n ** 70n, null, "x".repeat(50_000)]
const FORMATS = ["vecsnap", "vecsnap-run", "vecsnap-pin", "vecsnap-reader"]
const sealed = FORMATS.flatMap((format) =>
  VALUES.flatMap((value): [string, Uint8Array][] => [
    [`the version ${typeof value} of ${format}`, seal({ format, version: value })],
    [`the format ${typeof value}`, seal({ format: value, version: 1 })],
    [
      `values of the type ${typeof value} in ${format}`,
      seal({ format, version: 1, run: value, runs: value }),
    ],
  ]),
)
const KEYS = {
  manifest: manifestKey(TIME, FOREIGN),
  run: runKey(FOREIGN),
  pin: pinKey(FOREIGN),
  reader: readerKey(FOREIGN),
}

describe("one foreign object", () => {
  it.each(Object.entries(KEYS))("in place of a %s stops neither gc, history nor runs", async (_, key) => {
    for (const [name, body] of [...BODIES, ...sealed]) {
      const timed = timedStore()
      await publishSnapshot(timed, LIVE)
      await timed.store.put(key, body)
      timed.pass(3600)
      const report = await collect(timed.store, { yes: true })
      expect(
        report.kept.map(({ run }) => run),
        name,
      ).toContain(LIVE)
      const history = await readHistory(timed.store)
      expect(history.live?.run, name).toBe(LIVE)
      const texts = [...history.unpublished, ...(await listRuns(timed.store))].map(
        ({ problem }) => problem ?? "",
      )
      for (const text of [...texts, ...report.problems.map(String)])
        expect(text.length, name).toBeLessThan(2000)
    }
  })
})
