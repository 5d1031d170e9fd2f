/**
 * The page table of a shard's database: where in the file its vectors lie, and the leaves of its records, so
 * that rows can be read by offset, from a file or in ranges of a stored object. Pure.
 *
 * All numbers are little-endian.
 *
 * ```
 * header (16)   rows that a chunk has room for, chunks, runs of all chunks, leaves: u32 each
 * chunks        12 bytes each: page u32, offset u16, bytes u16 of the head of its vectors; runs u32
 * runs          8 bytes each, those of the first chunk first: first page u32, pages u32
 * leaves        8 bytes each: first rowid u32, page u32
 * ```
 *
 * The vectors of a chunk are one blob: its head lies on a leaf of `vec_index_vector_chunks00`, the rest on
 * overflow pages, of which each begins with four bytes of SQLite's.
 */
import { corrupt } from "../../../errors.js"
import type { ByteRange } from "../../stretches.js"
import { CHAIN_BYTES, LOCK_PAGE, PAGE_BYTES, POINTER_BYTES, viewOf } from "./btree.js"

const HEADER_BYTES = 16
const CHUNK_BYTES = 12
const RUN_BYTES = 8
const LEAF_BYTES = 8

export interface PageTable {
  /** Rows that a chunk has room for. */
  readonly room: number
  readonly chunks: readonly ChunkPages[]
  /** Of the records, by rising rowid. */
  readonly leaves: { readonly firstRowids: Uint32Array; readonly pages: Uint32Array }
}

/** Where the vectors of a chunk lie. */
export interface ChunkPages {
  readonly head: { readonly page: number; readonly offset: number; readonly bytes: number }
  /** Pages that follow one another, in order. */
  readonly runs: readonly { readonly first: number; readonly pages: number }[]
}

/** What a page table must fit. */
export interface DatabaseFacts {
  /** Of the file. */
  readonly bytes: number
  readonly rows: number
  /** Of a stored vector. */
  readonly rowBytes: number
}

export function encodePageTable({ room, chunks, leaves }: PageTable): Uint8Array<ArrayBuffer> {
  const runs = chunks.flatMap((chunk) => chunk.runs)
  const count = leaves.pages.length
  const numbers = new Uint8Array(
    HEADER_BYTES + CHUNK_BYTES * chunks.length + RUN_BYTES * runs.length + LEAF_BYTES * count,
  )
  const view = viewOf(numbers)
  let at = 0
  const u32 = (value: number): void => {
    view.setUint32(at, value, true)
    at += 4
  }
  for (const value of [room, chunks.length, runs.length, count]) u32(value)
  for (const { head, runs: own } of chunks) {
    u32(head.page)
    u32(head.offset + head.bytes * 2 ** 16)
    u32(own.length)
  }
  for (const { first, pages } of runs) {
    u32(first)
    u32(pages)
  }
  for (let i = 0; i < count; i++) {
    u32(leaves.firstRowids[i]!)
    u32(leaves.pages[i]!)
  }
  return numbers
}

/**
 * The page table of a database with these facts. Throws `Corrupt`, naming `name`, unless every vector and
 * every record has its place within the file.
 */
