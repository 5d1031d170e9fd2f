/** Eight rows of bytes at a time, for kernel.ts and cells.ts. */

/**
 * Writes the scores of eight rows of bytes to `out`: `-(row · query) * weight`. The rows lie mixed: bytes 0
 * to 7 of each of them, one row after the other, then bytes 8 to 15 of each, and so on; so the loop reads
 * forward from one place. `queryEnd`: where the query's 16-bit integers end.
 */
@inline
export function scoreEight(rows: usize, weights: usize, query: usize, queryEnd: usize, out: usize): void {
  let p = rows
  let a0 = i32x4.splat(0)
  let a1 = a0
  let a2 = a0
  let a3 = a0
  let b0 = a0
  let b1 = a0
  let b2 = a0
  let b3 = a0
  for (let q = query; q < queryEnd; q += 16) {
    const y = v128.load(q)
    a0 = i32x4.add(a0, i32x4.dot_i16x8_s(v128.load_ext<i8>(p), y))
    a1 = i32x4.add(a1, i32x4.dot_i16x8_s(v128.load_ext<i8>(p, 8), y))
    a2 = i32x4.add(a2, i32x4.dot_i16x8_s(v128.load_ext<i8>(p, 16), y))
    a3 = i32x4.add(a3, i32x4.dot_i16x8_s(v128.load_ext<i8>(p, 24), y))
    b0 = i32x4.add(b0, i32x4.dot_i16x8_s(v128.load_ext<i8>(p, 32), y))
    b1 = i32x4.add(b1, i32x4.dot_i16x8_s(v128.load_ext<i8>(p, 40), y))
    b2 = i32x4.add(b2, i32x4.dot_i16x8_s(v128.load_ext<i8>(p, 48), y))
    b3 = i32x4.add(b3, i32x4.dot_i16x8_s(v128.load_ext<i8>(p, 56), y))
    p += 64
  }
  v128.store(out, weighted(a0, a1, a2, a3, v128.load(weights)))
  v128.store(out, weighted(b0, b1, b2, b3, v128.load(weights, 16)), 16)
}

/** The lane sums of four vectors, negated and times the weights. */
@inline
function weighted(a: v128, b: v128, c: v128, d: v128, weights: v128): v128 {
  const ab = i32x4.add(v128.shuffle<i32>(a, b, 0, 4, 1, 5), v128.shuffle<i32>(a, b, 2, 6, 3, 7))
  const cd = i32x4.add(v128.shuffle<i32>(c, d, 0, 4, 1, 5), v128.shuffle<i32>(c, d, 2, 6, 3, 7))
  const sums = i32x4.add(v128.shuffle<i32>(ab, cd, 0, 1, 4, 5), v128.shuffle<i32>(ab, cd, 2, 3, 6, 7))
  return f32x4.neg(f32x4.mul(f32x4.convert_i32x4_s(sums), weights))
}
