import fc from "fast-check"
import { describe, expect, test } from "vitest"
import {
  countOf,
  displayWidth,
  formatBytes,
  formatCount,
  formatDuration,
  formatTime,
  formatValue,
  ownSequence,
  paintFor,
  printable,
  printing,
  renderFacts,
  renderTable,
  shellQuote,
  shorten,
} from "../../../cli/render.js"
import { captureIo } from "./capture.js"

test.each([
  [0, "0 B"],
  [999, "999 B"],
  [1000, "1.0 kB"],
  [99_940, "99.9 kB"],
  [99_950, "100 kB"],
  [999_499, "999 kB"],
  [999_500, "1.0 MB"],
  [12_500_000, "12.5 MB"],
  [3e18, "3000 PB"],
])("%d bytes are %s", (sizeBytes, text) => {
  expect(formatBytes(sizeBytes)).toBe(text)
})

test.each([
  [0.42, "0.4 ms"],
  [9.96, "10 ms"],
  [340, "340 ms"],
  [999.6, "1.0 s"],
  [4_210, "4.2 s"],
  [59_960, "1 min 0 s"],
  [192_000, "3 min 12 s"],
  [7_500_000, "2 h 5 min"],
])("%d ms are %s", (milliseconds, text) => {
  expect(formatDuration(milliseconds)).toBe(text)
})

test("counts and times", () => {
  expect(formatCount(1234567)).toBe("1,234,567")
  expect(countOf(1, "row")).toBe("1 row")
  expect(countOf(2000, "row")).toBe("2,000 rows")
  expect(formatTime(new Date("2026-11-21T03:00:12.345Z"))).toBe("2026-11-21 03:00:12Z")
})

test("values are on one line and cannot drive the terminal", () => {
  expect(formatValue("a\u001b[31m\nb")).toBe("a\\u001b[31m\\u000ab")
  expect(formatValue("x\u009b1m\u202ey")).toBe("x\\u009b1m\\u202ey")
  expect(formatValue(9007199254740993n)).toBe("9007199254740993")
  expect(formatValue({ a: [1, null] })).toBe('{"a":[1,null]}')
  expect(formatValue(null)).toBe("")
})

test("what could drive a terminal is escaped, whatever command printed it; our own colours and cleared lines are kept", () => {
  const hostile = "a\u001b]0;x\u0007\u009b31m\u202eb\u200fc\r\u001b[8md"
  const shown = "a\\u001b]0;x\\u0007\\u009b31m\\u202eb\\u200fc\\u000d\\u001b[8md"
  const terminal = captureIo({ columns: 80 })
  const output = printing(terminal.stdout)
  const clear = "\r\u001b[2K"
  output.write(`${ownSequence(output, clear)}${paintFor(output, {}).red("no\tyes\n")}${hostile}`)
  expect(terminal.out()).toBe(`${clear}\u001b[31mno\tyes\n\u001b[0m${shown}`)
  expect(output).toMatchObject({ isTTY: true, columns: 80 })
  const file = captureIo()
  printing(file.stdout).write(`\u001b[31m${hostile}\n`)
  expect(file.out()).toBe(`\\u001b[31m${shown}\n`)
})

test("colours and cleared lines that are in data are not ours", () => {
  const terminal = captureIo({ columns: 80 })
  const output = printing(terminal.stdout)
  output.write(`${paintFor(output, {}).red("error")}: \u001b[32mintact\u001b[0m\r\u001b[2Kok\n`)
  expect(terminal.out()).toBe("\u001b[31merror\u001b[0m: \\u001b[32mintact\\u001b[0m\\u000d\\u001b[2Kok\n")
})

test.each([
  ["zero width", "a\u200bb\u200cc\u200dd\u2060e\ufefff", "a\\u200bb\\u200cc\\u200dd\\u2060e\\ufefff"],
  ["tags", "a\u{e0041}\u{e007f}", "a\\udb40\\udc41\\udb40\\udc7f"],
  ["variation selectors", "a\ufe00b\ufe0f\u{e0100}", "a\\ufe00b\\ufe0f\\udb40\\udd00"],
  ["fillers and soft hyphens", "\u00ad\u034f\u115f\u3164\uffa0", "\\u00ad\\u034f\\u115f\\u3164\\uffa0"],
  ["half of a pair", "a\ud800b", "a\\ud800b"],
  ["what people write", "Zürich 東京 ก่อน é 👨‍👩‍👧 ❤️ ✈︎\t\n", "Zürich 東京 ก่อน é 👨‍👩‍👧 ❤️ ✈︎\t\n"],
])("%s in text is seen", (_, text, shown) => {
  expect(printable(text)).toBe(shown)
  // JSON means the same, escaped or not.
  if (!shown.includes("\n")) expect(JSON.parse(printable(JSON.stringify(text)))).toBe(text)
})

describe("widths", () => {
  test("wide characters take two columns, combined ones one", () => {
    expect(displayWidth("König")).toBe(5)
    expect(displayWidth("Ko\u0308nig")).toBe(5)
    expect(displayWidth("東京")).toBe(4)
    expect(shorten("東京都", 5)).toBe("東京…")
    expect(shorten("東京都", 4)).toBe("東…")
    expect(shorten("word", 4)).toBe("word")
  })

  test("a shortened text never takes more than its width", () => {
    fc.assert(
      fc.property(fc.string({ unit: "grapheme" }), fc.integer({ min: 1, max: 20 }), (text, width) => {
        expect(displayWidth(shorten(text, width))).toBeLessThanOrEqual(width)
      }),
    )
  })
})

describe("tables", () => {
  const columns = [
    { title: "#", align: "right" },
    { title: "id", flexible: true },
    { title: "size" },
  ] as const
  const rows = [
    ["1", "a long identifier", "1 kB"],
    ["10", "東京", "2 kB"],
  ]

  test("align, without a limit when there is no terminal", () => {
    expect(renderTable(columns, rows)).toBe(
      [" #  id                 size", " 1  a long identifier  1 kB", "10  東京               2 kB", ""].join(
        "\n",
      ),
    )
  })

  test("shorten flexible columns to the terminal's width", () => {
    expect(renderTable(columns, rows, { width: 20 })).toBe(
      [" #  id          size", " 1  a long id…  1 kB", "10  東京        2 kB", ""].join("\n"),
    )
  })

  test("stay readable on a terminal too narrow for them", () => {
    expect(renderTable(columns, rows, { width: 3 })).toContain(" 1  a long …  1 kB\n")
  })
})

test("facts are aligned; those without a value are left out", () => {
  const facts = [
    ["rows", "10"],
    ["model", undefined],
    ["strategy", "lsh"],
  ] as const
  expect(renderFacts(facts)).toBe("  rows      10\n  strategy  lsh\n")
})

test("arguments are quoted for a shell where needed", () => {
  expect(shellQuote("s3://vectors/words")).toBe("s3://vectors/words")
  expect(shellQuote("it's $HOME")).toBe(String.raw`'it'\''s $HOME'`)
})

test("colours only on a terminal that wants them", () => {
  const terminal = { write: () => {}, isTTY: true }
  expect(paintFor(terminal, {}).red("x")).toBe("\u001b[31mx\u001b[0m")
  expect(paintFor(terminal, { NO_COLOR: "1" }).red("x")).toBe("x")
  expect(paintFor(terminal, { NO_COLOR: "" }).red("x")).toBe("\u001b[31mx\u001b[0m")
  expect(paintFor(terminal, { TERM: "dumb" }).red("x")).toBe("x")
  expect(paintFor({ write: () => {} }, {}).red("x")).toBe("x")
})
