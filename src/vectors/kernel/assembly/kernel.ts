/**
 * The inner loops in AssemblyScript, compiled to kernel.wasm by scripts/build-kernel.js. 128-bit vectors of
 * four float32.
 *
 * The module has no state and allocates nothing: all pointers come from the caller, who owns the imported
 * memory (see ../memory.ts for what lies where).
 *
 * Rows are row-major without padding, as they lie in shard files. The other side (queries, points) is packed
 * by the caller: `ceil(dim / 4)` vectors each, the last of which holds the LAST four elements if dim is no
 * multiple of four, with zeros for those that the vector before has already. So the end of a row is one load
 * of its last four elements, masked, instead of a loop over single elements. That load may begin before the
 * row: 16 readable bytes must lie before the first one.
 *
 * Two accumulators or more per sum, or several sums at a time, because an addition takes several cycles to
 * complete while two can begin in each.
 */

import { scoreEight } from "./eights"

/** Which of a row's last four elements the vectors before have not covered. */
@inline
function tailMask(dim: i32): v128 {
  const tail = dim & 3
  if (tail == 1) return i32x4(0, 0, 0, -1)
  if (tail == 2) return i32x4(0, 0, -1, -1)
  return i32x4(0, -1, -1, -1)
}

/** The sums of the lanes of four vectors. */
@inline
function laneSums(a: v128, b: v128, c: v128, d: v128): v128 {
  const ab = f32x4.add(v128.shuffle<f32>(a, b, 0, 4, 1, 5), v128.shuffle<f32>(a, b, 2, 6, 3, 7))
  const cd = f32x4.add(v128.shuffle<f32>(c, d, 0, 4, 1, 5), v128.shuffle<f32>(c, d, 2, 6, 3, 7))
  return f32x4.add(v128.shuffle<f32>(ab, cd, 0, 1, 4, 5), v128.shuffle<f32>(ab, cd, 2, 3, 6, 7))
}

/** One more term of a sum: of squared differences, or of products. */
@inline
function term(squares: bool, sum: v128, x: v128, y: v128): v128 {
  if (squares) {
    const difference = f32x4.sub(x, y)
    return f32x4.add(sum, f32x4.mul(difference, difference))
  }
  return f32x4.add(sum, f32x4.mul(x, y))
}

/**
 * Scores of four rows from their sums: squared distances as they are, products negated and times the weights.
 */
@inline
function scoresOf(squares: bool, sums: v128, weights: usize, row: i32): v128 {
  if (squares) return sums
  if (weights == 0) return f32x4.neg(sums)
  // Weights are padded to a multiple of four.
  return f32x4.neg(f32x4.mul(sums, v128.load(weights + (<usize>row << 2))))
}

/** Writes those of four rows whose score is small enough behind a query's other candidates. */
@inline
function collect(scores: v128, threshold: f32, live: i32, row: i32, count: usize, candidates: usize): void {
  let hits = i32x4.bitmask(f32x4.le(scores, f32x4.splat(threshold))) & live
  if (hits == 0) return
  let n = load<i32>(count)
  for (let lane = 0; lane < 4; lane++) {
    if (hits & 1) {
      const at = candidates + (<usize>n << 3)
      store<i32>(at, row + lane)
      store<f32>(at, f32x4.extract_lane(scores, 0), 4)
      n++
    }
    hits >>= 1
    scores = v128.shuffle<f32>(scores, scores, 1, 2, 3, 0)
  }
  store<i32>(count, n)
}

/** Which of four rows exist and are allowed, one bit each. `row` is a multiple of four. */
@inline
function liveRows(row: i32, rows: i32, allowed: usize): i32 {
  const existing = rows - row >= 4 ? 15 : (1 << (rows - row)) - 1
  if (allowed == 0) return existing
  return existing & (<i32>load<u8>(allowed + <usize>(row >> 3)) >> (row & 4))
}

