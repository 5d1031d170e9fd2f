/**
 * Text for people: numbers, sizes, durations, tables, colours. All pure.
 */
import { randomBytes } from "node:crypto"
import { stringifyJson } from "../src/json.js"
import type { Io, Output } from "./io.js"

const integers = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 })

/** `12345` → "12,345". */
export const formatCount = (count: number): string => integers.format(count)

/** A count with its noun: "1 row", "2,000 rows". */
export const countOf = (count: number, noun: string): string =>
  `${formatCount(count)} ${noun}${count === 1 ? "" : "s"}`

const SIZE_UNITS = ["B", "kB", "MB", "GB", "TB", "PB"]

/** Three digits or so, decimal units: `999` → "999 B", `12_500_000` → "12.5 MB". */
export function formatBytes(sizeBytes: number): string {
  let value = sizeBytes
  let unit = 0
  // 999.5 would round up to "1000", which belongs to the next unit.
  while (value >= 999.5 && unit < SIZE_UNITS.length - 1) {
    value /= 1000
    unit++
  }
  return `${unit === 0 || value >= 99.95 ? Math.round(value) : value.toFixed(1)} ${SIZE_UNITS[unit]}`
}

/** "0.4 ms", "340 ms", "4.2 s", "3 min 12 s", "2 h 5 min". */
export function formatDuration(milliseconds: number): string {
  if (milliseconds < 9.95) return `${Number(milliseconds.toFixed(1))} ms`
  if (milliseconds < 999.5) return `${Math.round(milliseconds)} ms`
  if (milliseconds < 59_950) return `${(milliseconds / 1000).toFixed(1)} s`
  const seconds = Math.round(milliseconds / 1000)
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${seconds % 60} s`
  const minutes = Math.round(seconds / 60)
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`
}

/** UTC to the second: "2026-11-21 03:00:12Z". */
export const formatTime = (time: Date): string => time.toISOString().replace("T", " ").replace(/\.\d+/, "")

/**
 * What is not seen, or drives a terminal: control characters but for line ends and tabs, what turns text
 * around, what has no width (joiners, marks of byte order, tags, variation selectors), halves of surrogate
 * pairs. Emoji keep what makes them: a joiner between two of them, and the selector after one.
 */
const UNPRINTABLE =
  /(?![\n\t]|(?<=\p{Extended_Pictographic}\ufe0f?)\u200d(?=\p{Extended_Pictographic})|(?<=\p{Extended_Pictographic})[\ufe0e\ufe0f])[\p{Cc}\p{Cs}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}\ufff9-\ufffb]/gu

const escaped = (text: string): string =>
  Array.from(
    { length: text.length },
    (_, i) => `\\u${text.charCodeAt(i).toString(16).padStart(4, "0")}`,
  ).join("")

/**
 * Text that cannot drive a terminal, nor show in another order than it has, nor hold what is not seen. What
 * could is written as JSON escapes it, so that JSON stays what it is.
 */
export const printable = (text: string): string => text.replace(UNPRINTABLE, escaped)

/**
 * What our own text on a terminal may have besides, the colours of {@link Paint} and a line that is cleared,
 * is told from the same in data by a secret before it.
 */
const SECRET = `\ue000${randomBytes(16).toString("hex")}`
const OWN_SEQUENCE = new RegExp(`${SECRET}(\\u001b\\[(?:[012]|3[123])m|\\r\\u001b\\[2K)`)
const OWN_SEQUENCES = new RegExp(OWN_SEQUENCE, "g")

/** A sequence of our own for an output that would escape it otherwise. */
export const ownSequence = (output: Output, sequence: string): string =>
  output.escapes === true ? SECRET + sequence : sequence

/** An output that all text of a command goes through, whatever it was made of. */
export function printing(output: Output): Output {
  const shown = (text: string): string =>
    text
      .split(OWN_SEQUENCE)
      .map((part, i) => (i % 2 === 0 ? printable(part) : part))
      .join("")
  // The rest is that of the output at any time: a terminal may get other columns.
  return Object.create(output, {
    write: { value: (text: string) => output.write(shown(text)) },
    escapes: { value: true },
  })
}

/** A record's own text or value on one line, printable. */
export function formatValue(value: unknown): string {
  if (value === null || value === undefined) return ""
  const text = typeof value === "object" ? stringifyJson(value) : String(value)
  return printable(text).replace(/[\n\t]/g, escaped)
}

/** An argument as it must be typed in a POSIX shell. */
export const shellQuote = (argument: string): string =>
  /^[\w@%+=:,./-]+$/.test(argument) ? argument : `'${argument.replaceAll("'", String.raw`'\''`)}'`

