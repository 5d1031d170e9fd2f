/**
 * Pools of shards by what is thought of the root that they come from.
 */
import { assertMilliseconds, assertWholeNumber, invalidInput } from "../errors.js"
import type { PoolOptions, ShardOpener, ShardPool } from "./backend.js"
import { createIsolatedPool, type IsolationOptions } from "./isolated/pool.js"

export const TRUSTS = ["trusted", "untrusted"] as const

/**
 * Whether those who can write to a root are trusted. Shards of one that is "untrusted" are read in a process
 * of their own, which knows none of our environment's secrets, and which is killed when it hangs or takes too
 * much memory: what a damaged shard can do to a native parser ends there, as `Corrupt`.
 */
export type Trust = (typeof TRUSTS)[number]

export interface TrustOptions {
  /** Default "trusted". */
  readonly trust?: Trust | undefined
  /** With "untrusted": bounds of the process that reads shards. */
  readonly isolation?: IsolationOptions | undefined
}

/** Throws `InvalidInput`, naming the option, for what these options cannot be. */
export function assertTrust({ trust, isolation }: TrustOptions): void {
  if (trust !== undefined && !TRUSTS.includes(trust)) {
    throw invalidInput(`option trust is ${JSON.stringify(trust)}, expected one of ${TRUSTS.join(", ")}`, {
      trust,
    })
  }
  assertWholeNumber("isolation.memoryBytes", isolation?.memoryBytes, 1)
  if (isolation?.timeoutMs !== undefined) assertMilliseconds("isolation.timeoutMs", isolation.timeoutMs)
}

/** What all open shards of one reader share, in this process or in one of their own. */
export function createShardPool(
  opener: ShardOpener,
  options: PoolOptions,
  { trust, isolation }: TrustOptions = {},
): ShardPool {
  return trust === "untrusted" ? createIsolatedPool(opener, options, isolation) : opener.createPool(options)
}
