import { expect, test } from "vitest"
import { createProgress, describePace, stderrLogger } from "../../../cli/progress.js"
import { captureIo } from "./capture.js"

const rows = (done: number) => ({ stage: "partition", done, total: undefined, unit: "rows" }) as const
const shards = (done: number) => ({ stage: "shards", done, total: 4, unit: "shards" }) as const

test("plain lines: one when a stage begins, then one every ten seconds", () => {
  const io = captureIo()
  let nowMs = 0
  const progress = createProgress(io, { now: () => nowMs })
  progress.show(rows(0))
  for (nowMs = 1000; nowMs <= 21_000; nowMs += 1000) progress.show(rows(nowMs))
  progress.show(shards(1))
  progress.end()
  expect(io.err()).toBe(
    [
      "partitioning rows",
      "partitioning rows: 10,000 rows, 1,000 rows/s",
      "partitioning rows: 20,000 rows, 1,000 rows/s",
      "building shards: 1 of 4 shards",
      "",
    ].join("\n"),
  )
})

test("the pace: rows per second, and the time left where the end is known", () => {
  expect(describePace(rows(123_456), 3000)).toBe(", 41,000 rows/s")
  expect(describePace({ ...rows(123_456), total: 200_000 }, 3000)).toBe(", 41,000 rows/s, 1.9 s left")
  expect(describePace(shards(1), 30_000)).toBe(", 1 min 30 s left")
  expect(describePace(shards(4), 30_000)).toBe("")
  expect(describePace(rows(0), 30_000)).toBe("")
  expect(describePace(rows(1000), 1999)).toBe("")
})

test("a bar on a terminal fits the line, makes way for other lines and goes away", () => {
  const io = captureIo({ columns: 60 })
  const progress = createProgress(io, { now: () => 0 })
  progress.show(shards(2))
  progress.line("skipped: one row")
  progress.show(shards(4))
  progress.end()
  progress.end()
  const clear = "\r\u001b[2K"
  const bar = (filled: number) => "█".repeat(filled) + "░".repeat(24 - filled)
  expect(io.err()).toBe(
    `${clear}${bar(12)}  building shards: 2 of 4 shards  …${clear}skipped: one row\n` +
      `${clear}${bar(24)}  building shards: 4 of 4 shards  …${clear}`,
  )
})

test("a bar is not drawn more often than an eye sees, except when a stage ends", () => {
  const io = captureIo({ columns: 80 })
  const progress = createProgress(io, { now: () => 0 })
  for (const done of [0, 1, 2, 3, 4]) progress.show(shards(done))
  expect(io.err().match(/\d of 4/g)).toEqual(["0 of 4", "4 of 4"])
})

test("quiet shows no progress, but lines", () => {
  const io = captureIo({ columns: 80 })
  const progress = createProgress(io, { quiet: true })
  progress.show(shards(1))
  progress.line("skipped: one row")
  progress.end()
  expect(io.err()).toBe("skipped: one row\n")
})

test("the logger prints warnings and errors, with --debug everything with its facts", () => {
  const io = captureIo()
  stderrLogger(io).info({ n: 1 }, "unseen")
  stderrLogger(io).warn({ n: 1 }, "look out")
  stderrLogger(io, true).info({ n: 1n }, "seen")
  expect(io.err()).toBe('warning: look out\ninfo: seen {"n":1}\n')
})
