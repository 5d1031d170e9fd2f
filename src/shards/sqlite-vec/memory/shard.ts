import type { ShardSpec } from "../../backend.js"

/** A shard that is open in a pool, and who uses it. */
export class PoolShard {
  rows = 0
  /** See `OpenedShard`. */
  cells: { readonly bytes: number; readonly count: number } | undefined
  /** When it was asked last and the time before, in queries of the pool. */
  asked = -1
  askedBefore = -1
  #uses = 0
  #onDrained: (() => void) | undefined

  constructor(
    readonly handle: number,
    readonly file: string,
    readonly spec: ShardSpec,
    /** Rows that it must have, if that is known. */
    readonly expected: number | undefined,
  ) {}

  get isInUse(): boolean {
    return this.#uses > 0
  }

  noteAsked(query: number): void {
    this.askedBefore = this.asked
    this.asked = query
  }

  begin(): void {
    this.#uses++
  }

  end(): void {
    this.#uses--
    if (this.#uses === 0) this.#onDrained?.()
  }

  /** Resolves when nobody uses it; nobody may begin to any more. */
  async drained(): Promise<void> {
    if (this.#uses > 0)
      await new Promise<void>((resolve) => {
        this.#onDrained = resolve
      })
  }
}

/** What is to be known of a shard whose rows may give way. */
export interface Holder {
  readonly asked: number
  readonly isInUse: boolean
}

/**
 * Whose rows leave memory for those of a shard that was asked for at the query of number `askedBefore`, and
 * is again: of those whose last query is longer ago, the longest. Undefined if there are none: where all
 * shards of a set that is too large are asked in turn, none gives way for another that will do the same for
 * it.
 */
export function toGiveWay<T extends Holder>(holders: Iterable<T>, askedBefore: number): T | undefined {
  let oldest: T | undefined
  for (const holder of holders) {
    if (holder.isInUse || holder.asked >= askedBefore) continue
    if (oldest === undefined || holder.asked < oldest.asked) oldest = holder
  }
  return oldest
}