@inline
function scanOne(
  squares: bool,
  base: usize,
  rows: i32,
  dim: i32,
  weights: usize,
  allowed: usize,
  query: usize,
  threshold: f32,
  count: usize,
  candidates: usize,
): void {
  const stride = <usize>dim << 2
  const whole = <usize>(dim >> 2) << 4
  const wholePairs = whole & ~31
  const mask = tailMask(dim)
  for (let row = 0; row < rows; row += 4) {
    const live = liveRows(row, rows, allowed)
    if (live == 0) continue
    // In the last block the last row may stand for rows that are not there.
    const last = rows - 1
    let p0 = base + <usize>row * stride
    let p1 = base + <usize>min(row + 1, last) * stride
    let p2 = base + <usize>min(row + 2, last) * stride
    let p3 = base + <usize>min(row + 3, last) * stride
    let a0 = f32x4.splat(0)
    let a1 = a0
    let a2 = a0
    let a3 = a0
    let b0 = a0
    let b1 = a0
    let b2 = a0
    let b3 = a0
    let i: usize = 0
    for (; i < wholePairs; i += 32) {
      const y = v128.load(query + i)
      a0 = term(squares, a0, v128.load(p0 + i), y)
      a1 = term(squares, a1, v128.load(p1 + i), y)
      a2 = term(squares, a2, v128.load(p2 + i), y)
      a3 = term(squares, a3, v128.load(p3 + i), y)
      const z = v128.load(query + i, 16)
      b0 = term(squares, b0, v128.load(p0 + i, 16), z)
      b1 = term(squares, b1, v128.load(p1 + i, 16), z)
      b2 = term(squares, b2, v128.load(p2 + i, 16), z)
      b3 = term(squares, b3, v128.load(p3 + i, 16), z)
    }
    if (i < whole) {
      const y = v128.load(query + i)
      a0 = term(squares, a0, v128.load(p0 + i), y)
      a1 = term(squares, a1, v128.load(p1 + i), y)
      a2 = term(squares, a2, v128.load(p2 + i), y)
      a3 = term(squares, a3, v128.load(p3 + i), y)
    }
    if (dim & 3) {
      const y = v128.load(query + whole)
      const end = stride - 16
      b0 = term(squares, b0, v128.and(v128.load(p0 + end), mask), y)
      b1 = term(squares, b1, v128.and(v128.load(p1 + end), mask), y)
      b2 = term(squares, b2, v128.and(v128.load(p2 + end), mask), y)
      b3 = term(squares, b3, v128.and(v128.load(p3 + end), mask), y)
    }
    const sums = laneSums(f32x4.add(a0, b0), f32x4.add(a1, b1), f32x4.add(a2, b2), f32x4.add(a3, b3))
    collect(scoresOf(squares, sums, weights, row), threshold, live, row, count, candidates)
  }
}