const graphemes = new Intl.Segmenter()
const WIDE =
  /\p{Extended_Pictographic}|[\u1100-\u115f\u2e80-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe4f\uff00-\uff60\uffe0-\uffe6]/u

const graphemeWidth = (grapheme: string): number => (WIDE.test(grapheme) ? 2 : 1)

/** Columns that a text without colours takes on a terminal. */
export function displayWidth(text: string): number {
  if (/^[\x20-\x7e]*$/.test(text)) return text.length
  let width = 0
  for (const { segment } of graphemes.segment(text.replace(OWN_SEQUENCES, "")))
    width += graphemeWidth(segment)
  return width
}

/** Cuts a text to `width` columns, at least 1; a cut one ends in "…". */
export function shorten(text: string, width: number): string {
  if (displayWidth(text) <= width) return text
  let kept = ""
  let used = 1
  for (const { segment } of graphemes.segment(text)) {
    used += graphemeWidth(segment)
    if (used > width) break
    kept += segment
  }
  return `${kept}…`
}

/** Columns of a terminal; `undefined` elsewhere, and for terminals that say 0. */
export const widthOf = (output: Output): number | undefined => output.columns || undefined

export interface Column {
  readonly title: string
  /** Default "left". */
  readonly align?: "left" | "right"
  /** Whether cells may be shortened to make the table fit. */
  readonly flexible?: boolean
}

export interface TableOptions {
  /** Columns of the terminal; unlimited if absent. */
  readonly width?: number | undefined
  readonly paint?: Paint
}

const GAP = "  "
const LEAST_WIDTH = 8

/** A table without rules: a line of titles, then the rows. Ends in a newline. */
export function renderTable(
  columns: readonly Column[],
  rows: readonly (readonly string[])[],
  { width, paint = plainPaint }: TableOptions = {},
): string {
  const natural = columns.map(({ title }, i) =>
    rows.reduce((most, row) => Math.max(most, displayWidth(row[i] ?? "")), displayWidth(title)),
  )
  const widths = fitWidths(columns, natural, width)
  const line = (cells: readonly string[]): string =>
    columns
      .map(({ align }, i) => pad(shorten(cells[i] ?? "", widths[i]!), widths[i]!, align))
      .join(GAP)
      .trimEnd()
  const titles = line(columns.map(({ title }) => title))
  return [paint.dim(titles), ...rows.map(line)].map((text) => `${text}\n`).join("")
}

/** Takes what is too much from the widest flexible column, again and again, but leaves each some columns. */
function fitWidths(columns: readonly Column[], natural: readonly number[], width = Infinity): number[] {
  const widths = [...natural]
  const total = (): number => widths.reduce((sum, value) => sum + value, GAP.length * (widths.length - 1))
  while (total() > width) {
    const widest = widths.reduce(
      (best, value, i) =>
        columns[i]!.flexible && value > LEAST_WIDTH && value > (widths[best] ?? 0) ? i : best,
      -1,
    )
    if (widest === -1) break
    widths[widest]!--
  }
  return widths
}

function pad(text: string, width: number, align: Column["align"] = "left"): string {
  const space = " ".repeat(Math.max(0, width - displayWidth(text)))
  return align === "right" ? space + text : text + space
}

/** Lines of "  name   value", values aligned; pairs without a value are left out. */
export function renderFacts(
  facts: readonly (readonly [name: string, value: string | undefined])[],
  paint: Paint = plainPaint,
): string {
  const known = facts.filter((fact): fact is readonly [string, string] => fact[1] !== undefined)
  const width = Math.max(0, ...known.map(([name]) => name.length))
  return known.map(([name, value]) => `  ${paint.dim(name.padEnd(width))}  ${value}\n`).join("")
}

export type Paint = Readonly<Record<"bold" | "dim" | "red" | "green" | "yellow", (text: string) => string>>

const same = (text: string): string => text

export const plainPaint: Paint = { bold: same, dim: same, red: same, green: same, yellow: same }

function colourPaint(output: Output): Paint {
  const sgr = (code: number) => (text: string) =>
    `${ownSequence(output, `\u001b[${code}m`)}${text}${ownSequence(output, "\u001b[0m")}`
  return { bold: sgr(1), dim: sgr(2), red: sgr(31), green: sgr(32), yellow: sgr(33) }
}

/** Colours on a terminal only, and not if NO_COLOR is set (https://no-color.org) or the terminal is dumb. */
export function paintFor(output: Output, env: Io["env"]): Paint {
  const wanted = output.isTTY === true && !env.NO_COLOR && env.TERM !== "dumb"
  return wanted ? colourPaint(output) : plainPaint
}
