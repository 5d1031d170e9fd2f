/** Changes of bytes, whatever they mean. */
import type { Chance } from "./chance.js"

/** What was made of a file, and what was done to it, for whoever looks at a case. */
export interface Altered {
  readonly bytes: Buffer
  readonly what: string
}

const NUMBERS = [
  0n,
  1n,
  0x7fn,
  0x80n,
  0xffffn,
  0x7fffffffn,
  0x80000000n,
  0xffffffffn,
  2n ** 62n,
  2n ** 64n - 1n,
]

export function alterBytes(original: Uint8Array, chance: Chance): Altered {
  const bytes = Buffer.from(original)
  const at = chance.below(bytes.length)
  switch (chance.below(8)) {
    case 0:
    case 1: {
      const bits = 1 + chance.below(4)
      for (let i = 0; i < bits; i++) bytes[chance.below(bytes.length)]! ^= 1 << chance.below(8)
      return { bytes, what: `${bits} bits flipped` }
    }
    case 2:
    case 3: {
      const count = 1 + chance.below(16)
      for (let i = 0; i < count; i++) bytes[Math.min(bytes.length - 1, at + i)] = chance.below(256)
      return { bytes, what: `${count} bytes at ${at} of ${bytes.length} are random` }
    }
    case 4: {
      const width = chance.pick([1, 2, 4, 8])
      const number = BigInt.asUintN(8 * width, chance.pick(NUMBERS))
      const written = Buffer.alloc(8)
      if (chance.oneIn(2)) written.writeBigUInt64LE(number)
      else written.writeBigUInt64BE(number << BigInt(64 - 8 * width))
      written.copy(bytes, Math.max(0, Math.min(at, bytes.length - width)), 0, width)
      return { bytes, what: `the number ${number} of ${width} bytes at ${at} of ${bytes.length}` }
    }
    case 5: {
      const kept = chance.below(bytes.length)
      return { bytes: bytes.subarray(0, kept), what: `cut to ${kept} of ${bytes.length} bytes` }
    }
    case 6: {
      const from = chance.below(bytes.length)
      const length = 1 + chance.below(Math.min(4096, bytes.length))
      bytes.copy(bytes, at, from, Math.min(bytes.length, from + length))
      return { bytes, what: `${length} bytes copied from ${from} to ${at}` }
    }
    default: {
      const more = Buffer.alloc(1 + chance.below(5000), chance.below(256))
      const all = [bytes.subarray(0, at), more, bytes.subarray(at)]
      return { bytes: Buffer.concat(all), what: `${more.length} bytes inserted at ${at}` }
    }
  }
}
