/**
 * The inner loops of a search through cells, compiled to cells.wasm and, for shared memories,
 * cells-shared.wasm by scripts/build-kernel.js. ../../cells/ has what calls them, and explains the words.
 *
 * No state, no allocation: addresses are those of an imported memory that the caller divides. Scores are
 * float32, smaller is nearer.
 *
 * Records that the caller prepares, all of four-byte numbers:
 *
 * | shard | group | cell |
 * |---|---|---|
 * | bytes of its groups | bytes of its eight cells | blocks of codes |
 * | weights of its groups | weights | rows |
 * | biases of its groups, or 0 | biases, or 0 | number of its first row |
 * | record of the first group | record of the first cell | multiplier: score to base (f32) |
 * | groups | cells, 1 to 8 | scale of factors (f32) |
 * |   |   | scale of offsets (f32) |
 */
import { scoreEight } from "./eights"

const GROUP_BYTES: usize = 32
const CELL_BYTES: usize = 32

/** Turns sums of scoreEight into scores: `bias + step * sum`, and Infinity from the `count`-th on. */
@inline
function finishEight(scores: usize, step: f32, biases: usize, count: i32): void {
  const s = f32x4.splat(step)
  let low = f32x4.mul(v128.load(scores), s)
  let high = f32x4.mul(v128.load(scores, 16), s)
  if (biases != 0) {
    low = f32x4.add(low, v128.load(biases))
    high = f32x4.add(high, v128.load(biases, 16))
  }
  v128.store(scores, low)
  v128.store(scores, high, 16)
  for (let i = count; i < 8; i++) store<f32>(scores + (<usize>i << 2), Infinity)
}

/**
 * Scores of all groups of some shards, whose records' addresses are at `shards`, and the addresses of the
 * groups' records beside them. `query`: `bytes` 16-bit integers that stand for multiples of `step`. Returns
 * how many there are: of each shard a multiple of eight, Infinity filling up.
 */
export function scoreGroups(
  shards: usize, count: i32, bytes: i32, query: usize, step: f32, scores: usize, records: usize,
): i32 {
  const queryEnd = query + (<usize>bytes << 1)
  let n: usize = 0
  for (let s = 0; s < count; s++) {
    const shard = <usize>load<u32>(shards + (<usize>s << 2))
    const codes = <usize>load<u32>(shard)
    const weights = <usize>load<u32>(shard, 4)
    const biases = <usize>load<u32>(shard, 8)
    const first = <usize>load<u32>(shard, 12)
    const groups = load<i32>(shard, 16)
    for (let g = 0; g < groups; g += 8, n += 8) {
      const place = <usize>g << 2
      const out = scores + (n << 2)
      scoreEight(codes + <usize>g * <usize>bytes, weights + place, query, queryEnd, out)
      finishEight(out, step, biases == 0 ? 0 : biases + place, min(8, groups - g))
      for (let i: usize = 0; i < 8; i++) store<u32>(records + ((n + i) << 2), <u32>(first + (<usize>g + i) * GROUP_BYTES))
    }
  }
  return <i32>n
}

/** The same for the cells of some groups, whose records' addresses are at `groups`: eight a group. */
export function scoreCells(
  groups: usize, count: i32, bytes: i32, query: usize, step: f32, scores: usize, records: usize,
): void {
  const queryEnd = query + (<usize>bytes << 1)
  for (let g = 0; g < count; g++) {
    const group = <usize>load<u32>(groups + (<usize>g << 2))
    const out = scores + (<usize>g << 5)
    scoreEight(<usize>load<u32>(group), <usize>load<u32>(group, 4), query, queryEnd, out)
    finishEight(out, step, <usize>load<u32>(group, 8), load<i32>(group, 16))
    const first = <usize>load<u32>(group, 12)
    for (let i: usize = 0; i < 8; i++) store<u32>(records + (((<usize>g << 3) + i) << 2), <u32>(first + i * CELL_BYTES))
  }
}