export function decodePageTable(bytes: Uint8Array, facts: DatabaseFacts, name: string): PageTable {
  const bad = (what: string) => corrupt(`${name} has a page table ${what}`, { file: name })
  if (bytes.length < HEADER_BYTES) throw bad(`of ${bytes.length} bytes, expected at least ${HEADER_BYTES}`)
  const view = viewOf(bytes)
  let at = 0
  const u32 = (): number => {
    at += 4
    return view.getUint32(at - 4, true)
  }
  const [room, chunkCount, runCount, leafCount] = [u32(), u32(), u32(), u32()]
  const expected = HEADER_BYTES + CHUNK_BYTES * chunkCount + RUN_BYTES * runCount + LEAF_BYTES * leafCount
  if (bytes.length !== expected) throw bad(`of ${bytes.length} bytes, expected ${expected}`)
  if (room === 0 || chunkCount !== Math.ceil(facts.rows / room)) {
    throw bad(`of ${chunkCount} chunks of ${room} rows, expected room for ${facts.rows}`)
  }
  const pages = facts.bytes / PAGE_BYTES
  if (!Number.isInteger(pages)) throw bad(`of a database of ${facts.bytes} bytes, expected whole pages`)
  // Page 1 is the root of the schema.
  const isPage = (page: number): boolean => page > 1 && page <= pages && page !== LOCK_PAGE
  const heads = Array.from({ length: chunkCount }, () => {
    const page = u32()
    const place = u32()
    const head = { page, offset: place % 2 ** 16, bytes: Math.floor(place / 2 ** 16) }
    if (!isPage(page) || head.bytes === 0 || head.offset + head.bytes > PAGE_BYTES) {
      throw bad(`with ${head.bytes} bytes of vectors at ${head.offset} of page ${page}`)
    }
    return { head, runs: u32() }
  })
  const chunkBytes = room * facts.rowBytes
  let runsLeft = runCount
  const chunks = heads.map(({ head, runs: count }): ChunkPages => {
    runsLeft -= count
    if (runsLeft < 0) throw bad(`of ${runCount} runs, expected more`)
    const runs: { readonly first: number; readonly pages: number }[] = []
    let covered = 0
    for (let i = 0; i < count; i++) {
      const run = { first: u32(), pages: u32() }
      const last = run.first + run.pages - 1
      if (
        run.pages === 0 ||
        !isPage(run.first) ||
        !isPage(last) ||
        (run.first < LOCK_PAGE && last > LOCK_PAGE)
      ) {
        throw bad(`with pages ${run.first} to ${last}, which are not those of a chunk`)
      }
      covered += run.pages
      runs.push(run)
    }
    const wanted = Math.ceil((chunkBytes - head.bytes) / CHAIN_BYTES)
    if (head.bytes > chunkBytes || covered !== wanted) {
      throw bad(`with ${covered} pages of a chunk, expected ${wanted}`)
    }
    return { head, runs }
  })
  if (runsLeft > 0) throw bad(`with ${runsLeft} runs of no chunk`)
  const firstRowids = new Uint32Array(leafCount)
  const leafPages = new Uint32Array(leafCount)
  for (let i = 0; i < leafCount; i++) {
    firstRowids[i] = u32()
    leafPages[i] = u32()
    const follows = i === 0 ? firstRowids[i] === 1 : firstRowids[i]! > firstRowids[i - 1]!
    if (!follows || firstRowids[i]! > facts.rows || !isPage(leafPages[i]!)) {
      throw bad(`with a leaf from row ${firstRowids[i]} on page ${leafPages[i]}`)
    }
  }
  if (leafCount === 0) throw bad("without leaves of records")
  return { room, chunks, leaves: { firstRowids, pages: leafPages } }
}

/** The page of the leaf that has the record of a rowid. */
export function leafOf({ leaves }: PageTable, rowid: number): number {
  const { firstRowids, pages } = leaves
  let low = 0
  let high = firstRowids.length
  while (high - low > 1) {
    const middle = (low + high) >> 1
    if (firstRowids[middle]! <= rowid) low = middle
    else high = middle
  }
  return pages[low]!
}

/** The bytes of a page. */
export const pageRange = (page: number): ByteRange => ({
  start: (page - 1) * PAGE_BYTES,
  end: page * PAGE_BYTES,
})

/**
 * Where the vector at a position lies: calls back for each of its parts, with an offset in the file, the
 * bytes there, and where in the vector they go.
 */
export function eachPart(
  table: PageTable,
  rowBytes: number,
  position: number,
  use: (offset: number, bytes: number, at: number) => void,
): void {
  const { head, runs } = table.chunks[Math.floor(position / table.room)]!
  const start = (position % table.room) * rowBytes
  let at = 0
  while (at < rowBytes) {
    const byte = start + at
    let offset: number
    let bytes: number
    if (byte < head.bytes) {
      offset = (head.page - 1) * PAGE_BYTES + head.offset + byte
      bytes = head.bytes - byte
    } else {
      const rest = byte - head.bytes
      const within = rest % CHAIN_BYTES
      offset = (nthPage(runs, Math.floor(rest / CHAIN_BYTES)) - 1) * PAGE_BYTES + POINTER_BYTES + within
      bytes = CHAIN_BYTES - within
    }
    bytes = Math.min(bytes, rowBytes - at)
    use(offset, bytes, at)
    at += bytes
  }
}

function nthPage(runs: ChunkPages["runs"], n: number): number {
  let left = n
  for (const { first, pages } of runs) {
    if (left < pages) return first + left
    left -= pages
  }
  throw new Error(`a chunk has no page ${n}: its table was checked`)
}
