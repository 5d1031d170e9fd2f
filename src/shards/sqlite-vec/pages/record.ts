/**
 * SQLite's record format: what a row of a table or an entry of an index looks like as bytes. Pure.
 *
 * The format: https://www.sqlite.org/fileformat2.html, section 2.1.
 */
import { damaged, type PagedFile, readVarint, viewOf } from "./btree.js"

/** A value as better-sqlite3 hands it back with safe integers. */
export type SqlValue = null | bigint | number | string | Uint8Array

/** Where a value lies in its record, and how it is written. */
interface Column {
  readonly type: number
  readonly start: number
  readonly bytes: number
}

/**
 * Columns of a record of which at least the header is in `bytes`. Throws `Corrupt` if that is not all there.
 * `size`: bytes of the whole record.
 */
export function columnsOf(file: PagedFile, bytes: Uint8Array, size: number): readonly Column[] {
  const bad = () => damaged(file, "it has a record whose header does not fit its bytes")
  const header = readVarint(bytes, 0)
  if (header === undefined) throw bad()
  const headerBytes = Number(header.value)
  if (!(headerBytes <= bytes.length)) throw bad()
  const columns: Column[] = []
  let start = headerBytes
  let at = header.end
  while (at < headerBytes) {
    const read = readVarint(bytes, at)
    if (read === undefined || read.end > headerBytes) throw bad()
    const type = Number(read.value)
    const length = valueBytes(type)
    if (length === undefined || start + length > size) throw bad()
    columns.push({ type, start, bytes: length })
    start += length
    at = read.end
  }
  if (start !== size || at !== headerBytes) throw bad()
  return columns
}

/** The values of a whole record. Throws `Corrupt` for what is none. */
export const readRecord = (file: PagedFile, bytes: Uint8Array): SqlValue[] =>
  columnsOf(file, bytes, bytes.length).map((column) => readValue(bytes, column))

/** Bytes of the integers and the float, by type; 8 and 9 are the numbers 0 and 1. */
const NUMBER_BYTES = [0, 1, 2, 3, 4, 6, 8, 8, 0, 0]
const FLOAT = 7
const FIRST_BLOB = 12

function valueBytes(type: number): number | undefined {
  if (type >= FIRST_BLOB) return Math.floor((type - FIRST_BLOB) / 2)
  return NUMBER_BYTES[type]
}

function readValue(record: Uint8Array, { type, start, bytes }: Column): SqlValue {
  if (type === 0) return null
  if (type === 8 || type === 9) return BigInt(type - 8)
  if (type === FLOAT) return viewOf(record).getFloat64(start)
  const value = record.subarray(start, start + bytes)
  if (type >= FIRST_BLOB) return type % 2 === 0 ? value : textOf(value)
  let number = 0n
  for (const byte of value) number = (number << 8n) | BigInt(byte)
  return BigInt.asIntN(8 * bytes, number)
}

const textOf = (bytes: Uint8Array): string =>
  Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("utf8")