@inline
function scanTwo(
  squares: bool,
  base: usize,
  rows: i32,
  dim: i32,
  weights: usize,
  allowed: usize,
  queryA: usize,
  queryB: usize,
  thresholdA: f32,
  thresholdB: f32,
  countA: usize,
  countB: usize,
  candidatesA: usize,
  candidatesB: usize,
): void {
  const stride = <usize>dim << 2
  const whole = <usize>(dim >> 2) << 4
  const mask = tailMask(dim)
  for (let row = 0; row < rows; row += 4) {
    const live = liveRows(row, rows, allowed)
    if (live == 0) continue
    const last = rows - 1
    let p0 = base + <usize>row * stride
    let p1 = base + <usize>min(row + 1, last) * stride
    let p2 = base + <usize>min(row + 2, last) * stride
    let p3 = base + <usize>min(row + 3, last) * stride
    let a0 = f32x4.splat(0)
    let a1 = a0
    let a2 = a0
    let a3 = a0
    let b0 = a0
    let b1 = a0
    let b2 = a0
    let b3 = a0
    for (let i: usize = 0; i < whole; i += 16) {
      const y = v128.load(queryA + i)
      const z = v128.load(queryB + i)
      const x0 = v128.load(p0 + i)
      a0 = term(squares, a0, x0, y)
      b0 = term(squares, b0, x0, z)
      const x1 = v128.load(p1 + i)
      a1 = term(squares, a1, x1, y)
      b1 = term(squares, b1, x1, z)
      const x2 = v128.load(p2 + i)
      a2 = term(squares, a2, x2, y)
      b2 = term(squares, b2, x2, z)
      const x3 = v128.load(p3 + i)
      a3 = term(squares, a3, x3, y)
      b3 = term(squares, b3, x3, z)
    }
    if (dim & 3) {
      const y = v128.load(queryA + whole)
      const z = v128.load(queryB + whole)
      const end = stride - 16
      const x0 = v128.and(v128.load(p0 + end), mask)
      a0 = term(squares, a0, x0, y)
      b0 = term(squares, b0, x0, z)
      const x1 = v128.and(v128.load(p1 + end), mask)
      a1 = term(squares, a1, x1, y)
      b1 = term(squares, b1, x1, z)
      const x2 = v128.and(v128.load(p2 + end), mask)
      a2 = term(squares, a2, x2, y)
      b2 = term(squares, b2, x2, z)
      const x3 = v128.and(v128.load(p3 + end), mask)
      a3 = term(squares, a3, x3, y)
      b3 = term(squares, b3, x3, z)
    }
    const scoresA = scoresOf(squares, laneSums(a0, a1, a2, a3), weights, row)
    const scoresB = scoresOf(squares, laneSums(b0, b1, b2, b3), weights, row)
    collect(scoresA, thresholdA, live, row, countA, candidatesA)
    collect(scoresB, thresholdB, live, row, countB, candidatesB)
  }
}

@inline
function scan(
  squares: bool,
  base: usize,
  rows: i32,
  dim: i32,
  weights: usize,
  allowed: usize,
  queries: usize,
  queryCount: i32,
  thresholds: usize,
  counts: usize,
  candidates: usize,
  capacity: i32,
): void {
  const queryBytes = <usize>((dim + 3) >> 2) << 4
  const listBytes = <usize>capacity << 3
  let q = 0
  for (; q + 2 <= queryCount; q += 2) {
    const queryA = queries + <usize>q * queryBytes
    const thresholdA = thresholds + (<usize>q << 2)
    const countA = counts + (<usize>q << 2)
    const candidatesA = candidates + <usize>q * listBytes
    scanTwo(
      squares, base, rows, dim, weights, allowed, queryA, queryA + queryBytes,
      load<f32>(thresholdA), load<f32>(thresholdA, 4), countA, countA + 4, candidatesA, candidatesA + listBytes,
    )
  }
  if (q < queryCount) {
    const at = <usize>q << 2
    scanOne(
      squares, base, rows, dim, weights, allowed, queries + <usize>q * queryBytes,
      load<f32>(thresholds + at), counts + at, candidates + <usize>q * listBytes,
    )
  }
}

/**
 * Appends to each query's list of candidates, as pairs (row: i32, score: f32), the rows with
 * `-(row · query) * weight <= threshold`. Rows count from `base`.
 * `weights`: one per row, or 0 for 1s. `allowed`: a bit per row, lowest first, or 0 for all.
 * The lists have room for `capacity` pairs each; the caller sees to it that `count + rows` is not more.
 */
export function scanProducts(
  base: usize, rows: i32, dim: i32, weights: usize, allowed: usize, queries: usize, queryCount: i32,
  thresholds: usize, counts: usize, candidates: usize, capacity: i32,
): void {
  scan(false, base, rows, dim, weights, allowed, queries, queryCount, thresholds, counts, candidates, capacity)
}

/** As scanProducts, the score being the squared Euclidean distance. */
export function scanDistances(
  base: usize, rows: i32, dim: i32, allowed: usize, queries: usize, queryCount: i32,
  thresholds: usize, counts: usize, candidates: usize, capacity: i32,
): void {
  scan(true, base, rows, dim, 0, allowed, queries, queryCount, thresholds, counts, candidates, capacity)
}

/**
 * Scores `bias - row · point` of rows at an even number of points, and of them, for each row: the point with
 * the smallest, that score and the second smallest, and the row's squared length. `scores`: where to put all
 * of them, row-major `rows × points`, or 0. The other outputs are padded to a multiple of four rows.
 */
