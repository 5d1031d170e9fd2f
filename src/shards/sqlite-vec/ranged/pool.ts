/**
 * A pool that opens shards from ranges of their files, where a source has no local copy, beside those that
 * another pool opens from files.
 */
import { throwIfAborted } from "../../../errors.js"
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
    const answers = new Map<ShardReader, ShardAnswer>()
    const ranged = readers.filter((reader) => this.#isOwn(reader)).filter((reader) => reader.codesFor(query))
    await this.#searchRanged(ranged, query, answers)
    // What is not answered yet is searched in files, once they are there.
    const wholes = new Map<ShardReader, ShardReader>()
    const fetch = async (reader: ShardReader): Promise<void> => {
      if (answers.has(reader)) return
      if (!this.#isOwn(reader)) wholes.set(reader, reader)
      else {
        await reader.whole().then(
          (whole) => wholes.set(reader, whole),
          (error: unknown) => answers.set(reader, { error }),
        )
      }
    }
    await Promise.all(readers.map(fetch))
    const asked = readers.filter((reader) => wholes.has(reader))
    const found =
      asked.length === 0
        ? []
        : await this.#files.search(
            asked.map((reader) => wholes.get(reader)!),
            query,
          )
    for (const [i, reader] of asked.entries()) answers.set(reader, found[i]!)
    throwIfAborted(query.signal)
    return readers.map((reader) => answers.get(reader)!)
  }

  close(): Promise<void> {
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
    const codes = readers[0]?.codesFor(query)
    const { effort } = query
    if (codes === undefined || effort === undefined) return
    const open: RangedReader[] = []
    const search = async () => {
      const shards = readers.map(({ shard }) => shard)
      return searchRanged(shards, { query, effort, codes }, this.#candidates)
    }
    // Each of them waits for it before it is closed.
    const running = search()
    await Promise.all(
      readers.map((reader) =>
        reader
          .run(() => running)
          .then(
            () => open.push(reader),
            (error: unknown) => answers.set(reader, { error }),
          ),
      ),
    )
    const found = await running
    if (found === undefined) return
    for (const [i, reader] of readers.entries()) if (open.includes(reader)) answers.set(reader, found[i]!)
  }
}
