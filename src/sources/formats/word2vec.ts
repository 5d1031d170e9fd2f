/**
 * Word vectors as text: word2vec and fastText (`.vec`), whose first line counts words and dimensions, and
 * GloVe (`.txt`), which has none. A line is a word and its numbers, parted by spaces; the word is the id.
 */
import { isUtf8 } from "node:buffer"
import { corrupt } from "../../errors.js"
import { decompressed, splitLines } from "../bytes.js"
import type { FileReader, RawColumns } from "../columns.js"
import type { ByteFile, BytesFormat } from "../format.js"
import { gatherRows, type ParsedLine } from "../text-rows.js"

export const word2vec: BytesFormat<"word2vec"> = {
  name: "word2vec",
  extensions: ["vec"],
  sharedExtensions: ["txt"],
  magic: [],
  reads: "bytes",
  open: (file) => word2vecReader(file),
}

function word2vecReader(file: ByteFile): FileReader {
  return {
    file: file.name,
    unit: "line",
    // A word stays a text, also where it is made of digits.
    text: false,
    read: ({ onBadRow }) => gatherRows(parseLines(file), columnsOf, onBadRow),
  }
}

interface Word {
  readonly word: string
  readonly vector: Float64Array
}

async function* parseLines({ name, openBytes }: ByteFile): AsyncGenerator<ParsedLine<Word>[]> {
  let line = 0
  let words = 0
  let expectedWords: number | undefined
  let dim: number | undefined
  for await (const lines of splitLines(decompressed(openBytes(), name), name)) {
    const parsed: ParsedLine<Word>[] = []
    for (const bytes of lines) {
      line++
      const text = bytes.toString("utf8").replace(/[ \r]+$/, "")
      const header = line === 1 ? /^(\d+) (\d+)$/.exec(text) : null
      if (header !== null) {
        expectedWords = Number(header[1])
        dim = Number(header[2])
      } else if (text !== "") {
        words++
        dim ??= text.split(" ").length - 1
        parsed.push(isUtf8(bytes) ? parseLine(text, line, dim) : { line, problem: "is not UTF-8" })
      }
    }
    yield parsed
  }
  if (expectedWords !== undefined && words !== expectedWords)
    throw corrupt(`${name} has ${words} words, expected ${expectedWords} by its first line; is it cut off?`, {
      file: name,
    })
}

const NUMBER = /^[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?$/i

/** Words may hold spaces themselves, so the numbers are counted from the end. */
function parseLine(text: string, line: number, dim: number): ParsedLine<Word> {
  const parts = text.split(" ")
  if (dim < 1 || parts.length <= dim)
    return {
      line,
      problem: `has ${parts.length} parts, expected a word and ${Math.max(1, dim)} numbers, as in word2vec and GloVe`,
    }
  const numbers = parts.slice(-dim)
  const wrong = numbers.findIndex((part) => !NUMBER.test(part))
  if (wrong !== -1)
    return {
      line,
      problem: `has ${JSON.stringify(numbers[wrong]!.slice(0, 60))} at position ${wrong}, expected a number`,
    }
  return { line, row: { word: parts.slice(0, -dim).join(" "), vector: Float64Array.from(numbers, Number) } }
}

const NAMES = ["id", "vector"]

function columnsOf(words: readonly Word[], lines: readonly number[]): RawColumns {
  return {
    rows: words.length,
    rowNumber: (row) => lines[row]!,
    names: NAMES,
    vectorNames: ["vector"],
    namesOf: () => NAMES,
    column(name) {
      if (name === "id") return (row) => words[row]!.word
      return name === "vector" ? (row) => words[row]!.vector : () => undefined
    },
  }
}
