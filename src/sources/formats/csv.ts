/**
 * CSV as in RFC 4180: a header, cells in double quotes where they hold delimiters, quotes or line breaks. All
 * cells are text; an empty one is null, an empty one in quotes is the empty string. Lines are counted as they
 * stand in the file.
 *
 * A quote opens a cell only as its first character. One that stands elsewhere, or that nothing closes, is the
 * fault of the row it stands in: the lines after it are read again, each for itself, so that no good row is
 * lost to it.
 *
 * DuckDB's reader was tried and is not used here: it guesses the dialect, so that one bad line can turn a
 * whole file into a single column, and does not tell the lines of good rows. SQL sources have it, as
 * `read_csv(...)`.
 */
import { isUtf8 } from "node:buffer"
import { invalidInput } from "../../errors.js"
import { quoted } from "../../wording.js"
import { decompressed, MAX_LINE_BYTES, splitLines } from "../bytes.js"
import type { FileReader, RawColumns } from "../columns.js"
import type { BytesFormat } from "../format.js"
import { gatherRows, type ParsedLine } from "../text-rows.js"

export const csv: BytesFormat<"csv"> = {
  name: "csv",
  extensions: ["csv"],
  magic: [],
  reads: "bytes",
  open: ({ name, openBytes }) => csvReader(name, openBytes),
}

/** CSV whose delimiter is the tab, whatever its header looks like. */
export const tsv: BytesFormat<"tsv"> = {
  name: "tsv",
  extensions: ["tsv"],
  magic: [],
  reads: "bytes",
  open: ({ name, openBytes }) => csvReader(name, openBytes, "\t"),
}

const QUOTE = '"'
const DELIMITERS = [",", ";", "\t", "|"]

type Cells = readonly (string | null)[]

/**
 * `openBytes` starts to read the file, which may be compressed; `file` is for messages. Without a `delimiter`
 * it is the one of comma, semicolon, tab and bar that is most frequent in the header.
 */
function csvReader(file: string, openBytes: () => AsyncIterable<Uint8Array>, delimiter?: string): FileReader {
  return {
    file,
    unit: "line",
    text: true,
    read: ({ onBadRow }) => gatherRows(parseRecords(file, openBytes, delimiter), columnsOf, onBadRow),
  }
}

interface CsvRow {
  readonly header: Header
  readonly cells: Cells
}

async function* parseRecords(
  file: string,
  openBytes: () => AsyncIterable<Uint8Array>,
  delimiter: string | undefined,
): AsyncGenerator<ParsedLine<CsvRow>[]> {
  const headerLines: Buffer[] = []
  let records: RecordReader | undefined
  let line = 0
  for await (const lines of splitLines(decompressed(openBytes(), file), file)) {
    const rows: ParsedLine<CsvRow>[] = []
    for (const bytes of lines) {
      line++
      if (records !== undefined) records.add({ bytes, line }, rows)
      else if (headerLines.length > 0 || !isBlank(bytes)) {
        headerLines.push(bytes)
        const text = wholeHeader(headerLines, file)
        if (text !== undefined) records = createRecordReader(parseHeader(text, delimiter, file))
      }
    }
    if (rows.length > 0) yield rows
  }
  if (headerLines.length > 0 && records === undefined)
    throw invalidInput(`${file}: the header has a quote that is never closed`, { file })
  const rest: ParsedLine<CsvRow>[] = []
  records?.end(rest)
  if (rest.length > 0) yield rest
}

interface Header {
  readonly names: readonly string[]
  readonly delimiter: string
}

/** The text of a header that may go on over lines, as long as a quote is open; `undefined` if it does. */
function wholeHeader(lines: readonly Buffer[], file: string): string | undefined {
  const bytes = Buffer.concat(lines.flatMap((line, i) => (i === 0 ? [line] : [LINE_FEED, line])))
  if (!isUtf8(bytes)) throw invalidInput(`${file}: the header is not UTF-8`, { file })
  const text = bytes.toString("utf8")
  const quotes = text.split(QUOTE).length - 1
  if (quotes % 2 === 0) return text
  if (lines.length < MOST_HEADER_LINES) return undefined
  throw invalidInput(`${file}: the header has a quote that is never closed`, { file })
}