/** How many of the scores are at most `limit`. */
@inline
function countWithin(scores: usize, end: usize, limit: f32): i32 {
  const most = f32x4.splat(limit)
  let counts = i32x4.splat(0)
  for (let at = scores; at < end; at += 16) counts = i32x4.sub(counts, f32x4.le(v128.load(at), most))
  const pairs = i32x4.add(counts, v128.shuffle<i32>(counts, counts, 2, 3, 0, 1))
  return i32x4.extract_lane(pairs, 0) + i32x4.extract_lane(pairs, 1)
}

@inline
function leastLane(a: v128): f32 {
  const pairs = f32x4.pmin(a, v128.shuffle<f32>(a, a, 2, 3, 0, 1))
  return f32x4.extract_lane(f32x4.pmin(pairs, v128.shuffle<f32>(pairs, pairs, 1, 0, 3, 2)), 0)
}

/**
 * A limit that `wanted` of the scores are within, or up to one in 32 more, or as many more as are equal; the
 * largest score but Infinity where there are fewer. `count` is a multiple of four. By false position and
 * bisection in turn.
 */
export function limitOf(scores: usize, count: i32, wanted: i32): f32 {
  const end = scores + (<usize>count << 2)
  const infinite = f32x4.splat(Infinity)
  let least = infinite
  let most = f32x4.splat(-Infinity)
  for (let at = scores; at < end; at += 16) {
    const x = v128.load(at)
    least = f32x4.pmin(least, x)
    most = f32x4.pmax(most, v128.bitselect(x, most, f32x4.lt(x, infinite)))
  }
  let low = leastLane(least)
  let high = -leastLane(f32x4.neg(most))
  let within = countWithin(scores, end, high)
  if (wanted >= within) return high
  let below = 0
  const spare = wanted >> 5
  for (let round = 0; round < 32; round++) {
    let share: f32 = 0.5
    if (!(round & 1) && within - below <= count >> 1) share = <f32>(wanted - below) / <f32>(within - below)
    const limit: f32 = low + (high - low) * share
    const found = countWithin(scores, end, limit)
    if (found >= wanted && found <= wanted + spare) return limit
    if (found < wanted) {
      low = limit
      below = found
    } else {
      high = limit
      within = found
    }
  }
  return high
}

/** The records whose score is at most `limit`, in their order. Returns how many. */
export function collectRecords(scores: usize, count: i32, limit: f32, records: usize, out: usize): i32 {
  const most = f32x4.splat(limit)
  let n = 0
  for (let i = 0; i < count; i += 4) {
    const place = <usize>i << 2
    let hits = i32x4.bitmask(f32x4.le(v128.load(scores + place), most))
    while (hits != 0) {
      store<u32>(out + (<usize>n << 2), load<u32>(records + place + (<usize>ctz(hits) << 2)))
      hits &= hits - 1
      n++
    }
  }
  return n
}

/** Those with `over < score <= limit`, as pairs (record, score). Returns how many. */
export function collectPairs(scores: usize, count: i32, over: f32, limit: f32, records: usize, out: usize): i32 {
  const least = f32x4.splat(over)
  const most = f32x4.splat(limit)
  let n = 0
  for (let i = 0; i < count; i += 4) {
    const place = <usize>i << 2
    const x = v128.load(scores + place)
    let hits = i32x4.bitmask(v128.and(f32x4.gt(x, least), f32x4.le(x, most)))
    while (hits != 0) {
      const at = place + (<usize>ctz(hits) << 2)
      hits &= hits - 1
      store<u32>(out + (<usize>n << 3), load<u32>(records + at))
      store<f32>(out + (<usize>n << 3), load<f32>(scores + at), 4)
      n++
    }
  }
  return n
}

/** Entries of tables are at most this, so that four of them fit into a byte. */
const ENTRY_MAX: f32 = 63
/** Sums of entries, less the offset, are at most this, rounding aside. */
const SUM_MAX: f32 = 15000

/**
 * Tables of a query: for every sub-space and each of its 16 centres `-(q · centre)`, less the least of the
 * sub-space, times a scale, as a byte. `books`: for every sub-space, for each of its dimensions, 16 floats.
 * Writes tables for `pairs` pairs of sub-spaces, the last of which may be empty, and to `out`: the scale, and
 * the sums of the least and of the largest of all sub-spaces. `work`: 64 bytes a sub-space.
 */
