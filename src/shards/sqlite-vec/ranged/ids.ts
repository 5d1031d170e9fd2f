/** Finds records by id in a database that is read in ranges: by SQLite's own index of ids. */
import {
  type Cell,
  chainPages,
  checkChain,
  checkHeader,
  checkPage,
  damaged,
  type PagedFile,
  type TreePage,
  treePage,
  wholePayload,
} from "../pages/btree.js"
import { readRecord, type SqlValue } from "../pages/record.js"
import type { ReadRanges } from "../pages/rows.js"
import { pageRange } from "../pages/table.js"

/** The index that SQLite makes for the column `id` of `records`. */
const INDEX = "sqlite_autoindex_records_1"
/** A tree of this height has more entries than a shard has rows. */
const LEVELS_MAX = 20
/** Pages of the schema: far more than a shard has. */
const SCHEMA_PAGES_MAX = 100

export class IdIndex {
  readonly #file: PagedFile
  #root: Promise<number> | undefined

  constructor(file: PagedFile) {
    this.#file = file
  }

  /** Positions of ids, undefined for those that are not there. One read a level, of all ids together. */
  async find(ids: readonly (string | bigint)[], read: ReadRanges): Promise<readonly (number | undefined)[]> {
    this.#root ??= this.#findRoot(read)
    const root = await this.#root.catch((error: unknown) => {
      this.#root = undefined
      throw error
    })
    const positions = new Array<number | undefined>(ids.length)
    let asked = Array.from(ids.keys(), (place) => ({ place, page: root }))
    for (let level = 0; asked.length > 0; level++) {
      if (level === LEVELS_MAX)
        throw damaged(this.#file, `its index of ids has more than ${LEVELS_MAX} levels`)
      const pages = await this.#pages([...new Set(asked.map(({ page }) => page))], read)
      const steps = asked.map(async ({ place, page }) => {
        const step = await this.#step(pages.get(page)!, ids[place]!, read)
        if ("position" in step) positions[place] = step.position
        return { place, ...step }
      })
      asked = (await Promise.all(steps)).flatMap((step) =>
        "child" in step && step.child > 0 ? [{ place: step.place, page: step.child }] : [],
      )
    }
    return positions
  }

  /** On a page of the index: the position of an id, or the page below that may have it, or 0. */
  async #step(
    page: TreePage,
    id: string | bigint,
    read: ReadRanges,
  ): Promise<{ readonly position: number } | { readonly child: number }> {
    if (page.kind !== "index") throw damaged(this.#file, `page ${page.number} is not one of an index`)
    let low = 0
    let high = page.cells
    while (low < high) {
      const middle = (low + high) >> 1
      const [key, rowid] = await this.#record(page.cell(middle), read)
      const order = compareStored(key!, id)
      if (order === 0) return { position: Number(rowid) - 1 }
      if (order < 0) low = middle + 1
      else high = middle
    }
    return { child: low < page.cells ? page.cell(low).child : page.rightmost }
  }

  async #findRoot(read: ReadRanges): Promise<number> {
    let waiting = [1]
    const seen = new Set<number>()
    while (waiting.length > 0) {
      for (const number of waiting) seen.add(number)
      const pages = [...(await this.#pages(waiting, read)).values()]
      waiting = []
      for (const page of pages) {
        for (let i = 0; i < page.cells; i++) {
          const cell = page.cell(i)
          if (!page.isLeaf) waiting.push(cell.child)
          else {
            const [type, name, , root] = await this.#record(cell, read)
            if (type === "index" && name === INDEX) return Number(root)
          }
        }
        if (!page.isLeaf) waiting.push(page.rightmost)
      }
      if (seen.size + waiting.length > SCHEMA_PAGES_MAX || waiting.some((page) => seen.has(page)))
        throw damaged(this.#file, "it has a schema that no shard has")
    }
    throw damaged(this.#file, `it has no index ${INDEX}`)
  }

  async #pages(numbers: readonly number[], read: ReadRanges): Promise<ReadonlyMap<number, TreePage>> {
    for (const number of numbers) checkPage(this.#file, number)
    const bytes = await read(numbers.map(pageRange))
    if (numbers[0] === 1) checkHeader(this.#file, bytes[0]!)
    return new Map(numbers.map((number, i) => [number, treePage(this.#file, number, bytes[i]!)]))
  }

  async #record(cell: Cell, read: ReadRanges): Promise<readonly SqlValue[]> {
    const pages = chainPages(this.#file, cell)
    const chain = pages.length === 0 ? [] : await read(pages.map(pageRange))
    checkChain(this.#file, pages, chain)
    return readRecord(this.#file, wholePayload(cell, chain))
  }
}

/** The order of an index of texts (bytes of UTF-8) or of integers. */
function compareStored(key: SqlValue, id: string | bigint): number {
  if (typeof id === "string") {
    return typeof key === "string" ? Buffer.compare(Buffer.from(key), Buffer.from(id)) : -1
  }
  if (typeof key !== "bigint") return 1
  return key < id ? -1 : key > id ? 1 : 0
}
