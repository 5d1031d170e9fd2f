/**
 * A pool that opens shards from ranges of their files, where a source has no local copy, beside those that
 * another pool opens from files.
 */
import { abortable } from "../../../async/abortable.js"
import { closed, throwIfAborted } from "../../../errors.js"
import type { IndexDescription, ShardAnswer, ShardPool, ShardReader, ShardSpec } from "../../backend.js"
import type { ShardQuery } from "../../query.js"
import type { ShardSource } from "../../source.js"
import { CELLS } from "../schema.js"
import { Candidates } from "./candidates.js"
import { RangedReader } from "./reader.js"
import { searchRanged } from "./search.js"
import { isRanged, RangedShard } from "./shard.js"

export function withRanges(files: ShardPool): ShardPool {
  return new RangedPool(files)
}

class RangedPool implements ShardPool {
  /** Opens and searches what has a local copy. */
  readonly #files: ShardPool
  readonly #candidates = new Candidates()
  readonly #own = new WeakSet<ShardReader>()
  #isClosed = false

  constructor(files: ShardPool) {
    this.#files = files
  }

  async open(
    source: ShardSource,
    spec: ShardSpec,
    index: IndexDescription,
    rows?: number | undefined,
  ): Promise<ShardReader> {
    const openWhole = () => this.#files.open(source, spec, index, rows)
    if (source.isLocal || !isRanged(source) || index.kind !== CELLS) return openWhole()
    if (this.#isClosed) throw closed("the shard pool is closed")
    const shard = await RangedShard.open(source, spec, rows)
    const reader = new RangedReader(
      shard,
      openWhole,
      async (one, query) => (await this.search([one], query))[0]!,
    )
    this.#own.add(reader)
    return reader
  }

  async search(readers: readonly ShardReader[], query: ShardQuery): Promise<readonly ShardAnswer[]> {
    throwIfAborted(query.signal)
    const searching = this.#search(readers, query)
    for (const reader of readers) if (this.#isOwn(reader)) reader.hold(searching)
    const answers = await abortable(searching, query.signal)
    throwIfAborted(query.signal)
    return readers.map((reader) => answers.get(reader)!)
  }

  async #search(
    readers: readonly ShardReader[],
    query: ShardQuery,
  ): Promise<ReadonlyMap<ShardReader, ShardAnswer>> {
    const answers = new Map<ShardReader, ShardAnswer>()
    const own = readers.filter((reader) => this.#isOwn(reader))
    for (const reader of own) {
      const error = reader.closedError
      if (error !== undefined) answers.set(reader, { error })
    }
    await this.#searchRanged(
      own.filter((reader) => !answers.has(reader)),
      query,
      answers,
    )
    // What is not answered yet is searched in files, once they are there.
    const wholes = new Map<ShardReader, ShardReader>()
    const fetch = async (reader: ShardReader): Promise<void> => {
      try {
        wholes.set(reader, this.#isOwn(reader) ? await reader.whole() : reader)
      } catch (error) {
        answers.set(reader, { error })
      }
    }
    await Promise.all(readers.filter((reader) => !answers.has(reader)).map(fetch))
    const asked = [...wholes]
    const found =
      asked.length === 0
        ? []
        : await this.#files.search(
            asked.map(([, whole]) => whole),
            query,
          )
    for (const [i, [reader]] of asked.entries()) answers.set(reader, found[i]!)
    return answers
  }

  close(): Promise<void> {
    this.#isClosed = true
    return this.#files.close()
  }

  #isOwn(reader: ShardReader): reader is RangedReader {
    return this.#own.has(reader)
  }

  /** Answers what can be answered from ranges. */
  async #searchRanged(
    readers: readonly RangedReader[],
    query: ShardQuery,
    answers: Map<ShardReader, ShardAnswer>,
  ): Promise<void> {
    const ranged = readers.filter((reader) => reader.codesFor(query) !== undefined)
    const codes = ranged[0]?.codesFor(query)
    const { effort } = query
    if (codes === undefined || effort === undefined) return
    const shards = ranged.map(({ shard }) => shard)
    const found = await searchRanged(shards, { query, effort, codes }, this.#candidates)
    if (found === undefined) return
    for (const [i, reader] of ranged.entries()) answers.set(reader, found[i]!)
  }
}
