/**
 * Bytes of text files: decompression by content, and lines. All stream, and close what they read from on any
 * end.
 */
import { pipeline, Readable } from "node:stream"
import { createGunzip } from "node:zlib"
import { corrupt, invalidInput, messageOf, unsupported } from "../errors.js"
import { MAGIC_BYTES } from "./format.js"
import { startsZstd, ZstdStream } from "./zstd.js"

/**
 * Plain bytes of what may be gzip or zstd, told by its first bytes. `name` is for messages. Throws
 * `Unsupported` for other compressions.
 */
export async function* decompressed(
  bytes: AsyncIterable<Uint8Array>,
  name: string,
): AsyncGenerator<Uint8Array> {
  const { head, whole } = await peek(bytes, MAGIC_BYTES)
  try {
    const problem = compressionProblem(name, head)
    if (problem !== undefined) throw unsupported(problem, { file: name })
    const compression = compressionOf(head)
    yield* compression === undefined ? whole : DECOMPRESS[compression](whole, name)
  } finally {
    await whole.return(undefined)
  }
}

/**
 * The first bytes, at least `length` of them if there are so many, and all bytes, which must be read or
 * returned.
 */
export async function peek(
  bytes: AsyncIterable<Uint8Array>,
  length: number,
): Promise<{ readonly head: Buffer; readonly whole: AsyncGenerator<Uint8Array> }> {
  const iterator = bytes[Symbol.asyncIterator]()
  let head = Buffer.alloc(0)
  while (head.length < length) {
    const next = await iterator.next()
    if (next.done) break
    head = Buffer.concat([head, next.value])
  }
  const whole = chain(head, iterator)
  // A generator that was never started would not close what it reads.
  const start = whole.return.bind(whole)
  whole.return = async (value) => {
    await iterator.return?.()
    return start(value)
  }
  return { head, whole }
}

/**
 * Compressions that are not read: their first bytes, the endings of their files, and what unpacks them to a
 * pipe.
 */
const OTHER_COMPRESSIONS = [
  ["BZh", "bz2", "bzip2", "bzcat"],
  ["\xfd7zXZ", "xz", "xz", "xzcat"],
  ["PK\x03\x04", "zip", "zip", "unzip -p"],
  ["\x04\x22\x4d\x18", "lz4", "lz4", "lz4cat"],
  ["7z\xbc\xaf", "7z", "7z", "7z x -so"],
  ["\x1f\x9d", "Z", "compress", "zcat"],
] as const

/**
 * What is wrong with a file that is compressed in a way that is not read; `undefined` if it is not. Without a
 * head, its name tells.
 */
export function compressionProblem(name: string, head: Uint8Array | undefined): string | undefined {
  const start = head === undefined ? undefined : Buffer.from(head).toString("latin1")
  const found = OTHER_COMPRESSIONS.find(([magic, ending]) =>
    start === undefined ? name.endsWith(`.${ending}`) : start.startsWith(magic),
  )
  if (found === undefined) return undefined
  const [, , kind, unpack] = found
  return `${name} is compressed with ${kind}, expected gzip, zstd or no compression; unpack it, for example: ${unpack} ${name} | vecsnap build - --format jsonl`
}

export type Compression = "gzip" | "zstd"

/** How a file that starts with `head` is compressed, if it is. */
function compressionOf(head: Uint8Array): Compression | undefined {
  if (head[0] === 0x1f && head[1] === 0x8b) return "gzip"
  return startsZstd(head) ? "zstd" : undefined
}

async function* chain(head: Uint8Array, rest: AsyncIterator<Uint8Array>): AsyncGenerator<Uint8Array> {
  if (head.length > 0) yield head
  for (;;) {
    const next = await rest.next()
    if (next.done) return
    yield next.value
  }
}

const DECOMPRESS = { gzip: gunzipped, zstd: unzstd }

async function* gunzipped(bytes: AsyncIterable<Uint8Array>, name: string): AsyncGenerator<Uint8Array> {
  const input = Readable.from(bytes, { objectMode: false })
  let inputError: unknown
  input.once("error", (error) => {
    inputError = error
  })
  // Errors of either end reach the loop below through the last stream; leaving the loop destroys both.
  const output = pipeline(input, createGunzip(), () => {})
  try {
    for await (const chunk of output) yield chunk as Uint8Array
  } catch (error) {
    throw inputError ?? damaged(name, "gzip", error)
  }
}

async function* unzstd(bytes: AsyncIterable<Uint8Array>, name: string): AsyncGenerator<Uint8Array> {
  const stream = new ZstdStream()
  const pushed = function* (chunk: Uint8Array) {
    try {
      yield* stream.push(chunk)
    } catch (error) {
      throw damaged(name, "zstd", error)
    }
  }
  for await (const chunk of bytes) yield* pushed(chunk)
  try {
    stream.end()
  } catch (error) {
    throw damaged(name, "zstd", error)
  }
}

function damaged(name: string, compression: string, cause: unknown): Error {
  const reason = messageOf(cause)
  return corrupt(
    `${name} is damaged or cut off: its ${compression} data cannot be read (${reason})`,
    { name },
    cause,
  )
}

const NEWLINE = 10
const BYTE_ORDER_MARK = Buffer.from([0xef, 0xbb, 0xbf])

/**
 * Bytes of one line at most. A file without line breaks is not one of lines, and must not fill the memory.
 */
export const MAX_LINE_BYTES = 64 * 2 ** 20

/**
 * The lines of a text, several at a time, without the line feeds (a carriage return before one stays) and
 * without a byte order mark. The last line need not end; after a final line feed there is no further, empty
 * line. Throws `InvalidInput` for a line that is longer than `maxLineBytes`.
 */
export async function* splitLines(
  bytes: AsyncIterable<Uint8Array>,
  name: string,
  maxLineBytes = MAX_LINE_BYTES,
): AsyncGenerator<Buffer[]> {
  let pending: Buffer[] = []
  let pendingBytes = 0
  let linesBefore = 0

  const complete = (end: Buffer): Buffer => {
    const line = pending.length === 0 ? end : Buffer.concat([...pending, end])
    pending = []
    pendingBytes = 0
    const isFirst = linesBefore++ === 0
    const start = isFirst && line.subarray(0, 3).equals(BYTE_ORDER_MARK) ? 3 : 0
    return line.subarray(start)
  }

  for await (const { buffer, byteOffset, byteLength } of bytes) {
    const chunk = Buffer.from(buffer, byteOffset, byteLength)
    const lines: Buffer[] = []
    let start = 0
    for (;;) {
      const end = chunk.indexOf(NEWLINE, start)
      const part = chunk.subarray(start, end === -1 ? undefined : end)
      if (pendingBytes + part.length > maxLineBytes) {
        throw invalidInput(
          `${name}, line ${linesBefore + 1} has more than ${maxLineBytes} bytes; is this a file of lines?`,
          { file: name, row: linesBefore + 1 },
        )
      }
      if (end === -1) {
        if (part.length > 0) pending.push(part)
        pendingBytes += part.length
        break
      }
      lines.push(complete(part))
      start = end + 1
    }
    if (lines.length > 0) yield lines
  }
  // Even a byte order mark alone is no line.
  const last = complete(Buffer.alloc(0))
  if (last.length > 0) yield [last]
}