export function buildTables(
  query: usize, books: usize, subspaces: i32, width: i32, pairs: i32, work: usize, tables: usize, out: usize,
): void {
  let range: f32 = 1e-30
  let leastSum: f32 = 0
  let mostSum: f32 = 0
  let book = books
  for (let j = 0; j < subspaces; j++) {
    let t0 = f32x4.splat(0)
    let t1 = t0
    let t2 = t0
    let t3 = t0
    for (let e = 0; e < width; e++, book += 64) {
      const x = v128.load32_splat(query + (<usize>(j * width + e) << 2))
      t0 = f32x4.sub(t0, f32x4.mul(x, v128.load(book)))
      t1 = f32x4.sub(t1, f32x4.mul(x, v128.load(book, 16)))
      t2 = f32x4.sub(t2, f32x4.mul(x, v128.load(book, 32)))
      t3 = f32x4.sub(t3, f32x4.mul(x, v128.load(book, 48)))
    }
    const least = leastLane(f32x4.pmin(f32x4.pmin(t0, t1), f32x4.pmin(t2, t3)))
    const most = -leastLane(f32x4.neg(f32x4.pmax(f32x4.pmax(t0, t1), f32x4.pmax(t2, t3))))
    const from = f32x4.splat(least)
    const at = work + (<usize>j << 6)
    v128.store(at, f32x4.sub(t0, from))
    v128.store(at, f32x4.sub(t1, from), 16)
    v128.store(at, f32x4.sub(t2, from), 32)
    v128.store(at, f32x4.sub(t3, from), 48)
    range = max<f32>(range, most - least)
    leastSum += least
    mostSum += most
  }
  const reach = max<f32>(max<f32>(-leastSum, mostSum), 1e-30)
  const scale = min<f32>(ENTRY_MAX / range, SUM_MAX / reach)
  const s = f32x4.splat(scale)
  const half = f32x4.splat(0.5)
  for (let j = 0; j < subspaces; j++) {
    const at = work + (<usize>j << 6)
    const a = i32x4.trunc_sat_f32x4_s(f32x4.add(f32x4.mul(v128.load(at), s), half))
    const b = i32x4.trunc_sat_f32x4_s(f32x4.add(f32x4.mul(v128.load(at, 16), s), half))
    const c = i32x4.trunc_sat_f32x4_s(f32x4.add(f32x4.mul(v128.load(at, 32), s), half))
    const d = i32x4.trunc_sat_f32x4_s(f32x4.add(f32x4.mul(v128.load(at, 48), s), half))
    const low = i16x8.narrow_i32x4_s(a, b)
    const high = i16x8.narrow_i32x4_s(c, d)
    v128.store(tables + (<usize>j << 4), i8x16.narrow_i16x8_u(low, high))
  }
  for (let j = subspaces; j < 2 * pairs; j++) v128.store(tables + (<usize>j << 4), i32x4.splat(0))
  store<f32>(out, scale)
  store<f32>(out, leastSum, 4)
  store<f32>(out, mostSum, 8)
}

/*
 * What a scan knows, at `state`:
 * 0 wanted, 4 room, 8 histogram (4,096 counts), 12 candidates (pairs: row, score), 16 least score (f32),
 * 20 bins per score (f32), 24 candidates so far, 28 rows counted up to the limit, 32 limit (a bin), 36 bins
 * from here on are closed, 40 rows seen, 44 candidates that there was no room for, 64 to 95 work.
 */
const BINS = 4096
/** Some units in the last place. */
const ROUNDING: f32 = 5e-7

@inline
function binOf(score: f32, state: usize): i32 {
  return max(0, min(BINS - 1, <i32>((score - load<f32>(state, 16)) * load<f32>(state, 20))))
}

/**
 * Begins a scan of the cells in a list of pairs (record, score), which may come in several calls of
 * scanCells. `least` and `most`: what tables can add to a score at a scale of 1. About `wanted` rows, and all
 * that fall into the bin of the last of them, shall remain; `room` is at least twice that and 64.
 */
