/** JSON Lines: one object per line; blank lines are skipped but counted. */
import { isUtf8 } from "node:buffer"
import { messageOf } from "../../errors.js"
import { parseJson } from "../../json.js"
import type { Json } from "../../records.js"
import { shortened } from "../../wording.js"
import { decompressed, splitLines } from "../bytes.js"
import type { FileReader, RawColumns } from "../columns.js"
import type { BytesFormat } from "../format.js"
import { gatherRows, type ParsedLine } from "../text-rows.js"

export const jsonl: BytesFormat<"jsonl"> = {
  name: "jsonl",
  extensions: ["jsonl", "ndjson", "json"],
  magic: ["{"],
  reads: "bytes",
  open: ({ name, openBytes }) => jsonlReader(name, openBytes),
}

/** `openBytes` starts to read the file, which may be compressed; `file` is for messages. */
function jsonlReader(file: string, openBytes: () => AsyncIterable<Uint8Array>): FileReader {
  return {
    file,
    unit: "line",
    text: false,
    read: ({ onBadRow }) => gatherRows(parseLines(file, openBytes), columnsOf, onBadRow),
  }
}

async function* parseLines(
  file: string,
  openBytes: () => AsyncIterable<Uint8Array>,
): AsyncGenerator<ParsedLine<JsonObject>[]> {
  let linesBefore = 0
  for await (const lines of splitLines(decompressed(openBytes(), file), file)) {
    const first = linesBefore + 1
    yield lines.flatMap((text, i) => parseLine(text, first + i))
    linesBefore += lines.length
  }
}

type JsonObject = { readonly [name: string]: Json }

/** Nothing for a blank line. */
function parseLine(bytes: Buffer, line: number): ParsedLine<JsonObject>[] {
  if (!isUtf8(bytes)) return [{ line, problem: "is not UTF-8" }]
  const text = bytes.toString("utf8")
  if (text.trim() === "") return []
  let value: Json
  try {
    value = parseJson(text)
  } catch (error) {
    return [{ line, problem: `is not JSON: ${shortened(messageOf(error), 200)}` }]
  }
  if (typeof value === "object" && value !== null && !Array.isArray(value))
    return [{ line, row: value as JsonObject }]
  const found = Array.isArray(value) ? "a list" : text.trim().slice(0, 60)
  return [{ line, problem: `is ${found}, expected an object` }]
}

function columnsOf(objects: readonly JsonObject[], numbers: readonly number[]): RawColumns {
  return {
    rows: objects.length,
    rowNumber: (row) => numbers[row]!,
    namesOf: (row) => Object.keys(objects[row]!),
    // A name like "constructor" must not find what every object inherits.
    column: (name) => (row) => (Object.hasOwn(objects[row]!, name) ? objects[row]![name] : undefined),
  }
}
