/** Changes of files of cells, as their format has it. */
import { type Altered, alterBytes } from "./bytes.js"
import type { Chance } from "./chance.js"

/** Numbers of the header, by their place; see src/vectors/cells/file.ts. */
const HEADER = {
  version: 8,
  flags: 12,
  rows: 16,
  cells: 20,
  dim: 24,
  subspaces: 28,
  width: 32,
  "bytes of pages": 36,
  "bytes of the database": 40,
} as const
const HEADER_BYTES = 128

export function alterCells(original: Uint8Array, chance: Chance): Altered {
  const bytes = Buffer.from(original)
  switch (chance.below(4)) {
    case 0: {
      const name = chance.pick(Object.keys(HEADER) as (keyof typeof HEADER)[])
      const before = bytes.readUInt32LE(HEADER[name])
      const value = chance.pick([0, 1, 2, before + 1, Math.max(0, before - 1), 2 ** 31, 2 ** 32 - 1])
      bytes.writeUInt32LE(value, HEADER[name])
      return { bytes, what: `${name} ${value} instead of ${before}` }
    }
    case 1: {
      // Two numbers change places: starts of cells, ranks, lengths or whatever is there.
      const places = [0, 1].map(
        () => HEADER_BYTES + 4 * chance.below(Math.floor((bytes.length - HEADER_BYTES) / 4)),
      )
      const [a, b] = places as [number, number]
      const [first, second] = [bytes.readUInt32LE(a), bytes.readUInt32LE(b)]
      bytes.writeUInt32LE(second, a)
      bytes.writeUInt32LE(first, b)
      return { bytes, what: `numbers at ${a} and ${b} change places` }
    }
    case 2: {
      // The codebook, or a part of what follows it.
      const at = 48 + chance.below(32)
      bytes[at]! ^= 1
      return { bytes, what: `another codebook at ${at}` }
    }
    default:
      return alterBytes(original, chance)
  }
}