const LINE_FEED = Buffer.from("\n")
const MOST_HEADER_LINES = 1000

function parseHeader(text: string, delimiter: string | undefined, file: string): Header {
  const chosen = delimiter ?? mostFrequent(text.replace(/"[^"]*"/g, ""))
  // Its quotes are even, so the line breaks within are those of cells, and it ends.
  const { cells, problem } = scanLine(text, chosen, false)
  if (problem !== undefined) throw invalidInput(`${file}: the header ${problem}`, { file })
  const names = cells.map((cell) => cell ?? "")
  const twice = names.find((name, i) => names.indexOf(name) < i)
  if (twice === undefined) return { names, delimiter: chosen }
  throw invalidInput(`${file}: the header has ${quoted(twice)} twice`, { file, column: twice })
}

function mostFrequent(header: string): string {
  const count = (delimiter: string) => header.split(delimiter).length
  return DELIMITERS.reduce((best, delimiter) => (count(delimiter) > count(best) ? delimiter : best))
}

interface Line {
  readonly bytes: Buffer
  /** From 1, as it stands in the file. */
  readonly line: number
}

/** Puts lines together to records. What it finds goes to `to`, in the order of the file. */
interface RecordReader {
  add(line: Line, to: ParsedLine<CsvRow>[]): void
  /** To be called after the last line. */
  end(to: ParsedLine<CsvRow>[]): void
}

/** Lines of a record, and what was found on each. */
interface LinesOfRecord {
  readonly lines: Line[]
  readonly scans: Scan[]
  bytes: number
}

const NEVER_CLOSED = "a quote opens there that is never closed"

/**
 * Holds the lines of one record at most, and of these no more than one line may have bytes. A line is scanned
 * at most twice on its own and once as the continuation of a record: where a quote was still open after it,
 * all its quotes were in pairs, so on its own it opens none that it does not close.
 */
function createRecordReader(header: Header): RecordReader {
  let open: LinesOfRecord | undefined

  function add(line: Line, to: ParsedLine<CsvRow>[]): void {
    if (open === undefined && isBlank(line.bytes)) return
    const record = open ?? { lines: [], scans: [], bytes: 0 }
    const scan = scanLine(line.bytes.toString("utf8"), header.delimiter, open !== undefined)
    open = undefined
    record.lines.push(line)
    record.scans.push(scan)
    record.bytes += line.bytes.length
    if (scan.wrongClose !== undefined && record.lines.length > 1)
      giveUp(record, `a quote opens there, but on line ${line.line} it ${scan.wrongClose}`, to)
    else if (scan.open === undefined) complete(record, to)
    else if (record.bytes > MAX_LINE_BYTES) giveUp(record, NEVER_CLOSED, to)
    else open = record
  }

  function complete(record: LinesOfRecord, to: ParsedLine<CsvRow>[]): void {
    const parsed = parseRecord(record, header)
    if ("problem" in parsed && swallowsRows(record, header)) giveUp(record, parsed.problem, to)
    else to.push(parsed)
  }

  /** The first line is at fault; those after it may be rows. */
  function giveUp({ lines: [first, ...others] }: LinesOfRecord, problem: string, to: ParsedLine<CsvRow>[]) {
    to.push({ line: first!.line, problem })
    for (const line of others) add(line, to)
  }

  return {
    add,
    end(to) {
      while (open !== undefined) {
        const record = open
        open = undefined
        giveUp(record, NEVER_CLOSED, to)
      }
    },
  }
}

const RETURN_BYTE = 0x0d

const isBlank = (line: Buffer): boolean => line.length === 0 || (line.length === 1 && line[0] === RETURN_BYTE)

function parseRecord({ lines, scans }: LinesOfRecord, header: Header): ParsedLine<CsvRow> {
  const { line } = lines[0]!
  if (!lines.every(({ bytes }) => isUtf8(bytes))) return { line, problem: "is not UTF-8" }
  const problem = scans.find((scan) => scan.problem !== undefined)?.problem
  if (problem !== undefined) return { line, problem }
  const cells = scans.length === 1 ? scans[0]!.cells : joinCells(scans)
  if (cells.length === header.names.length) return { line, row: { header, cells } }
  return { line, problem: `has ${cells.length} cells, expected ${header.names.length} as in the header` }
}

/** The cells of a record on several lines: each but the first begins within the cell that was open before. */
function joinCells(scans: readonly Scan[]): Cells {
  const cells: (string | null)[] = []
  let parts: string[] = []
  for (const scan of scans) {
    scan.cells.forEach((cell, i) => {
      const ends = i === 0 && parts.length > 0
      cells.push(ends ? [...parts, cell].join("\n") : cell)
      if (ends) parts = []
    })
    if (scan.open !== undefined) parts.push(scan.open)
  }
  return cells
}

/**
 * Whether a bad record on several lines has good rows on the lines between, so that quotes were paired
 * wrongly.
 */
function swallowsRows({ lines }: LinesOfRecord, header: Header): boolean {
  const between = lines.length === 2 ? lines.slice(1) : lines.slice(1, -1)
  return (
    between.length > 0 &&
    between.every((line) => {
      const scan = scanLine(line.bytes.toString("utf8"), header.delimiter, false)
      return (
        scan.open === undefined && "row" in parseRecord({ lines: [line], scans: [scan], bytes: 0 }, header)
      )
    })
  )
}

/** What one line of a record holds. */
interface Scan {
  /** The cells that end on the line. */
  readonly cells: Cells
  /** Text of the cell in quotes that goes on after the line, if one does. */
  readonly open: string | undefined
  /** What is wrong with the line, in words. */
  readonly problem: string | undefined
  /** What stands after the closing quote of the cell that `continues`, where a delimiter should. */
  readonly wrongClose: string | undefined
}

/** Finds the cells of a line. `continues` if it begins within a cell in quotes. */
function scanLine(text: string, delimiter: string, continues: boolean): Scan {
  const line = text.endsWith("\r") ? text.slice(0, -1) : text
  if (!continues && !line.includes(QUOTE)) {
    const cells = line.split(delimiter).map((cell) => (cell === "" ? null : cell))
    return { cells, open: undefined, problem: undefined, wrongClose: undefined }
  }
  const cells: (string | null)[] = []
  let problem: string | undefined
  let wrongClose: string | undefined
  let start = 0
  let isQuoted = continues
  for (;;) {
    let end: number
    if (isQuoted || line[start] === QUOTE) {
      const from = isQuoted ? start : start + 1
      const close = closingQuote(line, from)
      if (close === -1) {
        const open = text.slice(from).replaceAll('""', QUOTE)
        return { cells, open, problem, wrongClose }
      }
      cells.push(line.slice(from, close).replaceAll('""', QUOTE))
      end = close + 1
      if (end < line.length && !line.startsWith(delimiter, end)) {
        const found = `has ${JSON.stringify(line[end])} after the closing quote of a cell, expected ${JSON.stringify(delimiter)}`
        problem ??= found
        if (isQuoted) wrongClose = found
        end = endOfPlain(line, delimiter, end)
      }
    } else {
      end = endOfPlain(line, delimiter, start)
      const cell = line.slice(start, end)
      if (cell.includes(QUOTE)) problem ??= "has a quote within a cell that does not start with one"
      cells.push(cell === "" ? null : cell)
    }
    if (end >= line.length) return { cells, open: undefined, problem, wrongClose }
    start = end + delimiter.length
    isQuoted = false
  }
}

function endOfPlain(line: string, delimiter: string, start: number): number {
  const next = line.indexOf(delimiter, start)
  return next === -1 ? line.length : next
}

/** Where the cell in quotes ends whose text begins at `start`; -1 if it goes on after the line. */
function closingQuote(line: string, start: number): number {
  let at = line.indexOf(QUOTE, start)
  while (at !== -1 && line[at + 1] === QUOTE) at = line.indexOf(QUOTE, at + 2)
  return at
}

/** Rows of one file, so of one header. */
function columnsOf(rows: readonly CsvRow[], lines: readonly number[]): RawColumns {
  const { names } = rows[0]!.header
  return {
    rows: rows.length,
    rowNumber: (row) => lines[row]!,
    names,
    namesOf: () => names,
    column(name) {
      const place = names.indexOf(name)
      return place === -1 ? () => undefined : (row) => rows[row]!.cells[place]
    },
  }
}
