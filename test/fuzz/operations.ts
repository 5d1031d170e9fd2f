/** All that is done with the root of a case: what each call answers, or the error that it ends with. */
import { run as runCli } from "../../cli/run.js"
import {
  collect,
  type FoundRecord,
  type Id,
  listRuns,
  openSnapshot,
  type Reader,
  readHistory,
  type SearchOptions,
  type SearchResult,
  verifyRoot,
} from "../../src/index.js"
import type { ObjectStore } from "../../src/storage/store.js"
import type { Objects } from "./bases.js"

export interface Plan {
  readonly queries: readonly Float32Array[]
  /** The last one is of no record. */
  readonly ids: readonly Id[]
  readonly hasTarget: boolean
  /** Whether all contents are read by `verify`, too. */
  readonly deep: boolean
  /** LanceDB's files are for who trusts them, or for a process of their own. */
  readonly trust: "trusted" | "untrusted"
  readonly cacheDir: string
  readonly tempDir: string
  /** Whether queries find shards by their vector. */
  readonly canProbe: boolean
}

export interface Search {
  readonly query: Float32Array
  readonly k: number
  readonly all: boolean
  readonly result: SearchResult
}

/** What the calls of a case have answered. */
export interface Answers {
  readonly errors: { readonly call: string; readonly error: unknown }[]
  readonly searches: Search[]
  records: readonly (FoundRecord | undefined)[] | undefined
  info: Reader["snapshot"] | undefined
  intact: boolean | undefined
  kept: readonly string[] | undefined
  readonly printed: { readonly command: string; readonly code: number; readonly text: string }[]
}

/** No call needs so long; one that ends because of it counts as one that hangs. */
const TIME_LIMIT_MS = 60_000

/** Twice for each shard that is to blame, so that the call ends well before its own time is up. */
const ISOLATION = { timeoutMs: 10_000 }

export async function play(store: ObjectStore, objects: Objects, plan: Plan): Promise<Answers> {
  const answers: Answers = {
    errors: [],
    searches: [],
    records: undefined,
    info: undefined,
    intact: undefined,
    kept: undefined,
    printed: [],
  }
  const attempt = async (call: string, work: () => Promise<void>): Promise<void> => {
    try {
      await work()
    } catch (error) {
      answers.errors.push({ call, error })
    }
  }
  for (const [key, body] of objects) await store.put(key, body)

  await attempt("open", async () => {
    const { cacheDir, trust } = plan
    const isolation = trust === "untrusted" ? ISOLATION : undefined
    const limits = { openTimeoutMs: TIME_LIMIT_MS, timeoutMs: TIME_LIMIT_MS, queueTimeoutMs: TIME_LIMIT_MS }
    const reader = await openSnapshot(store, { cacheDir, workers: 1, trust, isolation, ...limits })
    try {
      answers.info = reader.snapshot
      await read(reader, plan, answers, attempt)
    } finally {
      await reader.close()
    }
  })
  await attempt("verify", async () => {
    const { deep, tempDir, trust } = plan
    const isolation = trust === "untrusted" ? ISOLATION : undefined
    const { intact } = await verifyRoot(store, { deep, tempDir, trust, isolation, snapshot: "all" })
    answers.intact = intact
  })
  await attempt("gc", async () => {
    const { kept } = await collect(store, { keepLast: 1 })
    answers.kept = kept.map(({ run }) => run)
  })
  await attempt("history", async () => void (await readHistory(store)))
  await attempt("runs", async () => void (await listRuns(store)))
  for (const command of [["info"], ["history"], ["runs", "--json"]]) {
    await attempt(command[0]!, async () => void answers.printed.push(await print(command, store.url)))
  }
  return answers
}

async function read(
  reader: Reader,
  plan: Plan,
  answers: Answers,
  attempt: (call: string, work: () => Promise<void>) => Promise<void>,
): Promise<void> {
  const ways: readonly SearchOptions[] = [
    { shards: "all", k: 10 },
    { shards: "all", k: 5, partial: "allow" },
    ...(plan.canProbe ? [{ probes: 1, k: 5 }] : []),
    ...(plan.hasTarget ? [{ targetRecall: 0.9, k: 5 }] : []),
  ]
  for (const [i, options] of ways.entries()) {
    const query = plan.queries[i % plan.queries.length]!
    const all = options.shards === "all"
    await attempt(`search ${JSON.stringify(options)}`, async () => {
      const result = await reader.search(query, options)
      answers.searches.push({ query, k: options.k!, all, result })
    })
  }
  await attempt("searchMany", async () => {
    const results = await reader.searchMany(plan.queries, { shards: "all", k: 3 })
    for (const [i, result] of results.entries())
      answers.searches.push({ query: plan.queries[i]!, k: 3, all: true, result })
  })
  await attempt("get", async () => {
    answers.records = await reader.get(plan.ids)
  })
  await attempt("warm", async () => void (await reader.warm()))
  await attempt("health", async () => void (await reader.health({ trial: true })))
}

async function print(command: readonly string[], url: string) {
  let text = ""
  const write = (part: string): void => {
    text += part
  }
  const output = { write, isTTY: true, columns: 100 }
  const io = { stdout: output, stderr: output, env: { NO_COLOR: "1" }, cwd: "/nowhere" }
  const [name, ...flags] = command
  const code = await runCli([name!, url, ...flags], { ...io, signal: new AbortController().signal })
  return { command: name!, code, text }
}
