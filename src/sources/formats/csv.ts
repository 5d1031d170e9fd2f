/**
 * CSV as in RFC 4180: a header, cells in double quotes where they hold delimiters, quotes or line breaks. All cells are
 * text; an empty one is null, an empty one in quotes is the empty string. Lines are counted as they stand in the file.
 *
 * DuckDB's reader was tried and is not used here: it guesses the dialect, so that one bad line can turn a whole file
 * into a single column, and does not tell the lines of good rows. SQL sources have it, as `read_csv(...)`.
 */
import { isUtf8 } from "node:buffer"
import { invalidInput } from "../../errors.js"
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
 * `openBytes` starts to read the file, which may be compressed; `file` is for messages. Without a `delimiter` it is the
 * one of comma, semicolon, tab and bar that is most frequent in the header.
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
  let header: Header | undefined
  for await (const records of splitRecords(decompressed(openBytes(), file), file)) {
    const [first, ...others] = records
    const rows = header === undefined ? others : records
    header ??= parseHeader(first!.text, delimiter, file)
    const found = header
    yield rows.map(({ text, line }) => parseRow(text, line, found))
  }
}

function parseRow(bytes: Buffer, line: number, header: Header): ParsedLine<CsvRow> {
  if (!isUtf8(bytes)) return { line, problem: "is not UTF-8" }
  const cells = parseCells(bytes.toString("utf8"), header.delimiter)
  if (typeof cells === "string") return { line, problem: cells }
  if (cells.length === header.names.length) return { line, row: { header, cells } }
  return { line, problem: `has ${cells.length} cells, expected ${header.names.length} as in the header` }
}

interface Header {
  readonly names: readonly string[]
  readonly delimiter: string
}

function parseHeader(bytes: Buffer, delimiter: string | undefined, file: string): Header {
  if (!isUtf8(bytes)) throw invalidInput(`${file}: the header is not UTF-8`, { file })
  const text = bytes.toString("utf8")
  const chosen = delimiter ?? mostFrequent(text.replace(/"[^"]*"/g, ""))
  const cells = parseCells(text, chosen)
  if (typeof cells === "string") throw invalidInput(`${file}: the header ${cells}`, { file })
  const names = cells.map((cell) => cell ?? "")
  const twice = names.find((name, i) => names.indexOf(name) < i)
  if (twice === undefined) return { names, delimiter: chosen }
  throw invalidInput(`${file}: the header has ${JSON.stringify(twice)} twice`, { file, column: twice })
}

function mostFrequent(header: string): string {
  const count = (delimiter: string) => header.split(delimiter).length
  return DELIMITERS.reduce((best, delimiter) => (count(delimiter) > count(best) ? delimiter : best))
}

interface CsvRecord {
  readonly text: Buffer
  /** Line on which the record starts. */
  readonly line: number
}

/** Joins the lines that a quoted line break has parted; blank lines between records are skipped but counted. */
async function* splitRecords(bytes: AsyncIterable<Uint8Array>, file: string): AsyncGenerator<CsvRecord[]> {
  let line = 0
  let open: { readonly parts: Buffer[]; readonly line: number; bytes: number } | undefined
  for await (const lines of splitLines(bytes, file)) {
    const records: CsvRecord[] = []
    for (const text of lines) {
      line++
      const closesOrOpens = hasOddQuotes(text)
      if (open === undefined) {
        if (closesOrOpens) open = { parts: [text], line, bytes: text.length }
        else if (text.length > 0 && !isLoneReturn(text)) records.push({ text: withoutReturn(text), line })
        continue
      }
      open.parts.push(LINE_FEED, text)
      open.bytes += text.length
      if (open.bytes > MAX_LINE_BYTES) throw unclosed(file, open.line)
      if (!closesOrOpens) continue
      records.push({ text: withoutReturn(Buffer.concat(open.parts)), line: open.line })
      open = undefined
    }
    if (records.length > 0) yield records
  }
  if (open !== undefined) throw unclosed(file, open.line)
}

const LINE_FEED = Buffer.from("\n")
const QUOTE_BYTE = 0x22
const RETURN_BYTE = 0x0d

const unclosed = (file: string, line: number): Error =>
  invalidInput(`${file}, line ${line}: a quote opens there that is never closed`, { file, row: line })

function hasOddQuotes(text: Buffer): boolean {
  let odd = false
  for (let at = text.indexOf(QUOTE_BYTE); at !== -1; at = text.indexOf(QUOTE_BYTE, at + 1)) odd = !odd
  return odd
}

const isLoneReturn = (text: Buffer): boolean => text.length === 1 && text[0] === RETURN_BYTE

const withoutReturn = (text: Buffer): Buffer => (text.at(-1) === RETURN_BYTE ? text.subarray(0, -1) : text)

/** The cells of a record; what is wrong with it, in words. */
function parseCells(record: string, delimiter: string): Cells | string {
  if (!record.includes(QUOTE)) return record.split(delimiter).map((cell) => (cell === "" ? null : cell))
  const cells: (string | null)[] = []
  let start = 0
  for (;;) {
    let end: number
    if (record[start] === QUOTE) {
      end = closingQuote(record, start + 1) + 1
      if (end < record.length && !record.startsWith(delimiter, end))
        return `has ${JSON.stringify(record[end])} after the closing quote of a cell, expected ${JSON.stringify(delimiter)}`
      cells.push(record.slice(start + 1, end - 1).replaceAll('""', QUOTE))
    } else {
      const next = record.indexOf(delimiter, start)
      end = next === -1 ? record.length : next
      const cell = record.slice(start, end)
      if (cell.includes(QUOTE)) return "has a quote within a cell that does not start with one"
      cells.push(cell === "" ? null : cell)
    }
    if (end >= record.length) return cells
    start = end + delimiter.length
  }
}

/** Where the quoted cell ends whose text begins at `start`. Records have an even number of quotes, so it does end. */
function closingQuote(record: string, start: number): number {
  let at = record.indexOf(QUOTE, start)
  while (record[at + 1] === QUOTE) at = record.indexOf(QUOTE, at + 2)
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