export function comparePoints(
  base: usize, rows: i32, dim: i32, points: usize, bias: usize, pointCount: i32,
  nearest: usize, best: usize, second: usize, squaredNorms: usize, scores: usize,
): void {
  const stride = <usize>dim << 2
  const whole = <usize>(dim >> 2) << 4
  const pointBytes = <usize>((dim + 3) >> 2) << 4
  const mask = tailMask(dim)
  const zero = f32x4.splat(0)
  const end = stride - 16
  for (let row = 0; row < rows; row += 4) {
    const last = rows - 1
    const p0 = base + <usize>row * stride
    const p1 = base + <usize>min(row + 1, last) * stride
    const p2 = base + <usize>min(row + 2, last) * stride
    const p3 = base + <usize>min(row + 3, last) * stride
    let bestScore = f32x4.splat(Infinity)
    let secondScore = bestScore
    let bestPoint = i32x4.splat(0)
    for (let point = 0; point < pointCount; point += 2) {
      const pointA = points + <usize>point * pointBytes
      const pointB = pointA + pointBytes
      let a0 = zero
      let a1 = zero
      let a2 = zero
      let a3 = zero
      let b0 = zero
      let b1 = zero
      let b2 = zero
      let b3 = zero
      for (let i: usize = 0; i < whole; i += 16) {
        const y = v128.load(pointA + i)
        const z = v128.load(pointB + i)
        const x0 = v128.load(p0 + i)
        a0 = term(false, a0, x0, y)
        b0 = term(false, b0, x0, z)
        const x1 = v128.load(p1 + i)
        a1 = term(false, a1, x1, y)
        b1 = term(false, b1, x1, z)
        const x2 = v128.load(p2 + i)
        a2 = term(false, a2, x2, y)
        b2 = term(false, b2, x2, z)
        const x3 = v128.load(p3 + i)
        a3 = term(false, a3, x3, y)
        b3 = term(false, b3, x3, z)
      }
      if (dim & 3) {
        const y = v128.load(pointA + whole)
        const z = v128.load(pointB + whole)
        const x0 = v128.and(v128.load(p0 + end), mask)
        a0 = term(false, a0, x0, y)
        b0 = term(false, b0, x0, z)
        const x1 = v128.and(v128.load(p1 + end), mask)
        a1 = term(false, a1, x1, y)
        b1 = term(false, b1, x1, z)
        const x2 = v128.and(v128.load(p2 + end), mask)
        a2 = term(false, a2, x2, y)
        b2 = term(false, b2, x2, z)
        const x3 = v128.and(v128.load(p3 + end), mask)
        a3 = term(false, a3, x3, y)
        b3 = term(false, b3, x3, z)
      }
      const at = <usize>point << 2
      const scoreA = f32x4.sub(v128.load32_splat(bias + at), laneSums(a0, a1, a2, a3))
      const scoreB = f32x4.sub(v128.load32_splat(bias + at, 4), laneSums(b0, b1, b2, b3))
      if (scores != 0) {
        let out = scores + ((<usize>row * <usize>pointCount) << 2) + at
        const rowBytes = <usize>pointCount << 2
        const pairs = v128.shuffle<f32>(scoreA, scoreB, 0, 4, 1, 5)
        const otherPairs = v128.shuffle<f32>(scoreA, scoreB, 2, 6, 3, 7)
        v128.store64_lane(out, pairs, 0)
        v128.store64_lane(out + rowBytes, pairs, 1)
        out += 2 * rowBytes
        v128.store64_lane(out, otherPairs, 0)
        v128.store64_lane(out + rowBytes, otherPairs, 1)
      }
      // Strictly smaller, A before B: the first of equals stays.
      const betterA = f32x4.lt(scoreA, bestScore)
      secondScore = f32x4.pmin(secondScore, f32x4.pmax(scoreA, bestScore))
      bestScore = f32x4.pmin(bestScore, scoreA)
      bestPoint = v128.bitselect(i32x4.splat(point), bestPoint, betterA)
      const betterB = f32x4.lt(scoreB, bestScore)
      secondScore = f32x4.pmin(secondScore, f32x4.pmax(scoreB, bestScore))
      bestScore = f32x4.pmin(bestScore, scoreB)
      bestPoint = v128.bitselect(i32x4.splat(point + 1), bestPoint, betterB)
    }
    let n0 = zero
    let n1 = zero
    let n2 = zero
    let n3 = zero
    for (let i: usize = 0; i < whole; i += 16) {
      const x0 = v128.load(p0 + i)
      const x1 = v128.load(p1 + i)
      const x2 = v128.load(p2 + i)
      const x3 = v128.load(p3 + i)
      n0 = term(false, n0, x0, x0)
      n1 = term(false, n1, x1, x1)
      n2 = term(false, n2, x2, x2)
      n3 = term(false, n3, x3, x3)
    }
    if (dim & 3) {
      const x0 = v128.and(v128.load(p0 + end), mask)
      const x1 = v128.and(v128.load(p1 + end), mask)
      const x2 = v128.and(v128.load(p2 + end), mask)
      const x3 = v128.and(v128.load(p3 + end), mask)
      n0 = term(false, n0, x0, x0)
      n1 = term(false, n1, x1, x1)
      n2 = term(false, n2, x2, x2)
      n3 = term(false, n3, x3, x3)
    }
    const at = <usize>row << 2
    v128.store(nearest + at, bestPoint)
    v128.store(best + at, bestScore)
    v128.store(second + at, secondScore)
    v128.store(squaredNorms + at, laneSums(n0, n1, n2, n3))
  }
}