export function beginScan(
  list: usize, count: i32, least: f32, most: f32, wanted: i32, room: i32, histogram: usize, candidates: usize,
  state: usize,
): void {
  let low: f32 = Infinity
  let high: f32 = -Infinity
  const down = min<f32>(least, 0)
  const up = max<f32>(most, 0)
  for (let i = 0; i < count; i++) {
    const cell = <usize>load<u32>(list + (<usize>i << 3))
    const base = load<f32>(list + (<usize>i << 3), 4) * load<f32>(cell, 12)
    const scale = load<f32>(cell, 16)
    const offsets = load<f32>(cell, 20)
    low = min<f32>(low, base + scale * down - offsets)
    high = max<f32>(high, base + scale * up + offsets)
  }
  memory.fill(histogram, 0, BINS << 2)
  store<i32>(state, wanted)
  store<i32>(state, room, 4)
  store<u32>(state, <u32>histogram, 8)
  store<u32>(state, <u32>candidates, 12)
  store<f32>(state, low, 16)
  store<f32>(state, <f32>(BINS - 1) / max<f32>(high - low, 1e-30), 20)
  store<i32>(state, 0, 24)
  store<i32>(state, 0, 28)
  store<i32>(state, BINS - 1, 32)
  store<i32>(state, BINS, 36)
  store<i32>(state, 0, 40)
  store<i32>(state, 0, 44)
}

/** The largest score that is still of use. */
@inline
function limitScore(state: usize): f32 {
  const bin = min(load<i32>(state, 32), load<i32>(state, 36) - 1)
  if (bin >= BINS - 1) return Infinity
  return load<f32>(state, 16) + <f32>(bin + 1) / load<f32>(state, 20)
}

/**
 * Makes room: drops candidates beyond the limit. Where those of the limit's own bin are too many, copies of
 * one row perhaps, its first stay and it is closed.
 */
function compact(state: usize): void {
  const wanted = load<i32>(state)
  const room = load<i32>(state, 4)
  const candidates = <usize>load<u32>(state, 12)
  const count = load<i32>(state, 24)
  const limit = load<i32>(state, 32)
  let better = 0
  for (let i = 0; i < count; i++) if (binOf(load<f32>(candidates + (<usize>i << 3), 4), state) < limit) better++
  let spare = room - wanted - better
  let n = 0
  for (let i = 0; i < count; i++) {
    const at = candidates + (<usize>i << 3)
    const bin = binOf(load<f32>(at, 4), state)
    if (bin > limit) continue
    if (bin == limit) {
      if (spare <= 0) {
        store<i32>(state, limit, 36)
        store<i32>(state, load<i32>(state, 44) + 1, 44)
        continue
      }
      spare--
    }
    store<u64>(candidates + (<usize>n << 3), load<u64>(at))
    n++
  }
  store<i32>(state, n, 24)
}

/** Notes those rows of a block whose score is within the limit, which falls as better ones come. */
function take(even: v128, odd: v128, threshold: i32, base: f32, unit: f32, row: i32, rows: i32, first: u32, state: usize): void {
  const t = i16x8.splat(<i16>threshold)
  // Even rows give bit 2i, odd ones 2i + 1: the bytes of both masks interleave by themselves.
  let hits = i8x16.bitmask(v128.or(
    v128.and(i16x8.le_s(even, t), i16x8.splat(0x00ff)),
    v128.and(i16x8.le_s(odd, t), i16x8.splat(<i16>0xff00)),
  ))
  if (rows - row < 16) hits &= (1 << (rows - row)) - 1
  v128.store(state, even, 64)
  v128.store(state, odd, 80)
  const histogram = <usize>load<u32>(state, 8)
  const candidates = <usize>load<u32>(state, 12)
  const wanted = load<i32>(state)
  const room = load<i32>(state, 4)
  while (hits != 0) {
    const j = ctz(hits)
    hits &= hits - 1
    const x = load<i16>(state + (<usize>((j >> 1) + ((j & 1) << 3)) << 1), 64)
    const score: f32 = base + unit * <f32>x
    const bin = binOf(score, state)
    if (bin > load<i32>(state, 32)) continue
    if (bin >= load<i32>(state, 36)) {
      store<i32>(state, load<i32>(state, 44) + 1, 44)
      continue
    }
    if (load<i32>(state, 24) == room) {
      compact(state)
      if (bin >= load<i32>(state, 36)) {
        store<i32>(state, load<i32>(state, 44) + 1, 44)
        continue
      }
    }
    const n = load<i32>(state, 24)
    const at = candidates + (<usize>n << 3)
    store<u32>(at, first + <u32>(row + j))
    store<f32>(at, score, 4)
    store<i32>(state, n + 1, 24)
    const slot = histogram + (<usize>bin << 2)
    store<i32>(slot, load<i32>(slot) + 1)
    let total = load<i32>(state, 28) + 1
    let limit = load<i32>(state, 32)
    for (;;) {
      const worst = load<i32>(histogram + (<usize>limit << 2))
      if (total - worst < wanted) break
      total -= worst
      limit--
    }
    store<i32>(state, total, 28)
    store<i32>(state, limit, 32)
  }
}

