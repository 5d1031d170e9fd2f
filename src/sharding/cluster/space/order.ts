/** Stable sorting of numbers by typed arrays, without an object or a comparison call per number. */

const RADIX_BITS = 11
const BUCKETS = 1 << RADIX_BITS

/**
 * 0 … keys.length - 1 by falling key, equal ones in rising order: a radix sort over the bits of the float32s,
 * in time and memory (12 bytes per key) proportional to their number. Keys must not be NaN.
 */
export function orderByFalling(keys: Float32Array): Uint32Array {
  const count = keys.length
  const bits = new Uint32Array(keys.slice().buffer)
  for (let i = 0; i < count; i++) {
    // Floats sort like unsigned integers once negative ones are inverted and the sign bit of the others is
    // set; this is that, inverted again for falling order. -0 sorts as 0, its equal.
    const word = bits[i]! === 0x80000000 ? 0 : bits[i]!
    bits[i] = word & 0x80000000 ? word : ~word & 0x7fffffff
  }
  let order = new Uint32Array(count)
  for (let i = 0; i < count; i++) order[i] = i
  let other = new Uint32Array(count)
  const starts = new Uint32Array(BUCKETS + 1)
  for (let shift = 0; shift < 32; shift += RADIX_BITS) {
    starts.fill(0)
    for (let i = 0; i < count; i++) starts[((bits[i]! >>> shift) & (BUCKETS - 1)) + 1]!++
    for (let bucket = 0; bucket < BUCKETS; bucket++) starts[bucket + 1]! += starts[bucket]!
    for (let i = 0; i < count; i++) {
      const index = order[i]!
      other[starts[(bits[index]! >>> shift) & (BUCKETS - 1)]!++] = index
    }
    ;[order, other] = [other, order]
  }
  return order
}

/**
 * Where each group's members lie in `members`: those of group g are `members[start[g] … start[g + 1])`,
 * rising.
 */
export interface Groups {
  readonly start: Int32Array
  readonly members: Int32Array
}

/** Members of each group, from the group of each member. */
export function groupMembers(groupOf: ArrayLike<number>, groups: number): Groups {
  const start = new Int32Array(groups + 1)
  const count = groupOf.length
  for (let i = 0; i < count; i++) start[groupOf[i]! + 1]!++
  for (let group = 0; group < groups; group++) start[group + 1]! += start[group]!
  const next = start.slice(0, groups)
  const members = new Int32Array(count)
  for (let i = 0; i < count; i++) members[next[groupOf[i]!]!++] = i
  return { start, members }
}