/**
 * As scanProducts for rows of bytes, `bytes` each, a multiple of 8, that lie mixed in eights (see
 * scoreEight), and queries of as many 16-bit integers, which begin `queryBytes` apart. Rows and weights are
 * padded to a multiple of eight. `scores`: room for eight floats. The caller sees to it that no sum of
 * products leaves 32 bits.
 */
export function scanCodes(
  base: usize, rows: i32, bytes: i32, weights: usize, allowed: usize, queries: usize, queryBytes: i32, queryCount: i32,
  thresholds: usize, counts: usize, candidates: usize, capacity: i32, scores: usize,
): void {
  for (let q = 0; q < queryCount; q++) {
    const query = queries + <usize>q * <usize>queryBytes
    const queryEnd = query + (<usize>bytes << 1)
    const threshold = load<f32>(thresholds + (<usize>q << 2))
    const count = counts + (<usize>q << 2)
    const list = candidates + ((<usize>q * <usize>capacity) << 3)
    let eight = base
    for (let row = 0; row < rows; row += 8, eight += <usize>bytes << 3) {
      scoreEight(eight, weights + (<usize>row << 2), query, queryEnd, scores)
      const low = v128.load(scores)
      const high = v128.load(scores, 16)
      const limit = f32x4.splat(threshold)
      if (!v128.any_true(v128.or(f32x4.le(low, limit), f32x4.le(high, limit)))) continue
      collect(low, threshold, liveRows(row, rows, allowed), row, count, list)
      if (row + 4 < rows) collect(high, threshold, liveRows(row + 4, rows, allowed), row + 4, count, list)
    }
  }
}

/**
 * All scores of rows as scanCodes takes them, into `scores`, which is padded to a multiple of eight as well.
 */
export function scoreCodes(base: usize, rows: i32, bytes: i32, weights: usize, query: usize, scores: usize): void {
  const queryEnd = query + (<usize>bytes << 1)
  let eight = base
  for (let row = 0; row < rows; row += 8, eight += <usize>bytes << 3) {
    const at = <usize>row << 2
    scoreEight(eight, weights + at, query, queryEnd, scores + at)
  }
}

/**
 * exp(x) of four numbers from -87 to 0, off by some units in the last place: 2^n times the exponential series
 * of what is left, |r| ≤ ln 2 / 2.
 */
