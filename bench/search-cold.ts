/** Cold queries of bench:search: what a fresh process asks of the store until its first answer. */
import { setTimeout } from "node:timers/promises"
import { openSnapshot, type StoreOptions } from "../src/index.js"
import { openStore } from "../src/storage/open.js"
import { wrapStore } from "../src/storage/wrap-store.js"
import { openPeer, type PeerSearch } from "./peer.js"
import { round, withDirectory } from "./support.js"

/** What is asked: so many neighbours, from so many shards. */
export interface ColdRequest {
  readonly query: Float32Array
  readonly k: number
  readonly probes: number
}

/**
 * How much longer each request takes where round trips are counted: short ones that merely begin one after
 * another look like a chain.
 */
const HELD_MS = 50

/**
 * A query in a fresh process's situation: what it asks of the store, and once more with slow requests, how
 * often it waits for them.
 */
export async function coldQuery(url: string, store: StoreOptions, request: ColdRequest) {
  const { requests: _, ...figures } = await firstAnswer(url, store, request, 0)
  const { requests } = await firstAnswer(url, store, request, HELD_MS)
  const { probes, asked, lists, mib, openMs, firstMs } = figures
  return { probes, requests: asked, lists, roundTrips: longestChain(requests), mib, openMs, firstMs }
}

/** Opens with nothing open and nothing on disk, asks once, and times every request to the store. */
async function firstAnswer(
  url: string,
  store: StoreOptions,
  { query, k, probes }: ColdRequest,
  heldMs: number,
) {
  return withDirectory(async (cacheDir) => {
    const requests: { readonly startMs: number; endMs: number }[] = []
    const opened = openStore(url, store)
    const timed = wrapStore(opened, async (_what, work) => {
      const request = { startMs: performance.now(), endMs: Infinity }
      requests.push(request)
      try {
        if (heldMs > 0) await setTimeout(heldMs)
        return await work()
      } finally {
        request.endMs = performance.now()
      }
    })
    const start = performance.now()
    const reader = await openSnapshot(timed, { cacheDir })
    const openMs = performance.now() - start
    const { shards } = await reader.search(query, { k, probes })
    const firstMs = performance.now() - start
    const { get, getFile, head, list, bytesRead } = reader.stats().requests
    await reader.close()
    opened.close()
    return {
      probes: shards.asked.length,
      asked: get + getFile + head,
      lists: list,
      mib: round(bytesRead / 2 ** 20, 1),
      openMs: Math.round(openMs),
      firstMs: Math.round(firstMs),
      requests,
    }
  })
}

/**
 * How many requests have had to wait for one another: the most of them of which each began after the one
 * before had ended.
 */
function longestChain(requests: readonly { readonly startMs: number; readonly endMs: number }[]): number {
  let length = 0
  let freeAtMs = -Infinity
  for (const { startMs, endMs } of [...requests].sort((a, b) => a.endMs - b.endMs)) {
    if (startMs < freeAtMs) continue
    length++
    freeAtMs = endMs
  }
  return length
}

/** Until the peer's first answer, with nothing in its caches. */
export async function coldPeer(
  url: string,
  store: StoreOptions,
  search: PeerSearch,
  effort: number,
  query: Float32Array,
): Promise<number> {
  const start = performance.now()
  const peer = await openPeer(url, search, store)
  await peer(effort)(query)
  return Math.round(performance.now() - start)
}
