/**
 * The compiled kernel and the memories that it works in.
 *
 * A WebAssembly memory cannot shrink, so every table that is to be freed some day has one to itself, of its
 * size, which goes when the garbage collector finds it unused; an instance of the kernel costs little. What
 * lies elsewhere is copied through one scratch memory per thread. See docs/decisions/0007-kernel.md.
 */
import { readFileSync } from "node:fs"

/** Queries of a scan, and where what it finds goes. */
export type ScanSearch = readonly [
  queries: number,
  queryCount: number,
  thresholds: number,
  counts: number,
  candidates: number,
  capacity: number,
]

/** What assembly/kernel.ts exports; all arguments are byte offsets or counts. */
interface KernelExports {
  scanProducts(
    base: number,
    rows: number,
    dim: number,
    weights: number,
    allowed: number,
    ...search: ScanSearch
  ): void
  scanDistances(base: number, rows: number, dim: number, allowed: number, ...search: ScanSearch): void
  scanCodes(
    base: number,
    rows: number,
    bytes: number,
    weights: number,
    allowed: number,
    queries: number,
    queryBytes: number,
    queryCount: number,
    thresholds: number,
    counts: number,
    candidates: number,
    capacity: number,
    scores: number,
  ): void
  scoreCodes(base: number, rows: number, bytes: number, weights: number, query: number, scores: number): void
  sumExponentials(
    scores: number,
    count: number,
    step: number,
    biases: number,
    offsets: number,
    sharpness: number,
    starts: number,
    groups: number,
    sums: number,
  ): number
  comparePoints(
    base: number,
    rows: number,
    dim: number,
    points: number,
    bias: number,
    pointCount: number,
    nearest: number,
    best: number,
    second: number,
    squaredNorms: number,
    scores: number,
  ): void
}

/** The kernel reads up to this many bytes before the first row and never uses what is there. */
export const GUARD_BYTES = 16

const PAGE_BYTES = 2 ** 16
const MEMORY_BYTES_MAX = 2 ** 32

const compiled = new Map<string, WebAssembly.Module | undefined>()

/**
 * Which kernel this thread uses: `plain` (TypeScript) where WebAssembly lacks SIMD or the environment has
 * `VECSNAP_KERNEL=plain`. Throws if the package was built without the compiled kernel.
 */
export function kernelInUse(): "simd" | "plain" {
  return kernelModule() === undefined ? "plain" : "simd"
}

/** A module is made either for memories that threads share or for others. */
function kernelModule(name: "kernel" | "kernel-shared" = "kernel"): WebAssembly.Module | undefined {
  if (!compiled.has(name)) compiled.set(name, compileKernel(name))
  return compiled.get(name)
}

function compileKernel(name: string): WebAssembly.Module | undefined {
  if (process.env.VECSNAP_KERNEL === "plain" || typeof WebAssembly === "undefined") return undefined
  const code = readFileSync(new URL(`./${name}.wasm`, import.meta.url))
  return WebAssembly.validate(code) ? new WebAssembly.Module(code) : undefined
}

/** A memory with an instance of the kernel. */
export class KernelMemory {
  readonly exports: KernelExports
  readonly #memory: WebAssembly.Memory
  #views:
    | { floats: Float32Array<ArrayBuffer>; integers: Int32Array; shorts: Int16Array; bytes: Uint8Array }
    | undefined

  private constructor(module: WebAssembly.Module, memory: WebAssembly.Memory) {
    this.#memory = memory
    const { exports } = new WebAssembly.Instance(module, { env: { memory } })
    this.exports = exports as unknown as KernelExports
  }

  /**
   * An instance over a memory that others may use, too: undefined without a compiled kernel. A shared memory
   * must have been declared with a maximum. Arrays taken from here end where the memory did when they were
   * first asked for; {@link KernelMemory.refresh} lets them see how it has grown.
   */
  static over(memory: WebAssembly.Memory): KernelMemory | undefined {
    const isShared = memory.buffer instanceof SharedArrayBuffer
    const module = kernelModule(isShared ? "kernel-shared" : "kernel")
    return module && new KernelMemory(module, memory)
  }

  /**
   * Undefined without a compiled kernel, for more than 4 GiB, and where the system refuses: a memory reserves
   * 10 GiB of address space, which `ulimit -v` may not allow.
   */
  static create(sizeBytes: number): KernelMemory | undefined {
    const module = kernelModule()
    if (module === undefined || sizeBytes > MEMORY_BYTES_MAX) return undefined
    try {
      return new KernelMemory(module, new WebAssembly.Memory({ initial: Math.ceil(sizeBytes / PAGE_BYTES) }))
    } catch (error) {
      if (error instanceof RangeError) return undefined
      throw error
    }
  }

  get sizeBytes(): number {
    return this.#memory.buffer.byteLength
  }

  get floats(): Float32Array<ArrayBuffer> {
    return this.#current().floats
  }

  get integers(): Int32Array {
    return this.#current().integers
  }

  get shorts(): Int16Array {
    return this.#current().shorts
  }

  get bytes(): Uint8Array {
    return this.#current().bytes
  }

  /**
   * Makes the memory at least this large; arrays taken from it before are empty then. False if that cannot
   * be.
   */
  grow(sizeBytes: number): boolean {
    const missing = Math.ceil((sizeBytes - this.sizeBytes) / PAGE_BYTES)
    if (missing <= 0) return true
    try {
      this.#memory.grow(missing)
    } catch (error) {
      if (error instanceof RangeError) return false
      throw error
    } finally {
      this.#views = undefined
    }
    return true
  }

  refresh(): void {
    this.#views = undefined
  }

  #current() {
    const { buffer } = this.#memory
    this.#views ??= {
      floats: new Float32Array(buffer),
      integers: new Int32Array(buffer),
      shorts: new Int16Array(buffer),
      bytes: new Uint8Array(buffer),
    }
    return this.#views
  }
}

let scratch: KernelMemory | undefined

/**
 * This thread's scratch memory with at least so many bytes; its content is whatever the last user left.
 * Undefined as for {@link KernelMemory.create}.
 */
export function scratchMemory(sizeBytes: number): KernelMemory | undefined {
  scratch ??= KernelMemory.create(sizeBytes)
  return scratch?.grow(sizeBytes) ? scratch : undefined
}

/** Floats per query or point as the kernel takes them. */
export const packedLength = (dim: number): number => Math.ceil(dim / 4) * 4

/** Writes a query or point, from `start` on, as assembly/kernel.ts says. */
export function pack(
  target: Float32Array,
  start: number,
  vector: ArrayLike<number>,
  from: number,
  dim: number,
): void {
  const whole = dim - (dim % 4)
  for (let i = 0; i < whole; i++) target[start + i] = vector[from + i]!
  if (whole === dim) return
  for (let lane = 0; lane < 4; lane++) {
    const element = dim - 4 + lane
    target[start + whole + lane] = element < whole ? 0 : vector[from + element]!
  }
}
