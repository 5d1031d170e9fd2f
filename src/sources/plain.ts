/** Values that JSON has no form for, mostly as text; the same for all readers that have types. */

// A double holds any decimal of so many digits exactly enough to print it again.
const DOUBLE_DIGITS = 15

/** A value that is written down and has no type yet: a field has it as the type that is declared for it. */
export class WrittenValue {
  readonly text: string
  /** As a payload has it. */
  readonly plain: number | string

  constructor(text: string, plain: number | string) {
    this.text = text
    this.plain = plain
  }
}

/**
 * A decimal `unscaled / 10^scale` in a column of its own, with all its digits; without a fraction an integer.
 */
export function decimalOf(unscaled: bigint, scale: number): bigint | WrittenValue {
  if (scale === 0) return unscaled
  const sign = unscaled < 0n ? "-" : ""
  const digits = (unscaled < 0n ? -unscaled : unscaled).toString()
  const padded = digits.padStart(scale + 1, "0")
  const text = `${sign}${padded.slice(0, -scale)}.${padded.slice(-scale)}`
  return new WrittenValue(text, digits.length <= DOUBLE_DIGITS ? Number(text) : text)
}

/** A decimal within another value: a number where that shows the same digits, else its text. */
export function plainDecimal(unscaled: bigint, scale: number): number | bigint | string {
  const decimal = decimalOf(unscaled, scale)
  return typeof decimal === "bigint" ? decimal : decimal.plain
}

/**
 * A day, counted from 1970, as ISO 8601: "2024-02-29"; years beyond four digits have a sign and six or more.
 */
export function plainDate(days: number): string {
  // After Howard Hinnant's days_from_civil: years of 400 repeat, and start in March, so that leap days come
  // last.
  const shifted = days + 719_468
  const era = Math.floor(shifted / 146_097)
  const dayOfEra = shifted - era * 146_097
  const yearOfEra = Math.floor(
    (dayOfEra -
      Math.floor(dayOfEra / 1460) +
      Math.floor(dayOfEra / 36_524) -
      Math.floor(dayOfEra / 146_096)) /
      365,
  )
  const dayOfYear = dayOfEra - (365 * yearOfEra + Math.floor(yearOfEra / 4) - Math.floor(yearOfEra / 100))
  const marchMonth = Math.floor((5 * dayOfYear + 2) / 153)
  const day = dayOfYear - Math.floor((153 * marchMonth + 2) / 5) + 1
  const month = marchMonth < 10 ? marchMonth + 3 : marchMonth - 9
  const year = era * 400 + yearOfEra + (month <= 2 ? 1 : 0)
  return `${plainYear(year)}-${twoDigits(month)}-${twoDigits(day)}`
}

function plainYear(year: number): string {
  if (year >= 0 && year <= 9999) return String(year).padStart(4, "0")
  return `${year < 0 ? "-" : "+"}${String(Math.abs(year)).padStart(6, "0")}`
}

const twoDigits = (number: number): string => String(number).padStart(2, "0")

/** How many of a unit make a second. */
export const UNITS = { second: 1n, milli: 1_000n, micro: 1_000_000n, nano: 1_000_000_000n } as const

const SECONDS_PER_DAY = 86_400n

/**
 * A time since 1970, counted in units of which `perSecond` make a second, as ISO 8601 without needless
 * digits; `zone` is "Z" where it is a point in time, "" where it is what a clock shows somewhere.
 */
export function plainTimestamp(count: bigint, perSecond: bigint, zone: "Z" | ""): string {
  const perDay = SECONDS_PER_DAY * perSecond
  const ofDay = ((count % perDay) + perDay) % perDay
  return `${plainDate(Number((count - ofDay) / perDay))}T${plainTime(ofDay, perSecond)}${zone}`
}

/** A time of day, counted from midnight, as ISO 8601 without needless digits: "12:30:00.5". */
export function plainTime(count: bigint, perSecond: bigint): string {
  const seconds = Number(count / perSecond)
  const clock = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, seconds % 60].map(twoDigits)
  return `${clock.join(":")}${fraction(count % perSecond, perSecond)}`
}

function fraction(rest: bigint, perSecond: bigint): string {
  if (rest === 0n) return ""
  const digits = String(perSecond).length - 1
  return `.${String(rest).padStart(digits, "0").replace(/0+$/, "")}`
}

/**
 * An interval as ISO 8601, its three parts apart, since neither days nor months have a fixed length:
 * "P14M3DT0.5S".
 */
export function plainInterval(months: number, days: number, time: bigint, perSecond: bigint): string {
  const size = time < 0n ? -time : time
  const seconds = `${time < 0n ? "-" : ""}${size / perSecond}${fraction(size % perSecond, perSecond)}`
  const date = `${months === 0 ? "" : `${months}M`}${days === 0 ? "" : `${days}D`}`
  return date !== "" && time === 0n ? `P${date}` : `P${date}T${seconds}S`
}

/** A map: an object where its keys are texts, each once, else a list of objects with key and value. */
export function plainMap(entries: readonly (readonly [key: unknown, value: unknown])[]): object {
  const keys = new Set(entries.map(([key]) => key))
  // Not by assignment, which would give "__proto__" a meaning.
  return keys.size === entries.length && [...keys].every((key) => typeof key === "string")
    ? Object.fromEntries(entries)
    : entries.map(([key, value]) => ({ key, value }))
}
