/** Points in time as the format has them: as text of documents, and in names of directories. */

const TEXT =
  /^(\d{4})-(\d\d)-(\d\d)(?:[Tt _](\d\d):(\d\d)(?::(\d\d)(?:[.,](\d{1,9}))?)?\s?([Zz]|[+-]\d\d:?\d\d)?)?$/
const NUMBER = /^[+-]?\d+(?:\.\d+)?$/
/** From here on a number counts milliseconds, as pydantic has it. */
const MILLISECONDS_FROM = 2e10

/**
 * A time as the reader of the reference takes it: ISO 8601 with any offset, "T" or a space, up to nine digits
 * of a fraction; without offset it is UTC; a number counts seconds since 1970. `undefined` for anything else.
 */
export function parseTime(value: unknown): Date | undefined {
  if (typeof value === "number" || typeof value === "bigint") return fromNumber(Number(value))
  if (typeof value !== "string") return undefined
  const text = value.trim()
  if (NUMBER.test(text)) return fromNumber(Number(text))
  const match = TEXT.exec(text)
  if (match === null) return undefined
  const [, year, month, day, hour = "00", minute = "00", second = "00", fraction = "", zone = "Z"] = match
  const iso = `${year}-${month}-${day}T${hour}:${minute}:${second}`
  const time = new Date(`${iso}.${fraction.padEnd(3, "0").slice(0, 3)}Z`)
  // `Date` takes the 31st of February for the 3rd of March.
  if (Number.isNaN(time.getTime()) || !time.toISOString().startsWith(iso)) return undefined
  const offset = offsetMinutes(zone)
  return offset === undefined ? undefined : new Date(time.getTime() - offset * 60_000)
}

function fromNumber(value: number): Date | undefined {
  const time = new Date(Math.abs(value) > MILLISECONDS_FROM ? value : value * 1000)
  return Number.isNaN(time.getTime()) ? undefined : time
}

function offsetMinutes(zone: string): number | undefined {
  const [, sign, hours, minutes] = /^([+-])(\d\d):?(\d\d)$/.exec(zone) ?? []
  if (sign === undefined) return 0
  const [h, m] = [Number(hours), Number(minutes)]
  if (h > 23 || m > 59) return undefined
  return (sign === "-" ? -1 : 1) * (60 * h + m)
}

/** As documents have it: six digits of a fraction, or none where it is zero. */
export const formatTime = (time: Date): string => formatStamp(time).replace(".000000Z", "Z")

/** As names of directories have it, which sort by time: always six digits. */
export const formatStamp = (time: Date): string => time.toISOString().replace("Z", "000Z")