@inline
function exp(x: v128): v128 {
  const n = f32x4.nearest(f32x4.mul(x, f32x4.splat(1.44269504)))
  // ln 2 in two parts, the first of which has so few bits that its product with n is exact.
  let r = f32x4.sub(x, f32x4.mul(n, f32x4.splat(0.693359375)))
  r = f32x4.add(r, f32x4.mul(n, f32x4.splat(0.000212194440)))
  let sum = f32x4.splat(1.0 / 5040.0)
  sum = f32x4.add(f32x4.mul(sum, r), f32x4.splat(1.0 / 720.0))
  sum = f32x4.add(f32x4.mul(sum, r), f32x4.splat(1.0 / 120.0))
  sum = f32x4.add(f32x4.mul(sum, r), f32x4.splat(1.0 / 24.0))
  sum = f32x4.add(f32x4.mul(sum, r), f32x4.splat(1.0 / 6.0))
  sum = f32x4.add(f32x4.mul(sum, r), f32x4.splat(0.5))
  sum = f32x4.add(f32x4.mul(sum, r), f32x4.splat(1))
  sum = f32x4.add(f32x4.mul(sum, r), f32x4.splat(1))
  const exponent = i32x4.add(i32x4.trunc_sat_f32x4_s(n), i32x4.splat(127))
  return f32x4.mul(sum, i32x4.shl(exponent, 23))
}

/**
 * Turns `count` scores of scoreCodes into similarities, `-(score * step) - bias`, in place, and these into
 * one number for each group: the sum of `exp(sharpness * similarity + offset - m)`, m being the largest such
 * exponent of all. Terms below exp(-80) count 0. Group g has those from `starts[g]` to `starts[g + 1] - 1`.
 * All arrays but `starts` and `sums` are padded to a multiple of four, with biases of Infinity. Returns the
 * largest similarity.
 */
export function sumExponentials(
  scores: usize, count: i32, step: f32, biases: usize, offsets: usize, sharpness: f32,
  starts: usize, groups: i32, sums: usize,
): f32 {
  const end = <usize>((count + 3) >> 2) << 4
  let similar = f32x4.splat(-Infinity)
  let largest = similar
  for (let i: usize = 0; i < end; i += 16) {
    const scaled = f32x4.mul(v128.load(scores + i), f32x4.splat(-step))
    const similarity = f32x4.sub(scaled, v128.load(biases + i))
    v128.store(scores + i, similarity)
    similar = f32x4.pmax(similar, similarity)
    const exponent = f32x4.add(f32x4.mul(similarity, f32x4.splat(sharpness)), v128.load(offsets + i))
    largest = f32x4.pmax(largest, exponent)
  }
  const most = f32x4.splat(largestLane(largest))
  for (let group = 0; group < groups; group++) {
    const at = starts + (<usize>group << 2)
    const last = load<i32>(at, 4)
    let sum = f32x4.splat(0)
    for (let i = load<i32>(at); i < last; i += 4) {
      const place = <usize>i << 2
      const similarity = v128.load(scores + place)
      const exponent = f32x4.add(f32x4.mul(similarity, f32x4.splat(sharpness)), v128.load(offsets + place))
      const x = f32x4.sub(exponent, most)
      const counts = v128.and(
        f32x4.ge(x, f32x4.splat(-80)),
        i32x4.lt_s(i32x4.add(i32x4.splat(i), i32x4(0, 1, 2, 3)), i32x4.splat(last)),
      )
      sum = f32x4.add(sum, v128.and(exp(f32x4.pmax(x, f32x4.splat(-80))), counts))
    }
    const halves = f32x4.add(sum, v128.shuffle<f32>(sum, sum, 2, 3, 0, 1))
    store<f32>(sums + (<usize>group << 2), f32x4.extract_lane(halves, 0) + f32x4.extract_lane(halves, 1))
  }
  return largestLane(similar)
}

@inline
function largestLane(a: v128): f32 {
  const pairs = f32x4.pmax(a, v128.shuffle<f32>(a, a, 2, 3, 0, 1))
  return f32x4.extract_lane(f32x4.pmax(pairs, v128.shuffle<f32>(pairs, pairs, 1, 0, 3, 2)), 0)
}
