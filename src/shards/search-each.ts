/** For pools whose engine knows one shard at a time: each is asked by itself. */
import { throwIfAborted } from "../errors.js"
import type { ShardAnswer, ShardReader } from "./backend.js"
import type { ShardQuery } from "./query.js"

/** The readers that a pool has opened. */
export class ReadersApart {
  readonly #own = new WeakSet<ShardReader>()

  /** Takes a reader that the pool has just opened, and gives it back. */
  add<Reader extends ShardReader>(reader: Reader): Reader {
    this.#own.add(reader)
    return reader
  }

  /** `search` of the pool. */
  async search(shards: readonly ShardReader[], query: ShardQuery): Promise<readonly ShardAnswer[]> {
    if (!shards.every((shard) => this.#own.has(shard)))
      throw new Error("a shard that is asked is not open in this pool")
    const answers = await Promise.all(shards.map((shard) => searchAlone(shard, query)))
    throwIfAborted(query.signal)
    return answers
  }
}

/** What a shard answers by itself. Never rejects. */
export async function searchAlone(shard: ShardReader, query: ShardQuery): Promise<ShardAnswer> {
  try {
    return { hits: await shard.search(query) }
  } catch (error) {
    return { error }
  }
}
