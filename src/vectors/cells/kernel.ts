/**
 * The compiled kernels of a search through cells (kernel/assembly/cells.ts), over a memory that the caller
 * makes and divides: one thread's own, or one that threads share, each with its instance.
 *
 * They keep nothing and allocate nothing. All addresses are bytes from the start of the memory.
 */
import { readFileSync } from "node:fs"

/** What kernel/assembly/cells.ts exports, where each is described. Addresses, counts and float32s. */
export interface CellKernel {
  scoreGroups(
    shards: number,
    count: number,
    bytes: number,
    query: number,
    step: number,
    scores: number,
    records: number,
  ): number
  scoreCells(
    groups: number,
    count: number,
    bytes: number,
    query: number,
    step: number,
    scores: number,
    records: number,
  ): void
  limitOf(scores: number, count: number, wanted: number): number
  collectRecords(scores: number, count: number, limit: number, records: number, out: number): number
  collectPairs(
    scores: number,
    count: number,
    over: number,
    limit: number,
    records: number,
    out: number,
  ): number
  buildTables(
    query: number,
    books: number,
    subspaces: number,
    width: number,
    pairs: number,
    work: number,
    tables: number,
    out: number,
  ): void
  beginScan(
    list: number,
    count: number,
    least: number,
    most: number,
    wanted: number,
    room: number,
    histogram: number,
    candidates: number,
    state: number,
  ): void
  scanCells(
    list: number,
    count: number,
    pairs: number,
    tables: number,
    scale: number,
    tableOffset: number,
    hasOffsets: number,
    state: number,
  ): void
  endScan(near: number, slack: number, state: number): number
  exactProducts(rows: number, count: number, dim: number, query: number, out: number, norms: number): void
  exactSquares(rows: number, count: number, dim: number, query: number, out: number): void
  nearestCentres(
    residuals: number,
    rows: number,
    subspaces: number,
    width: number,
    books: number,
    halves: number,
    codes: number,
  ): void
}

/** The most 64 KiB pages that a memory may be declared with. */
const PAGES_MAX = 65_536
const PAGE_BYTES = 65_536

const modules = new Map<string, WebAssembly.Module | undefined>()

/** Undefined where WebAssembly lacks SIMD (or threads), or the environment has `VECSNAP_KERNEL=plain`. */
function moduleOf(name: string): WebAssembly.Module | undefined {
  if (!modules.has(name)) modules.set(name, compile(name))
  return modules.get(name)
}

function compile(name: string): WebAssembly.Module | undefined {
  if (process.env.VECSNAP_KERNEL === "plain" || typeof WebAssembly === "undefined") return undefined
  const code = readFileSync(new URL(`../kernel/${name}.wasm`, import.meta.url))
  return WebAssembly.validate(code) ? new WebAssembly.Module(code) : undefined
}

/**
 * An instance over a memory, shared or not. Undefined without compiled kernels. A shared memory must have
 * been declared with a maximum.
 */
export function createCellKernel(memory: WebAssembly.Memory): CellKernel | undefined {
  const isShared = memory.buffer instanceof SharedArrayBuffer
  const module = moduleOf(isShared ? "cells-shared" : "cells")
  if (module === undefined) return undefined
  const { exports } = new WebAssembly.Instance(module, { env: { memory } })
  return exports as unknown as CellKernel
}

/** A memory of at least so many bytes. Throws `RangeError` where the system refuses. */
export function createCellMemory(bytes: number, shared = false): WebAssembly.Memory {
  const initial = Math.ceil(bytes / PAGE_BYTES)
  return new WebAssembly.Memory(
    shared ? { initial, maximum: Math.min(initial, PAGES_MAX), shared } : { initial },
  )
}
