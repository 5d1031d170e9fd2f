/**
 * The kernels of a scan through cells again, in plain code that does one row after the other: the same
 * arithmetic, every operation rounded to float32, and none of the ways to do many at once.
 */
import { type Books, CENTRES } from "../../src/vectors/cells/books.js"
import { blockLength, blocksOf, codeBytes, factorPlace } from "../../src/vectors/cells/codes.js"
import { DIRECTION_MAX, type Directions } from "../../src/vectors/cells/directions.js"
import type { CellsFile } from "../../src/vectors/cells/file.js"
import { type CellSpace, inSpace } from "../../src/vectors/cells/space.js"
import { codeLength, codeOffset, codeStart, roundToIntegers } from "../../src/vectors/kernel/codes.js"

const f = Math.fround
const BINS = 4096

export interface PlainTables {
  /** For every sub-space 16 entries. */
  readonly entries: number[][]
  readonly scale: number
  readonly least: number
  readonly most: number
}

export function plainTables(query: Float32Array, { subspaces, width, centres }: Books): PlainTables {
  let range = f(1e-30)
  let least = 0
  let most = 0
  const products = Array.from({ length: subspaces }, (_, j) => {
    const products = Array.from({ length: CENTRES }, (_, centre) => {
      let sum = 0
      for (let e = j * width; e < (j + 1) * width; e++) {
        sum = f(sum - f((query[e] ?? 0) * centres[e * CENTRES + centre]!))
      }
      return sum
    })
    range = Math.max(range, f(Math.max(...products) - Math.min(...products)))
    least = f(least + Math.min(...products))
    most = f(most + Math.max(...products))
    return products
  })
  const reach = Math.max(f(-least), most, f(1e-30))
  const scale = Math.min(f(63 / range), f(15000 / reach))
  const entries = products.map((all) => {
    const from = Math.min(...all)
    return all.map((product) => Math.trunc(f(f(f(product - from) * scale) + 0.5)))
  })
  return { entries, scale, least, most }
}

/** `(a × b) / 2¹⁵`, rounded, as the kernel has it. */
const multiply = (a: number, b: number): number => saturated((a * b + 2 ** 14) >> 15)
const saturated = (x: number): number => Math.max(-(2 ** 15), Math.min(2 ** 15 - 1, x))

export interface PlainRow {
  readonly row: number
  readonly score: number
  readonly bin: number
}

/** The score of every row of some files, and its bin of the histogram. */
export function plainScores(
  space: CellSpace,
  books: Books,
  files: readonly CellsFile[],
  query: Float32Array,
): PlainRow[] {
  const own = plainQuery(space, query)
  const tables = plainTables(own.vector, books)
  const { scale, least, most } = tables
  const tableOffset = Math.round(scale * least)
  const rows: { row: number; score: number }[] = []
  let low = Infinity
  let high = -Infinity
  let firstRow = 0
  for (const { starts, coded, rows: count } of files) {
    if (coded === undefined) continue
    const { directions, lengths, factorScales, offsetScales, blocks, subspaces, hasOffsets } = coded
    let block = 0
    for (let cell = 0; cell + 1 < starts.length; cell++) {
      const { score, multiplier } = centreScore(space, directions, lengths, cell, own)
      const base = f(score * multiplier)
      const factors = factorScales[cell]!
      const offsets = hasOffsets ? offsetScales[cell]! : 0
      low = Math.min(low, f(f(base + f(factors * Math.min(least, 0))) - offsets))
      high = Math.max(high, f(f(base + f(factors * Math.max(most, 0))) + offsets))
      let unit = Math.max(f(factors / scale), f(1e-35))
      let shrink = 32767
      let stretch = 0
      if (hasOffsets) {
        const factor = f(offsets / unit)
        stretch = Math.trunc(Math.min(factor, 16384))
        if (factor > 16384) {
          shrink = Math.trunc(f(32767 * f(16384 / factor)))
          unit = f(offsets / 16384)
        }
      }
      const size = starts[cell + 1]! - starts[cell]!
      for (let i = 0; i < size; i++) {
        const at = (block + (i >> 4)) * blockLength(subspaces, hasOffsets)
        let entries = tableOffset
        for (let j = 0; j < subspaces; j++) {
          const byte = blocks[at + (j >> 1) * 16 + (i & 15)]!
          entries += tables.entries[j]![j & 1 ? byte >> 4 : byte & 15]!
        }
        const place = at + codeBytes(subspaces) + 2 * factorPlace(i & 15)
        const view = new DataView(blocks.buffer, blocks.byteOffset)
        let x = multiply(entries, view.getInt16(place, true))
        if (hasOffsets) {
          const offset = multiply(view.getInt16(place + 32, true), stretch)
          x = saturated(multiply(x, shrink) + offset)
        }
        rows.push({ row: firstRow + starts[cell]! + i, score: f(base + f(unit * x)) })
      }
      block += blocksOf(size)
    }
    firstRow += count
  }
  const perScore = f((BINS - 1) / Math.max(f(high - low), f(1e-30)))
  return rows.map(({ row, score }) => ({
    row,
    score,
    bin: Math.max(0, Math.min(BINS - 1, Math.trunc(f(f(score - low) * perScore)))),
  }))
}

