/** Data sets of bench:search: rows, queries to tune with and to measure with, and what they should find. */
import { existsSync, mkdirSync, renameSync, writeFileSync } from "node:fs"
import { dirname } from "node:path"
import { encodeNpy } from "../src/vectors/npy.js"
import type { BuildRequest } from "./build-child.js"
import { fromRepository } from "./paths.js"
import { loadSentences } from "./sentences.js"
import { bruteForce, type Found } from "./support.js"
import { heldOutRows, loadWords, pickRows, vectorOf, WORDS_FILE, withoutRows } from "./words.js"

export interface SearchSet {
  readonly name: string
  readonly dim: number
  readonly ids: readonly string[]
  /** `ids.length × dim`. */
  readonly vectors: Float32Array
  /** With these all sides are tuned to a recall. */
  readonly tuning: readonly Float32Array[]
  readonly tuningTruth: Found["ids"]
  /** With these the tuned sides are measured. */
  readonly measured: readonly Float32Array[]
  readonly measuredTruth: Found["ids"]
  readonly shards: number
  /** Of IVF_FLAT indexes that are tried. */
  readonly partitions: readonly number[]
  /** What a build reads, with the same ids. */
  readonly input: Pick<BuildRequest, "input" | "sql">
}

const HELD_OUT = 2000
const SENTENCES_FILE = fromRepository(".cache/search/sentences.npy")

/** The words without 2,000 of them, which are the queries; what they should find is brute force. */
async function words(k: number): Promise<SearchSet> {
  const all = await loadWords()
  const heldOut = heldOutRows(all.rows, HELD_OUT)
  const { kept, sql } = withoutRows(all, heldOut)
  const queries = heldOut.map((row) => vectorOf(all, row).slice())
  const truth = bruteForce(all, kept, queries, k).ids
  return {
    name: "words",
    ...pickRows(all, kept),
    ...halves(queries, truth),
    shards: 64,
    partitions: [292, 584, 1168],
    input: { input: WORDS_FILE, sql },
  }
}

/** The sentences with their 1,000 real queries, whose exact answers are part of the set. */
async function sentences(k: number): Promise<SearchSet> {
  const { dim, rows, vectors, queries: packed, nearest } = loadSentences()
  if (!existsSync(SENTENCES_FILE)) {
    mkdirSync(dirname(SENTENCES_FILE), { recursive: true })
    writeFileSync(`${SENTENCES_FILE}.part`, encodeNpy({ shape: [rows, dim], data: vectors }))
    renameSync(`${SENTENCES_FILE}.part`, SENTENCES_FILE)
  }
  const count = packed.length / dim
  const queries = Array.from({ length: count }, (_, i) => packed.slice(i * dim, (i + 1) * dim))
  const known = nearest.length / count
  const truth = queries.map((_, i) => Array.from(nearest.subarray(i * known, i * known + k), String))
  return {
    name: "sentences",
    dim,
    // Rows of an .npy file have their numbers as ids.
    ids: Array.from({ length: rows }, (_, row) => String(row)),
    vectors,
    ...halves(queries, truth),
    shards: 16,
    partitions: [100, 200, 400],
    input: { input: SENTENCES_FILE },
  }
}

function halves(queries: readonly Float32Array[], truth: Found["ids"]) {
  const half = queries.length >> 1
  return {
    tuning: queries.slice(0, half),
    tuningTruth: truth.slice(0, half),
    measured: queries.slice(half),
    measuredTruth: truth.slice(half),
  }
}

/** By name; the number is that of the true neighbours. */
export const SEARCH_SETS: Readonly<Record<string, (k: number) => Promise<SearchSet>>> = { words, sentences }
