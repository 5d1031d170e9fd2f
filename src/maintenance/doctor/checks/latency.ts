/** How long small reads and writes take. */
import type { Judgement } from "../diagnosis.js"
import type { Trial } from "../trial.js"
import type { StoreCheck } from "./check.js"
import { ok, warning } from "./judgements.js"

interface LatencySeen {
  readonly getMs: readonly number[]
  readonly putMs: readonly number[]
}

const LATENCY_CALLS = 10

/** Times small writes and reads, one after the other. */
async function observeLatency({ store, key }: Trial, signal: AbortSignal): Promise<LatencySeen> {
  const at = key("latency")
  const timed = async (call: () => Promise<unknown>): Promise<number> => {
    const startMs = performance.now()
    await call()
    return performance.now() - startMs
  }
  const getMs: number[] = []
  const putMs: number[] = []
  for (let i = 0; i < LATENCY_CALLS; i++) {
    putMs.push(await timed(() => store.put(at, new Uint8Array(1024), { signal })))
    getMs.push(await timed(() => store.get(at, { signal })))
  }
  return { getMs, putMs }
}

/** Where opening a snapshot, three reads one after the other, takes more than a second. */
const SLOW_GET_MS = 400

export function judgeLatency({ getMs, putMs }: LatencySeen): Judgement {
  const figures = (name: string, times: readonly number[]): string =>
    `${name} p50 ${milliseconds(median(times))}, max ${milliseconds(Math.max(...times))}`
  const finding = `${figures("GET", getMs)}; ${figures("PUT", putMs)} (1 kB, one after the other)`
  if (median(getMs) <= SLOW_GET_MS) return ok(finding)
  return warning(
    finding,
    "opening a snapshot takes three reads one after the other, and a search one more per shard not yet in the cache",
  )
}

function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? 0
}

const milliseconds = (value: number): string => `${value < 10 ? value.toFixed(1) : Math.round(value)} ms`

export const latency: StoreCheck = {
  name: "latency",
  dispensable: true,
  make: async (...at) => judgeLatency(await observeLatency(...at)),
}