interface PlainQuery {
  readonly vector: Float32Array
  readonly integers: Int16Array
  readonly step: number
}

function plainQuery(space: CellSpace, query: Float32Array): PlainQuery {
  const vector = inSpace(space, query)
  const integers = new Int16Array(codeLength(space.dim))
  const step = f(roundToIntegers(vector, DIRECTION_MAX + 1, integers))
  return { vector, integers, step }
}

/** The score of a centre, and what makes a base of it. */
function centreScore(
  { comparison, dim }: CellSpace,
  { codes, weights }: Directions,
  lengths: Float32Array,
  place: number,
  { integers, step }: PlainQuery,
): { readonly score: number; readonly multiplier: number } {
  const length = lengths[place]!
  let sum = 0
  for (let i = 0; i < dim; i++) sum += integers[i]! * codes[codeStart(place, dim) + codeOffset(i)]!
  const isDirections = comparison === "directions"
  const weight = isDirections ? weights[place]! : f(weights[place]! * length)
  const bias = comparison === "distances" ? f((length * length) / 2) : 0
  return { score: f(f(f(-f(f(sum) * weight)) * step) + bias), multiplier: isDirections ? length : 1 }
}

export interface PlainCell {
  /** Its score, and that of its group, by the number of the group among those of all files. */
  readonly score: number
  readonly group: number
  readonly groupScore: number
  readonly firstRow: number
  readonly rows: number
}

/** All cells of some files. */
export function plainCells(space: CellSpace, files: readonly CellsFile[], query: Float32Array): PlainCell[] {
  const own = plainQuery(space, query)
  let firstRow = 0
  let firstGroup = 0
  return files.flatMap(({ starts, coded, rows }) => {
    if (coded === undefined) throw new Error("a file without codes has no centres")
    const { directions, lengths, groups, groupLengths } = coded
    const cells = Array.from(lengths, (_, cell) => {
      const group = cell >> 3
      return {
        score: centreScore(space, directions, lengths, cell, own).score,
        group: firstGroup + group,
        groupScore: centreScore(space, groups, groupLengths, group, own).score,
        firstRow: firstRow + starts[cell]!,
        rows: starts[cell + 1]! - starts[cell]!,
      }
    })
    firstRow += rows
    firstGroup += groupLengths.length
    return cells
  })
}

/** The rows that should remain of those: all up to the bin of the `best`-th. */
export function plainBest(scores: readonly PlainRow[], best: number): PlainRow[] {
  const bins = scores.map(({ bin }) => bin).sort((a, b) => a - b)
  const limit = bins[best - 1] ?? BINS
  return scores.filter(({ bin }) => bin <= limit)
}