/** Entries of both sub-spaces of a pair for 16 rows, added. */
@inline
function look(tables: usize, codes: v128): v128 {
  const low = v128.and(codes, i8x16.splat(15))
  const high = v128.and(i16x8.shr_u(codes, 4), i8x16.splat(15))
  return i8x16.add(i8x16.swizzle(v128.load(tables), low), i8x16.swizzle(v128.load(tables, 16), high))
}

/** Half of 16 sums as scores in units of their cell. */
@inline
function scoresOf(sums: v128, offset: v128, extra: usize, half: usize, hasOffsets: bool, shrink: v128, stretch: v128): v128 {
  const x = i16x8.q15mulr_sat_s(i16x8.add(sums, offset), v128.load(extra + half))
  if (!hasOffsets) return x
  const y = i16x8.q15mulr_sat_s(v128.load(extra + half, 32), stretch)
  return i16x8.add_sat_s(i16x8.q15mulr_sat_s(x, shrink), y)
}

/**
 * A threshold in units of a cell that no score within the limit exceeds. What is below it need not be within
 * the limit: units may be as small as the rounding of scores, which is allowed for.
 */
@inline
function thresholdOf(base: f32, unit: f32, state: usize): i32 {
  const limit = limitScore(state)
  const rounding: f32 = ROUNDING * (abs<f32>(load<f32>(state, 16)) + abs<f32>(limit) + abs<f32>(base))
  const threshold: f32 = (limit - base + rounding) / unit
  return <i32>max<f32>(-32768, min<f32>(32766, threshold)) + 1
}

