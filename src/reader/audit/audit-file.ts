/**
 * The vectors of audited queries, as a file that the next build takes as `--queries`: `.fvecs`, each vector
 * with its dimension before it, so that one can be added at any time.
 */
import { type FileHandle, open } from "node:fs/promises"
import { messageOf } from "../../errors.js"
import type { Logger } from "../../logger.js"
import { OWNER_ONLY } from "../../storage/files.js"

/** It grows to so many bytes by default: 43,000 vectors of 384 dimensions. */
export const AUDIT_FILE_BYTES = 64 * 2 ** 20

const DIM_BYTES = 4

export class AuditFile {
  readonly #path: string
  readonly #maxBytes: number
  readonly #logger: Logger
  #handle: FileHandle | undefined
  #last: Promise<void> = Promise.resolve()
  #ended = false

  /** Nothing is opened before the first vector. */
  constructor(path: string, maxBytes: number, logger: Logger) {
    this.#path = path
    this.#maxBytes = maxBytes
    this.#logger = logger
  }

  /** Adds a vector, after those before. What fails is logged, and ends it; searches go on. */
  add(vector: ArrayLike<number>): void {
    this.#last = this.#last
      .then(() => this.#add(Float32Array.from(vector)))
      .catch((error) => {
        this.#end(`audited queries are not kept in ${this.#path} any more: ${messageOf(error)}`)
      })
  }

  /** Resolves when all vectors are written. */
  async close(): Promise<void> {
    await this.#last
    this.#ended = true
    await this.#handle?.close()
    this.#handle = undefined
  }

  async #add(vector: Float32Array): Promise<void> {
    if (this.#ended) return
    const bytes = Buffer.alloc(DIM_BYTES + vector.byteLength)
    bytes.writeInt32LE(vector.length)
    for (const [i, value] of vector.entries()) bytes.writeFloatLE(value, DIM_BYTES + 4 * i)
    this.#handle ??= await openFor(this.#path, vector.length, bytes.length)
    const { size } = await this.#handle.stat()
    if (size + bytes.length > this.#maxBytes)
      return this.#end(`${this.#path} is full: ${this.#maxBytes} bytes of audited queries`)
    await this.#handle.appendFile(bytes)
  }

  #end(why: string): void {
    if (this.#ended) return
    this.#ended = true
    this.#logger.warn({ path: this.#path }, why)
  }
}

/** Opens a file of vectors of this dimension, less a last one that was not written to its end. */
async function openFor(path: string, dim: number, recordBytes: number): Promise<FileHandle> {
  const handle = await open(path, "a+", OWNER_ONLY)
  try {
    const { size } = await handle.stat()
    if (size === 0) return handle
    const { buffer, bytesRead } = await handle.read(Buffer.alloc(DIM_BYTES), 0, DIM_BYTES, 0)
    const found = bytesRead === DIM_BYTES ? buffer.readInt32LE() : undefined
    if (bytesRead === DIM_BYTES && found !== dim)
      throw new Error(`it has vectors of ${found} dimensions, expected ${dim}`)
    await handle.truncate(size - (size % recordBytes))
    return handle
  } catch (error) {
    await handle.close()
    throw error
  }
}
