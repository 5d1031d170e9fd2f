/** The sentences of bench/data/sentences: rows, queries of another kind than the rows, exact answers. */
import { readFileSync } from "node:fs"
import { normalised } from "../src/vectors/normalise.js"
import { fromRepository } from "./paths.js"

export interface Sentences {
  readonly dim: number
  readonly rows: number
  /** `rows × dim`, of length 1. */
  readonly vectors: Float32Array
  /** 1,000, of length 1. */
  readonly queries: Float32Array
  /** The nearest 100 rows of each query, nearest first. */
  readonly nearest: Int32Array
}

const DIM = 384

const read = (name: string) => new Uint8Array(readFileSync(fromRepository("bench/data/sentences", name)))
const unpack = (name: string) => normalised(Float32Array.from(new Int8Array(read(name).buffer)), DIM)

/** The queries alone, for who counts memory. */
export const loadSentenceQueries = (): Pick<Sentences, "dim" | "queries"> => ({
  dim: DIM,
  queries: unpack("queries.i8"),
})

export function loadSentences(): Sentences {
  const vectors = unpack("rows.i8")
  return {
    ...loadSentenceQueries(),
    rows: vectors.length / DIM,
    vectors,
    nearest: new Int32Array(read("gt.i32").buffer),
  }
}