@inline
function scan(
  hasOffsets: bool, list: usize, count: i32, pairs: i32, tables: usize, scale: f32, tableOffset: i32, state: usize,
): void {
  const codeBytes = <usize>pairs << 4
  const blockBytes = codeBytes + (hasOffsets ? 64 : 32)
  const offset = i16x8.splat(<i16>tableOffset)
  const tablesEnd = tables + (<usize>pairs << 5)
  let seen = load<i32>(state, 40)
  for (let c = 0; c < count; c++) {
    const entry = list + (<usize>c << 3)
    if ((c & 7) == 0) {
      // All lines of the next eight cells, at once, so that they are waited for together.
      let touched = i32x4.splat(0)
      for (let next = c + 8; next < min(c + 16, count); next++) {
        const cell = <usize>load<u32>(list + (<usize>next << 3))
        const blocks = <usize>((load<i32>(cell, 4) + 15) >> 4)
        let at = <usize>load<u32>(cell)
        const end = at + blocks * blockBytes
        for (; at < end; at += 64) touched = v128.or(touched, v128.load(at))
      }
      v128.store(state, touched, 64)
    }
    const cell = <usize>load<u32>(entry)
    const base = load<f32>(entry, 4) * load<f32>(cell, 12)
    const rows = load<i32>(cell, 4)
    const first = load<u32>(cell, 8)
    let unit: f32 = max<f32>(load<f32>(cell, 16) / scale, 1e-35)
    let shrink = i16x8.splat(0)
    let stretch = shrink
    if (hasOffsets) {
      // Offsets are brought to units; where that would leave 16 bits, units become larger.
      const offsetScale = load<f32>(cell, 20)
      const factor: f32 = offsetScale / unit
      if (factor > 16384) {
        shrink = i16x8.splat(<i16>(<f32>32767 * (<f32>16384 / factor)))
        stretch = i16x8.splat(16384)
        unit = offsetScale / 16384
      } else {
        shrink = i16x8.splat(32767)
        stretch = i16x8.splat(<i16>factor)
      }
    }
    seen += rows
    let threshold = thresholdOf(base, unit, state)
    let p = <usize>load<u32>(cell)
    let row = 0
    for (; rows - row > 16; row += 32, p += 2 * blockBytes) {
      let a = i32x4.splat(0)
      let b = a
      let d = a
      let e = a
      let x = p
      let y = p + blockBytes
      let l = tables
      for (; l + 32 < tablesEnd; l += 64, x += 32, y += 32) {
        const s = i8x16.add(look(l, v128.load(x)), look(l + 32, v128.load(x, 16)))
        const t = i8x16.add(look(l, v128.load(y)), look(l + 32, v128.load(y, 16)))
        a = i16x8.add(a, s)
        b = i16x8.add(b, i16x8.shr_u(s, 8))
        d = i16x8.add(d, t)
        e = i16x8.add(e, i16x8.shr_u(t, 8))
      }
      if (l < tablesEnd) {
        const s = look(l, v128.load(x))
        const t = look(l, v128.load(y))
        a = i16x8.add(a, s)
        b = i16x8.add(b, i16x8.shr_u(s, 8))
        d = i16x8.add(d, t)
        e = i16x8.add(e, i16x8.shr_u(t, 8))
      }
      const extra = p + codeBytes
      const other = extra + blockBytes
      const even = scoresOf(i16x8.sub(a, i16x8.shl(b, 8)), offset, extra, 0, hasOffsets, shrink, stretch)
      const odd = scoresOf(b, offset, extra, 16, hasOffsets, shrink, stretch)
      const even1 = scoresOf(i16x8.sub(d, i16x8.shl(e, 8)), offset, other, 0, hasOffsets, shrink, stretch)
      const odd1 = scoresOf(e, offset, other, 16, hasOffsets, shrink, stretch)
      let most = i16x8.splat(<i16>threshold)
      if (v128.any_true(v128.or(i16x8.le_s(even, most), i16x8.le_s(odd, most)))) {
        take(even, odd, threshold, base, unit, row, rows, first, state)
        threshold = thresholdOf(base, unit, state)
        most = i16x8.splat(<i16>threshold)
      }
      if (v128.any_true(v128.or(i16x8.le_s(even1, most), i16x8.le_s(odd1, most)))) {
        take(even1, odd1, threshold, base, unit, row + 16, rows, first, state)
        threshold = thresholdOf(base, unit, state)
      }
    }
    if (row < rows) {
      let a = i32x4.splat(0)
      let b = a
      let x = p
      let l = tables
      for (; l + 32 < tablesEnd; l += 64, x += 32) {
        const s = i8x16.add(look(l, v128.load(x)), look(l + 32, v128.load(x, 16)))
        a = i16x8.add(a, s)
        b = i16x8.add(b, i16x8.shr_u(s, 8))
      }
      if (l < tablesEnd) {
        const s = look(l, v128.load(x))
        a = i16x8.add(a, s)
        b = i16x8.add(b, i16x8.shr_u(s, 8))
      }
      const extra = p + codeBytes
      const even = scoresOf(i16x8.sub(a, i16x8.shl(b, 8)), offset, extra, 0, hasOffsets, shrink, stretch)
      const odd = scoresOf(b, offset, extra, 16, hasOffsets, shrink, stretch)
      const most = i16x8.splat(<i16>threshold)
      if (v128.any_true(v128.or(i16x8.le_s(even, most), i16x8.le_s(odd, most)))) {
        take(even, odd, threshold, base, unit, row, rows, first, state)
      }
    }
  }
  store<i32>(state, seen, 40)
}

/**
 * Scans cells of a list of pairs (record, score). A block is 16 rows: for each pair of sub-spaces a byte a
 * row, the first in the low half; then a factor a row and, with `hasOffsets`, an offset a row, as 16-bit
 * integers, rows 0, 2, … 14 before 1, 3, … 15. The score of a row is base + unit × (sum of its entries +
 * `tableOffset`) × factor (+ offset).
 */
