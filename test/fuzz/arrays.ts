/** Changes of arrays and of the id locator, as their formats have it. */
import { blockChecksum, ENTRY_BYTES } from "../../src/manifest/locator.js"
import { type AnyNpyArray, decodeAnyNpy, encodeNpy } from "../../src/vectors/npy.js"
import { decodeNpz, encodeNpz } from "../../src/vectors/npz.js"
import { type Altered, alterBytes } from "./bytes.js"
import type { Chance } from "./chance.js"

const NUMBERS = [Number.NaN, Infinity, -Infinity, -0, 0, 1e38, -1e38, 1e-45, -1, 2 ** 31]

/** A routing artifact: one array, or several of them. */
export function alterArrays(file: string, original: Uint8Array, chance: Chance): Altered {
  if (chance.oneIn(3)) return alterBytes(original, chance)
  if (!file.endsWith(".npz")) return alterArray(original, chance)
  const arrays: Record<string, AnyNpyArray> = { ...decodeNpz(original, file) }
  const name = chance.pick(Object.keys(arrays))
  if (chance.oneIn(6)) {
    delete arrays[name]
    return { bytes: Buffer.from(encodeNpz(arrays)), what: `without ${name}` }
  }
  if (chance.oneIn(6)) {
    arrays[name] = arrays[chance.pick(Object.keys(arrays))]!
    return { bytes: Buffer.from(encodeNpz(arrays)), what: `${name} is another array` }
  }
  // An array that cannot be decoded any more has to be put in its place as bytes.
  const [placeholder, altered] = [encodeNpy(arrays[name]!), alterArray(encodeNpy(arrays[name]!), chance)]
  const whole = Buffer.from(encodeNpz(arrays))
  const at = whole.indexOf(Buffer.from(placeholder))
  const bytes = Buffer.concat([whole.subarray(0, at), altered.bytes, whole.subarray(at + placeholder.length)])
  // The sizes in the entry's header, which comes right before its name.
  const sizes = at - Buffer.byteLength(name) - 30 + 18
  if (chance.oneIn(8)) bytes.writeUInt32LE(chance.pick([0, 1, 0x7fffffff, 0xffffffff]), sizes)
  else bytes.writeUInt32LE(altered.bytes.length, sizes)
  return { bytes, what: `${name}: ${altered.what}` }
}

function alterArray(original: Uint8Array, chance: Chance): Altered {
  if (chance.oneIn(3)) return alterHeader(original, chance)
  const { shape, data } = decodeAnyNpy(original, "array")
  if (data instanceof BigInt64Array || data.length === 0) return alterBytes(original, chance)
  const value = chance.pick(NUMBERS)
  const places = chance.pick([1, 1, 3, data.length])
  for (let i = 0; i < places; i++) data[places === data.length ? i : chance.below(data.length)] = value
  if (chance.oneIn(5)) {
    const wide = Float64Array.from(data)
    return {
      bytes: Buffer.from(encodeNpy({ shape, data: wide })),
      what: `float64, ${places} values ${value}`,
    }
  }
  return { bytes: Buffer.from(encodeNpy({ shape, data })), what: `${places} values are ${value}` }
}

function alterHeader(original: Uint8Array, chance: Chance): Altered {
  const start = Buffer.from(original).indexOf("\n") + 1
  const header = Buffer.from(original.subarray(10, start)).toString("latin1")
  const changes: readonly [RegExp, readonly string[]][] = [
    [/'[<>][fi]\d'/, ["'<f8'", "'<f2'", "'>f4'", "'<i8'", "'|O'", "'<f4096'", "''"]],
    [/False/, ["True", "None"]],
    [
      /\([^)]*\)/,
      ["()", "(1,)", "(0, 8)", "(1000000, 1000000)", "(9007199254740991, 2)", `(${"1, ".repeat(63)}8)`],
    ],
    [/'shape'/, ["'shapes'", "'descr'"]],
  ]
  const [pattern, replacements] = chance.pick(changes)
  const replacement = chance.pick(replacements)
  const text = Buffer.from(header.replace(pattern, replacement), "latin1")
  const prefix = Buffer.from(original.subarray(0, 10))
  prefix.writeUInt16LE(text.length, 8)
  return {
    bytes: Buffer.concat([prefix, text, original.subarray(start)]),
    what: `its header says ${replacement}`,
  }
}

const HEADER_BYTES = 24

/** The id locator; mostly with the checksums of its blocks put right. `index`: bytes of its index. */
export function alterLocator(
  original: Uint8Array,
  index: number,
  chance: Chance,
): Altered & { readonly index: number } {
  if (chance.oneIn(4)) return { ...alterBytes(original, chance), index }
  const bytes = Buffer.from(original)
  const start = bytes.length - index
  const entries = start / ENTRY_BYTES
  const entry = chance.below(entries) * ENTRY_BYTES
  let what: string
  switch (chance.below(6)) {
    case 0: {
      const shard = chance.pick([0, 1, 2, 65_535, 0xffffffff])
      bytes.writeUInt32LE(shard, entry + 8)
      what = `an entry names shard ${shard}`
      break
    }
    case 1: {
      const hash = chance.pick([0n, 2n ** 64n - 1n, 2n ** 63n])
      bytes.writeBigUInt64LE(hash, entry)
      what = `an entry has the hash ${hash}`
      break
    }
    case 2:
      bytes.copy(bytes, entry, chance.below(entries) * ENTRY_BYTES, start)
      what = "entries are moved"
      break
    case 3: {
      const number = chance.pick([0, 1, 2, 65_536, 65_537, 0x7fffffff, 0xffffffff])
      bytes.writeUInt32LE(number, start + chance.pick([8, 12, 16, 20]))
      what = `a number of the index is ${number}`
      break
    }
    case 4:
      bytes.fill(0, 0, start)
      what = "all entries are zero"
      break
    default:
      bytes.writeBigUInt64LE(chance.pick([0n, 2n ** 64n - 1n]), start + HEADER_BYTES + chance.pick([0, 8]))
      what = "the bounds of a block are others"
  }
  // Small locators have one block.
  bytes.writeBigUInt64LE(blockChecksum(bytes.subarray(0, start)), start + HEADER_BYTES + 16)
  return { bytes, index: chance.oneIn(10) ? chance.pick([0, 1, 24, bytes.length]) : index, what }
}
