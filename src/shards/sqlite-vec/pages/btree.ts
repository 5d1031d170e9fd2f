/**
 * Pages of an SQLite file, as far as a shard has them: b-trees of tables and indexes, and chains of overflow
 * pages. Pure, apart from the function that reads a page.
 *
 * The format: https://www.sqlite.org/fileformat2.html, sections 1.3 (header), 1.6 (b-tree pages) and 1.7
 * (overflow pages).
 */
import { corrupt } from "../../../errors.js"

/** Bytes of a page of a shard. All of them are usable: shards reserve none. */
export const PAGE_BYTES = 4096
/** An overflow page begins with the number of the next. */
export const POINTER_BYTES = 4
/** What an overflow page holds of a payload. */
export const CHAIN_BYTES = PAGE_BYTES - POINTER_BYTES
/** The page of the byte by which SQLite locks files, which holds nothing. */
export const LOCK_PAGE = 2 ** 30 / PAGE_BYTES + 1

const HEADER_BYTES = 100
const INDEX_INTERIOR = 2
const TABLE_INTERIOR = 5
const INDEX_LEAF = 10
const TABLE_LEAF = 13

/** What of a payload at most lies on its leaf, and what at least if it does not fit. */
const TABLE_LOCAL_MAX = PAGE_BYTES - 35
const INDEX_LOCAL_MAX = Math.floor(((PAGE_BYTES - 12) * 64) / 255) - 23
const LOCAL_MIN = Math.floor(((PAGE_BYTES - 12) * 32) / 255) - 23

/** A file in pages. */
export interface PagedFile {
  /** For messages. */
  readonly name: string
  /** How many there are. They are numbered from 1. */
  readonly pages: number
}

/** A payload, and where it lies. */
export interface Cell {
  /** Of tables. */
  readonly rowid: number
  /** Child to the left, of interior pages. */
  readonly child: number
  /** Of the whole payload. */
  readonly bytes: number
  /** What of it lies on the page. */
  readonly local: Uint8Array
  /** Where that begins on the page. */
  readonly offset: number
  /** First page of the rest; 0 if there is none. */
  readonly overflow: number
}

export interface TreePage {
  readonly number: number
  readonly kind: "table" | "index"
  readonly isLeaf: boolean
  readonly cells: number
  /** Child to the right of all cells, of interior pages. */
  readonly rightmost: number
  cell(index: number): Cell
}

export function damaged(file: PagedFile, problem: string): Error {
  return corrupt(`${file.name} is damaged: ${problem}`, { file: file.name })
}

/** Throws `Corrupt` unless the file begins as that of a shard: pages, encoding, nothing freed. */
export function checkHeader(file: PagedFile, first: Uint8Array): void {
  const view = viewOf(first)
  const expected: readonly (readonly [what: string, got: number, want: number])[] = [
    ["bytes a page", view.getUint16(16), PAGE_BYTES],
    ["reserved bytes a page", view.getUint8(20), 0],
    ["pages", view.getUint32(28), file.pages],
    ["free pages", view.getUint32(36), 0],
    ["pages of an index of pages", view.getUint32(52), 0],
    ["for its encoding", view.getUint32(56), 1],
  ]
  for (const [what, got, want] of expected) {
    if (got !== want) throw damaged(file, `it has ${got} ${what}, expected ${want}`)
  }
}

/** The page of a b-tree. Throws `Corrupt` if it is none. */
export function treePage(file: PagedFile, number: number, bytes: Uint8Array): TreePage {
  const view = viewOf(bytes)
  const start = number === 1 ? HEADER_BYTES : 0
  const type = view.getUint8(start)
  if (![INDEX_INTERIOR, TABLE_INTERIOR, INDEX_LEAF, TABLE_LEAF].includes(type)) {
    throw damaged(file, `page ${number} is of type ${type}, expected one of a b-tree`)
  }
  const isLeaf = type === INDEX_LEAF || type === TABLE_LEAF
  const kind = type === TABLE_LEAF || type === TABLE_INTERIOR ? "table" : "index"
  const cells = view.getUint16(start + 3)
  const pointers = start + (isLeaf ? 8 : 12)
  if (pointers + 2 * cells > PAGE_BYTES) throw damaged(file, `page ${number} has ${cells} cells`)
  return {
    number,
    kind,
    isLeaf,
    cells,
    rightmost: isLeaf ? 0 : view.getUint32(start + 8),
    cell(index) {
      const at = view.getUint16(pointers + 2 * index)
      if (at < pointers + 2 * cells) throw damaged(file, `page ${number} has a cell at ${at}`)
      return readCell(file, { number, kind, isLeaf }, bytes, at)
    },
  }
}

