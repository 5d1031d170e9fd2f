/** A reader of a shard that is not on the local disk. What takes all of the shard has it fetched whole. */
import { closed } from "../../../errors.js"
import type { Id, StoredRecord } from "../../../records.js"
import type { SnapshotCodes } from "../../../vectors/cells/codebook.js"
import type { ShardAnswer, ShardHit, ShardReader } from "../../backend.js"
import { toStoredIds } from "../../checks.js"
import type { ShardQuery } from "../../query.js"
import { viewRecord } from "../../stored.js"
import type { RangedShard } from "./shard.js"

/** Ids a call that are looked up in ranges, at most. */
const IDS_MAX = 64

export class RangedReader implements ShardReader {
  readonly rows: number
  readonly bytes: number
  readonly shard: RangedShard
  readonly #openWhole: () => Promise<ShardReader>
  readonly #search: (reader: RangedReader, query: ShardQuery) => Promise<ShardAnswer>
  #whole: Promise<ShardReader> | undefined
  readonly #running = new Set<Promise<unknown>>()
  #closing: Promise<void> | undefined

  /**
   * `openWhole` opens the shard from a local copy, `search` is that of the pool, which knows when that is
   * needed.
   */
  constructor(
    shard: RangedShard,
    openWhole: () => Promise<ShardReader>,
    search: (reader: RangedReader, query: ShardQuery) => Promise<ShardAnswer>,
  ) {
    this.rows = shard.cells.rows
    this.bytes = shard.cells.bytes.length
    this.shard = shard
    this.#openWhole = openWhole
    this.#search = search
  }

  /** What it takes to answer this query in ranges; undefined if all rows are to be looked at. */
  codesFor({ effort }: ShardQuery): SnapshotCodes | undefined {
    const isCoded = this.shard.cells.coded !== undefined
    return this.#whole === undefined && effort !== undefined && isCoded ? this.shard.spec.codes : undefined
  }

  /** The reader of the whole shard. */
  whole(): Promise<ShardReader> {
    if (this.#whole === undefined) {
      const opening = this.#openWhole()
      this.#whole = opening
      // Who asks next may have more luck.
      opening.catch(() => {
        this.#whole = undefined
      })
    }
    return this.#whole
  }

  /** Once it is closed. */
  get closedError(): Error | undefined {
    return this.#closing && closed(`${this.shard.name} is closed`)
  }

  /** What must have ended before the reader is closed. */
  hold(running: Promise<unknown>): void {
    this.#running.add(running)
    const ended = () => this.#running.delete(running)
    running.then(ended, ended)
  }

  async search(query: ShardQuery): Promise<readonly ShardHit[]> {
    const answer = await this.#search(this, query)
    if ("error" in answer) throw answer.error
    return answer.hits
  }

  get(ids: readonly Id[]): Promise<readonly (StoredRecord | undefined)[]> {
    const found = this.#get(ids)
    this.hold(found)
    return found
  }

  async #get(ids: readonly Id[]): Promise<readonly (StoredRecord | undefined)[]> {
    if (this.closedError !== undefined) throw this.closedError
    const stored = toStoredIds(ids, this.shard.spec)
    if (this.#whole !== undefined || ids.length > IDS_MAX) return (await this.whole()).get(ids)
    const positions = await this.shard.find(stored)
    const found = positions.flatMap((position, place) =>
      position === undefined ? [] : [{ position, place }],
    )
    const rows = await this.shard.rows(found.map(({ position }) => position))
    const records = new Array<StoredRecord | undefined>(ids.length).fill(undefined)
    const { dim } = this.shard.spec
    for (const [i, { place }] of found.entries()) {
      const view = viewRecord(rows, i, this.shard.spec, this.shard.name)
      records[place] = { ...view, vector: rows.vectors.slice(i * dim, (i + 1) * dim) }
    }
    return records
  }

  async *records(): AsyncIterable<readonly StoredRecord[]> {
    if (this.closedError !== undefined) throw this.closedError
    yield* (await this.whole()).records()
  }

  close(): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  async #close(): Promise<void> {
    await Promise.allSettled(this.#running)
    const whole = await this.#whole?.catch(() => undefined)
    await whole?.close()
  }
}
