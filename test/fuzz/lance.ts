/** Changes of the files of a Lance table: of their protobuf messages and of their footers. */
import { type Altered, alterBytes } from "./bytes.js"
import type { Chance } from "./chance.js"

export function alterLance(file: string, original: Uint8Array, chance: Chance): Altered {
  if (chance.oneIn(3)) return alterBytes(original, chance)
  if (!file.endsWith(".manifest") && chance.oneIn(2)) return alterFooter(original, chance)
  return alterMessage(original, chance)
}

/** Positions, lengths and counts stand at the end of a file. */
function alterFooter(original: Uint8Array, chance: Chance): Altered {
  const bytes = Buffer.from(original)
  const from = Math.max(0, bytes.length - chance.pick([40, 200]))
  const at = Math.min(bytes.length - 8, from + 4 * chance.below(Math.ceil((bytes.length - from) / 4)))
  const number = chance.pick([
    0n,
    1n,
    0xffffn,
    0x7fffffffn,
    0xffffffffn,
    2n ** 40n,
    2n ** 63n - 1n,
    2n ** 64n - 1n,
  ])
  if (chance.oneIn(2)) bytes.writeBigUInt64LE(number, Math.max(0, at))
  else bytes.writeUInt32LE(Number(number & 0xffffffffn), Math.max(0, at))
  return { bytes, what: `the number ${number} ${bytes.length - at} bytes before the end` }
}

/** A number within a message: somewhere a byte that can be the tag of a number's field, or of a length. */
function alterMessage(original: Uint8Array, chance: Chance): Altered {
  const bytes = Buffer.from(original)
  const tags: number[] = []
  for (let at = 0; at + 1 < bytes.length && tags.length < 4000; at++) {
    const [number, type] = [bytes[at]! >> 3, bytes[at]! & 7]
    if (number >= 1 && number <= 15 && (type === 0 || type === 2)) tags.push(at)
  }
  if (tags.length === 0) return alterBytes(original, chance)
  const at = chance.pick(tags)
  const name = `at ${at} of ${bytes.length}, tag ${bytes[at]}`
  if (chance.oneIn(3)) {
    bytes[at] = chance.pick([1, 2, 4, 7, 9, 17, 18, 20]) * 8 + chance.pick([0, 1, 2, 5])
    return { bytes, what: `tag ${bytes[at]} ${name}` }
  }
  if (chance.oneIn(2)) {
    bytes[at + 1] = chance.pick([0, 1, 0x7f, 0x80, 0xff])
    return { bytes, what: `number ${bytes[at + 1]} ${name}` }
  }
  // A longer number moves what follows, so that lengths around it do not fit either.
  const long = Buffer.from([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]).subarray(
    -chance.pick([2, 5, 9]),
  )
  return {
    bytes: Buffer.concat([bytes.subarray(0, at + 1), long, bytes.subarray(at + 2)]),
    what: `a long number ${name}`,
  }
}