function readCell(
  file: PagedFile,
  { number, kind, isLeaf }: Pick<TreePage, "number" | "kind" | "isLeaf">,
  bytes: Uint8Array,
  at: number,
): Cell {
  const cut = () => damaged(file, `page ${number} has a cell at ${at} that does not end on it`)
  const view = viewOf(bytes)
  let end = at
  const varint = (): number => {
    const read = readVarint(bytes, end)
    if (read === undefined) throw cut()
    end = read.end
    return Number(read.value)
  }
  const u32 = (): number => {
    if (end + 4 > PAGE_BYTES) throw cut()
    end += 4
    return view.getUint32(end - 4)
  }
  const child = isLeaf ? 0 : u32()
  if (kind === "table" && !isLeaf) {
    return { rowid: varint(), child, bytes: 0, local: bytes.subarray(0, 0), offset: end, overflow: 0 }
  }
  const payload = varint()
  const rowid = kind === "table" ? varint() : 0
  const local = localBytes(payload, kind)
  const offset = end
  if (!(payload >= 0) || offset + local > PAGE_BYTES) throw cut()
  end += local
  const overflow = local < payload ? u32() : 0
  return { rowid, child, bytes: payload, local: bytes.subarray(offset, offset + local), offset, overflow }
}

/** How much of a payload lies on its page. */
function localBytes(payload: number, kind: TreePage["kind"]): number {
  const most = kind === "table" ? TABLE_LOCAL_MAX : INDEX_LOCAL_MAX
  if (payload <= most) return payload
  const fitting = LOCAL_MIN + ((payload - LOCAL_MIN) % CHAIN_BYTES)
  return fitting <= most ? fitting : LOCAL_MIN
}

/**
 * The pages of a chain as a writer makes them that appends and never frees: one after the other, apart from
 * the page of the lock. Throws `Corrupt` if the file has not so many.
 */
export function chainPages(file: PagedFile, cell: Cell): readonly number[] {
  const pages: number[] = []
  let page = cell.overflow
  for (let left = cell.bytes - cell.local.length; left > 0; left -= CHAIN_BYTES, page++) {
    if (page === LOCK_PAGE) page++
    checkPage(file, page)
    pages.push(page)
  }
  return pages
}

/** Throws `Corrupt` unless the pages of a chain lead to one another, and the last one to none. */
export function checkChain(file: PagedFile, pages: readonly number[], bytes: readonly Uint8Array[]): void {
  for (const [i, page] of pages.entries()) {
    const next = viewOf(bytes[i]!).getUint32(0)
    if (next === (pages[i + 1] ?? 0)) continue
    throw damaged(file, `page ${page} leads to ${next}, expected ${pages[i + 1] ?? "the end of a chain"}`)
  }
}

/** A payload whole: what lies on its page, and of the pages of its chain. */
export function wholePayload(cell: Cell, chain: readonly Uint8Array[]): Uint8Array {
  if (chain.length === 0) return cell.local
  const whole = new Uint8Array(cell.bytes)
  whole.set(cell.local)
  let end = cell.local.length
  for (const page of chain) {
    const part = page.subarray(POINTER_BYTES, POINTER_BYTES + cell.bytes - end)
    whole.set(part, end)
    end += part.length
  }
  return whole
}

/** Throws `Corrupt` for a number that is no page of the file. */
export function checkPage(file: PagedFile, page: number): void {
  if (!(page >= 1 && page <= file.pages)) {
    throw damaged(file, `it leads to page ${page}, expected one from 1 to ${file.pages}`)
  }
}

/** A big-endian integer of one to nine bytes. Undefined if the bytes end before it does. */
export function readVarint(
  bytes: Uint8Array,
  at: number,
): { readonly value: bigint | number; readonly end: number } | undefined {
  // Nearly all are short enough for plain numbers.
  let value = 0
  for (let i = 0; i < 7; i++) {
    const byte = bytes[at + i]
    if (byte === undefined) return undefined
    value = value * 128 + (byte & 127)
    if (byte < 128) return { value, end: at + i + 1 }
  }
  const [eighth, ninth] = [bytes[at + 7], bytes[at + 8]]
  if (eighth === undefined) return undefined
  const long = (BigInt(value) << 7n) | BigInt(eighth & 127)
  if (eighth < 128) return { value: BigInt.asIntN(64, long), end: at + 8 }
  if (ninth === undefined) return undefined
  return { value: BigInt.asIntN(64, (long << 8n) | BigInt(ninth)), end: at + 9 }
}

export const viewOf = (bytes: Uint8Array): DataView =>
  new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
