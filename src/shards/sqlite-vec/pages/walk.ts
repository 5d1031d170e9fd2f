/** The page table of a finished database, by a walk over its pages. */
import { closeSync, fstatSync, openSync, readSync } from "node:fs"
import {
  type Cell,
  chainPages,
  checkChain,
  checkHeader,
  checkPage,
  damaged,
  PAGE_BYTES,
  type PagedFile,
  type TreePage,
  treePage,
  wholePayload,
} from "./btree.js"
import { columnsOf, readRecord } from "./record.js"
import { type ChunkPages, encodePageTable, type PageTable } from "./table.js"

/**
 * The page table of the database at `path`, encoded. Throws `Corrupt` if the file is not such as a build
 * writes it: nothing freed, every chain of pages in one piece.
 */
export function pageTable(path: string): Uint8Array<ArrayBuffer> {
  const descriptor = openSync(path, "r")
  try {
    const { size } = fstatSync(descriptor)
    const file: PagedFile = { name: path, pages: Math.floor(size / PAGE_BYTES) }
    if (size % PAGE_BYTES !== 0 || size === 0)
      throw damaged(file, `it has ${size} bytes, expected whole pages`)
    return encodePageTable(new Walk(file, descriptor).table())
  } finally {
    closeSync(descriptor)
  }
}

class Walk {
  readonly #file: PagedFile
  readonly #descriptor: number
  /** Pages that were met: none may be met again, so that every walk ends. */
  readonly #seen = new Set<number>()

  constructor(file: PagedFile, descriptor: number) {
    this.#file = file
    this.#descriptor = descriptor
  }

  table(): PageTable {
    checkHeader(this.#file, this.#page(1))
    const roots = this.#roots()
    const rootOf = (name: string): number => {
      const root = roots.get(name)
      if (root === undefined) throw damaged(this.#file, `it has no table ${name}`)
      return root
    }
    const chunks: ChunkPages[] = []
    let chunkBytes = 0
    for (const leaf of this.#leaves(rootOf("vec_index_vector_chunks00"))) {
      for (const cell of cellsOf(leaf)) {
        const { pages, bytes } = this.#chunk(leaf, cell)
        if (chunks.length > 0 && bytes !== chunkBytes) {
          throw damaged(this.#file, `it has a chunk of ${bytes} bytes after one of ${chunkBytes}`)
        }
        chunks.push(pages)
        chunkBytes = bytes
      }
    }
    const firstRowids: number[] = []
    const pages: number[] = []
    for (const leaf of this.#leaves(rootOf("records"))) {
      for (const [i, cell] of cellsOf(leaf).entries()) {
        if (i === 0) {
          firstRowids.push(cell.rowid)
          pages.push(leaf.number)
        }
        this.#chain(cell)
      }
    }
    return {
      room: this.#room(rootOf("vec_index_chunks")),
      chunks,
      leaves: { firstRowids: Uint32Array.from(firstRowids), pages: Uint32Array.from(pages) },
    }
  }

  /** Roots of tables, by name. */
  #roots(): ReadonlyMap<string, number> {
    const roots = new Map<string, number>()
    for (const leaf of this.#leaves(1)) {
      for (const cell of cellsOf(leaf)) {
        const [type, name, , root] = this.#record(cell)
        if (type === "table") roots.set(String(name), Number(root))
      }
    }
    return roots
  }

  /** Rows that a chunk has room for, as the first one says. */
  #room(root: number): number {
    for (const leaf of this.#leaves(root)) {
      for (const cell of cellsOf(leaf)) return Number(this.#record(cell)[1])
    }
    throw damaged(this.#file, "it has no chunks of vectors")
  }

  #chunk(leaf: TreePage, cell: Cell): { readonly pages: ChunkPages; readonly bytes: number } {
    const vectors = columnsOf(this.#file, cell.local, cell.bytes)[1]
    if (vectors === undefined) throw damaged(this.#file, "it has a chunk without vectors")
    const head = {
      page: leaf.number,
      offset: cell.offset + vectors.start,
      bytes: Math.min(vectors.bytes, cell.local.length - vectors.start),
    }
    const runs: { first: number; pages: number }[] = []
    for (const page of this.#chain(cell).pages) {
      const run = runs.at(-1)
      if (run !== undefined && run.first + run.pages === page) run.pages++
      else runs.push({ first: page, pages: 1 })
    }
    return { pages: { head, runs }, bytes: vectors.bytes }
  }

  #record(cell: Cell): ReturnType<typeof readRecord> {
    return readRecord(this.#file, this.#chain(cell).payload())
  }

  #chain(cell: Cell) {
    const pages = chainPages(this.#file, cell)
    const bytes = pages.map((page) => this.#page(page))
    checkChain(this.#file, pages, bytes)
    return { pages, payload: () => wholePayload(cell, bytes) }
  }

  /** Leaves of a table in order of rowid. */
  *#leaves(root: number): Iterable<TreePage> {
    const waiting = [root]
    for (let number = waiting.pop(); number !== undefined; number = waiting.pop()) {
      const page = treePage(this.#file, number, this.#page(number))
      if (page.kind !== "table") throw damaged(this.#file, `page ${number} is not one of a table`)
      if (page.isLeaf) yield page
      else
        waiting.push(
          page.rightmost,
          ...cellsOf(page)
            .map(({ child }) => child)
            .reverse(),
        )
    }
  }

  #page(number: number): Uint8Array {
    checkPage(this.#file, number)
    if (number > 1 && this.#seen.size === this.#seen.add(number).size) {
      throw damaged(this.#file, `it leads to page ${number} twice`)
    }
    const bytes = new Uint8Array(PAGE_BYTES)
    readSync(this.#descriptor, bytes, 0, PAGE_BYTES, (number - 1) * PAGE_BYTES)
    return bytes
  }
}

const cellsOf = (page: TreePage): readonly Cell[] =>
  Array.from({ length: page.cells }, (_, index) => page.cell(index))
