/**
 * Every random choice of the layout is an order or a number from one hash of an index: the same in every
 * language, on every machine, and for rows in whatever order they are worked on.
 */

/** Murmur3's finaliser (Austin Appleby) over index and salt: a bijection of 0 … 2^32 - 1 for every salt. */
export function hash32(index: number, salt: number): number {
  let x = (index + Math.imul(salt, 0x9e3779b9)) >>> 0
  x = Math.imul(x ^ (x >>> 16), 0x85ebca6b)
  x = Math.imul(x ^ (x >>> 13), 0xc2b2ae35)
  return (x ^ (x >>> 16)) >>> 0
}

/** The index that {@link hash32} made `hash` of: each step undone, the last one first. */
export function unhash32(hash: number, salt: number): number {
  let x = hash ^ (hash >>> 16)
  x = Math.imul(x, 0x7ed1b41d) // the inverse of 0xc2b2ae35 modulo 2^32
  x = x ^ (x >>> 13) ^ (x >>> 26)
  x = Math.imul(x, 0xa5cb9243) // the inverse of 0x85ebca6b
  x = x ^ (x >>> 16)
  return (x - Math.imul(salt, 0x9e3779b9)) >>> 0
}

/**
 * 0 … count - 1 by rising hash. There are no ties, so hashes are sorted alone and turned back into indexes.
 */
export function hashOrder(count: number, salt: number): Uint32Array {
  const order = new Uint32Array(count)
  for (let index = 0; index < count; index++) order[index] = hash32(index, salt)
  order.sort()
  for (let place = 0; place < count; place++) order[place] = unhash32(order[place]!, salt)
  return order
}

/** What each hash is for; those below `SPLIT_SALT` get 1000 × seed added. Labels use one salt per sweep. */
const SALTS = {
  graph: 0,
  cells: 2,
  shards: 3,
  descriptors: 4,
  sample: 5,
  demand: 6,
  certificate: 7,
  draw: 8,
  labels: 64,
} as const

/** Who is held out never changes with the seed. */
export const SPLIT_SALT = 1

export const saltOf = (what: keyof typeof SALTS, seed: number): number => 1000 * seed + SALTS[what]

/** Rows that a layout is made of, and rows that judge it. Both in rising order. */
export interface Split {
  readonly built: Uint32Array
  readonly validation: Uint32Array
}

/** As many rows are held out at most, and one in twenty at most: enough for ±.006 at one probe. */
export const HELD_OUT_ROWS = 2000

/**
 * Holds out `heldOut` rows, by default a twentieth and 2,000 at most: the first by hash, after those that the
 * caller `skipped` for tests of its own (which are in neither part).
 */
export function splitRows(
  rows: number,
  heldOut = Math.min(HELD_OUT_ROWS, Math.floor(rows / 20)),
  skipped = 0,
): Split {
  const order = hashOrder(rows, SPLIT_SALT)
  return {
    built: order
      .subarray(skipped + heldOut)
      .slice()
      .sort(),
    validation: order.slice(skipped, skipped + heldOut).sort(),
  }
}

/** A number from 0 to 2^32 - 1 for a whole number of up to 53 bits. */
export const hash53 = (value: number, salt: number): number =>
  hash32(hash32(value >>> 0, salt) ^ Math.floor(value / 2 ** 32), salt)