export function scanCells(
  list: usize, count: i32, pairs: i32, tables: usize, scale: f32, tableOffset: i32, hasOffsets: i32, state: usize,
): void {
  if (hasOffsets) scan(true, list, count, pairs, tables, scale, tableOffset, state)
  else scan(false, list, count, pairs, tables, scale, tableOffset, state)
}

/**
 * Leaves only the candidates within the limit and, unless `slack` is Infinity, within `slack` of the bin of
 * the `near`-th best. Returns how many there are.
 */
export function endScan(near: i32, slack: f32, state: usize): i32 {
  const candidates = <usize>load<u32>(state, 12)
  const histogram = <usize>load<u32>(state, 8)
  const limit = load<i32>(state, 32)
  let most: f32 = Infinity
  if (slack < Infinity) {
    let bin = 0
    for (let sum = 0; bin < BINS - 1; bin++) {
      sum += load<i32>(histogram + (<usize>bin << 2))
      if (sum >= near) break
    }
    most = load<f32>(state, 16) + <f32>(bin + 1) / load<f32>(state, 20) + slack
  }
  const count = load<i32>(state, 24)
  let n = 0
  for (let i = 0; i < count; i++) {
    const at = candidates + (<usize>i << 3)
    const score = load<f32>(at, 4)
    if (score > most || binOf(score, state) > limit) continue
    store<u64>(candidates + (<usize>n << 3), load<u64>(at))
    n++
  }
  store<i32>(state, n, 24)
  return n
}

/** Two rows' elements 0 and 1 of the four at `i`, as float64, one row a lane; `high`: elements 2 and 3. */
@inline
function widened(low: v128, second: bool): v128 {
  return f64x2.promote_low_f32x4(second ? v128.shuffle<f32>(low, low, 2, 3, 0, 1) : low)
}

@inline
function step(squares: bool, sum: v128, x: v128, y: v128): v128 {
  if (squares) {
    const difference = f64x2.sub(x, y)
    return f64x2.add(sum, f64x2.mul(difference, difference))
  }
  return f64x2.add(sum, f64x2.mul(x, y))
}

/**
 * Sums over the elements in float64, from first to last in one sum a row, as distance.ts has them: of
 * products with the query, or of squared differences; and, `withNorms`, of the rows' squares. Four rows at a
 * time, two to a vector.
 */
@inline
function exact(squares: bool, withNorms: bool, rows: usize, count: i32, dim: i32, query: usize, out: usize, norms: usize): void {
  const whole = dim & ~3
  const lineEnd = <usize>dim << 2
  let touched = i32x4.splat(0)
  for (let r = 0; r < count; r += 4) {
    const last = count - 1
    // All lines of the next four rows, so that they are waited for together.
    for (let next = r + 4; next < min(r + 8, count); next++) {
      const row = <usize>load<u32>(rows + (<usize>next << 2))
      for (let at: usize = 0; at < lineEnd; at += 64) touched = v128.or(touched, v128.load32_splat(row + at))
    }
    const p0 = <usize>load<u32>(rows + (<usize>r << 2))
    const p1 = <usize>load<u32>(rows + (<usize>min(r + 1, last) << 2))
    const p2 = <usize>load<u32>(rows + (<usize>min(r + 2, last) << 2))
    const p3 = <usize>load<u32>(rows + (<usize>min(r + 3, last) << 2))
    let a = f64x2.splat(0)
    let b = a
    let c = a
    let d = a
    let i = 0
    for (; i < whole; i += 4) {
      const at = <usize>i << 2
      const q = query + (<usize>i << 3)
      const x0 = v128.load(p0 + at)
      const x1 = v128.load(p1 + at)
      const x2 = v128.load(p2 + at)
      const x3 = v128.load(p3 + at)
      const low01 = v128.shuffle<f32>(x0, x1, 0, 4, 1, 5)
      const high01 = v128.shuffle<f32>(x0, x1, 2, 6, 3, 7)
      const low23 = v128.shuffle<f32>(x2, x3, 0, 4, 1, 5)
      const high23 = v128.shuffle<f32>(x2, x3, 2, 6, 3, 7)
      const q0 = v128.load64_splat(q)
      const q1 = v128.load64_splat(q, 8)
      const q2 = v128.load64_splat(q, 16)
      const q3 = v128.load64_splat(q, 24)
      const e0 = widened(low01, false)
      const e1 = widened(low01, true)
      const e2 = widened(high01, false)
      const e3 = widened(high01, true)
      a = step(squares, step(squares, step(squares, step(squares, a, e0, q0), e1, q1), e2, q2), e3, q3)
      const f0 = widened(low23, false)
      const f1 = widened(low23, true)
      const f2 = widened(high23, false)
      const f3 = widened(high23, true)
      b = step(squares, step(squares, step(squares, step(squares, b, f0, q0), f1, q1), f2, q2), f3, q3)
      if (withNorms) {
        c = step(false, step(false, step(false, step(false, c, e0, e0), e1, e1), e2, e2), e3, e3)
        d = step(false, step(false, step(false, step(false, d, f0, f0), f1, f1), f2, f2), f3, f3)
      }
    }
    for (; i < dim; i++) {
      const at = <usize>i << 2
      const y = v128.load64_splat(query + (<usize>i << 3))
      const e = f64x2(load<f32>(p0 + at), load<f32>(p1 + at))
      const f = f64x2(load<f32>(p2 + at), load<f32>(p3 + at))
      a = step(squares, a, e, y)
      b = step(squares, b, f, y)
      if (withNorms) {
        c = step(false, c, e, e)
        d = step(false, d, f, f)
      }
    }
    const place = <usize>r << 3
    v128.store(out + place, a)
    v128.store(out + place, b, 16)
    if (withNorms) {
      v128.store(norms + place, c)
      v128.store(norms + place, d, 16)
    }
  }
  // What was touched must be of use to somebody, or it is left out; the next sums overwrite it.
  v128.store(out + (<usize>((count + 3) & ~3) << 3), touched)
}

