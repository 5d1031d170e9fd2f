/**
 * Looks at the pages of an SQLite file's schema before SQLite does, which reads all of them when a file is
 * opened: pages that lead to one another would keep it, and its thread, busy for ever.
 *
 * The format: https://www.sqlite.org/fileformat2.html, sections 1.3 (header) and 1.6 (pages of a b-tree).
 */
import { closeSync, openSync, readSync } from "node:fs"
import { corrupt } from "../../errors.js"

/** Far more than the schema of a shard has, of objects as of pages; which ones is looked at later. */
const MOST = 100

const HEADER_BYTES = 100
const INTERIOR = 5
const LEAF = 13

/** Throws `Corrupt` if there are more pages than the schema of a shard takes, or other ones. */
export function checkSchemaPages(file: string, sizeBytes: number): void {
  const descriptor = openSync(file, "r")
  try {
    walk(file, sizeBytes, (page, start) => {
      readSync(descriptor, page, 0, page.length, start)
      return page
    })
  } finally {
    closeSync(descriptor)
  }
}

function walk(file: string, sizeBytes: number, read: (page: Buffer, start: number) => Buffer): void {
  const damaged = (problem: string) => corrupt(`${file} has a schema that no shard has: ${problem}`, { file })
  const header = read(Buffer.alloc(HEADER_BYTES), 0)
  // 1 stands for 65,536, which does not fit.
  const stated = header.readUInt16BE(16)
  const pageBytes = stated === 1 ? 65_536 : stated
  if (pageBytes < 512 || (pageBytes & (pageBytes - 1)) !== 0)
    throw damaged(`its pages have ${pageBytes} bytes`)
  const seen = new Set<number>()
  const waiting = [1]
  let objects = 0
  for (let number = waiting.pop(); number !== undefined; number = waiting.pop()) {
    if (number < 1 || number * pageBytes > sizeBytes || seen.has(number))
      throw damaged(`page ${number} is not there, or there twice`)
    seen.add(number)
    const page = read(Buffer.alloc(pageBytes), (number - 1) * pageBytes)
    const start = number === 1 ? HEADER_BYTES : 0
    const [type, cells] = [page[start], page.readUInt16BE(start + 3)]
    if (cells > MOST) throw damaged(`page ${number} has ${cells} cells`)
    if (type === LEAF) objects += cells
    else if (type === INTERIOR) {
      // One child a cell, by its number at the beginning, and one more in the page's header.
      waiting.push(page.readUInt32BE(start + 8))
      for (let cell = 0; cell < cells; cell++) {
        const place = page.readUInt16BE(start + 12 + 2 * cell)
        if (place + 4 > page.length) throw damaged(`page ${number} has a cell at ${place}`)
        waiting.push(page.readUInt32BE(place))
      }
    } else throw damaged(`page ${number} is of type ${type}`)
    if (objects > MOST || seen.size + waiting.length > MOST) throw damaged(`it has more than ${MOST} objects`)
  }
}
