import { expect, test } from "vitest"
import { formatStamp, formatTime, parseTime } from "../../../../src/manifest/shardyfusion/times.js"

test.each([
  ["2026-01-02T03:04:05Z", "2026-01-02T03:04:05.000Z"],
  ["2026-01-02T03:04:05.120000Z", "2026-01-02T03:04:05.120Z"],
  ["2026-01-02 03:04:05.123456789+02:30", "2026-01-02T00:34:05.123Z"],
  ["2026-01-02T03:04:05.1-0100", "2026-01-02T04:04:05.100Z"],
  ["2026-01-02T03:04:05", "2026-01-02T03:04:05.000Z"],
  ["2026-01-02", "2026-01-02T00:00:00.000Z"],
  ["1767323045", "2026-01-02T03:04:05.000Z"],
  [1767323045n, "2026-01-02T03:04:05.000Z"],
  [1767323045.5, "2026-01-02T03:04:05.500Z"],
  ["1767323045000", "2026-01-02T03:04:05.000Z"],
] as const)("%s is a time", (value, expected) => {
  expect(parseTime(value)?.toISOString()).toBe(expected)
})

test.each([
  ...["", "now", "2026-02-30T00:00:00Z", "2026-01-02T24:00:00Z", "2026-01-02T03:04:05.1234567890Z"],
  ...["2026-01-02T03:04:05+25:00", "26-01-02", "9".repeat(30), null, true, undefined, {}],
])("%j is none", (value) => {
  expect(parseTime(value)).toBeUndefined()
})

test("texts leave out a fraction of zero, names of directories never do", () => {
  expect(formatTime(new Date("2026-01-02T03:04:05Z"))).toBe("2026-01-02T03:04:05Z")
  expect(formatTime(new Date("2026-01-02T03:04:05.12Z"))).toBe("2026-01-02T03:04:05.120000Z")
  expect(formatStamp(new Date("2026-01-02T03:04:05Z"))).toBe("2026-01-02T03:04:05.000000Z")
})