/**
 * Of `count` rows, whose addresses are at `rows`: inner products with the query (`dim` float64s), to `out`,
 * and, unless `norms` is 0, squared lengths. Both have room for a multiple of four and two more float64s.
 */
export function exactProducts(rows: usize, count: i32, dim: i32, query: usize, out: usize, norms: usize): void {
  if (norms == 0) exact(false, false, rows, count, dim, query, out, 0)
  else exact(false, true, rows, count, dim, query, out, norms)
}

/** The same, squared distances. */
export function exactSquares(rows: usize, count: i32, dim: i32, query: usize, out: usize): void {
  exact(true, false, rows, count, dim, query, out, 0)
}

/**
 * The nearest centre of every sub-space for some rows of residuals (`subspaces × width` floats each), the
 * first of equals, one byte each. `halves`: half the squared length of each centre, 16 a sub-space.
 */
export function nearestCentres(
  residuals: usize, rows: i32, subspaces: i32, width: i32, books: usize, halves: usize, codes: usize,
): void {
  let x = residuals
  for (let row = 0; row < rows; row++) {
    let book = books
    for (let j = 0; j < subspaces; j++) {
      const at = halves + (<usize>j << 6)
      let t0 = v128.load(at)
      let t1 = v128.load(at, 16)
      let t2 = v128.load(at, 32)
      let t3 = v128.load(at, 48)
      for (let e = 0; e < width; e++, book += 64, x += 4) {
        const y = v128.load32_splat(x)
        t0 = f32x4.sub(t0, f32x4.mul(y, v128.load(book)))
        t1 = f32x4.sub(t1, f32x4.mul(y, v128.load(book, 16)))
        t2 = f32x4.sub(t2, f32x4.mul(y, v128.load(book, 32)))
        t3 = f32x4.sub(t3, f32x4.mul(y, v128.load(book, 48)))
      }
      const least = f32x4.splat(leastLane(f32x4.pmin(f32x4.pmin(t0, t1), f32x4.pmin(t2, t3))))
      const equal = i32x4.bitmask(f32x4.eq(t0, least)) |
        (i32x4.bitmask(f32x4.eq(t1, least)) << 4) |
        (i32x4.bitmask(f32x4.eq(t2, least)) << 8) |
        (i32x4.bitmask(f32x4.eq(t3, least)) << 12)
      store<u8>(codes++, <u8>ctz(equal))
    }
  }
}
