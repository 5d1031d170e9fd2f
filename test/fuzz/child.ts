/** Plays cases that the parent names, one after the other, in a process of its own. */
import { mkdir, rm } from "node:fs/promises"
import { join } from "node:path"
import { messageOf } from "../../src/errors.js"
import { type Id, openSnapshot } from "../../src/index.js"
import { openMemoryStore } from "../../src/storage/memory.js"
import { type BaseName, LIVE_RUN, type Objects, readBase, recordsOf } from "./bases.js"
import type { FuzzCase, Target } from "./case.js"
import { type Judgement, judge, type Truth } from "./judge.js"
import { type Plan, play } from "./operations.js"

/** A case as it crosses to the process that plays it. */
export interface Task {
  readonly base: BaseName
  /** What is altered, by key; `undefined` is removed. */
  readonly changed: ReadonlyMap<string, Uint8Array | undefined>
  readonly target: Target
  readonly what: string
  readonly replaced: FuzzCase["replaced"]
  /** Whether `verify` reads all contents, too. */
  readonly deep: boolean
}

export type Reply = { readonly played: Judgement } | { readonly failed: string }

interface Prepared {
  readonly objects: Objects
  readonly truth: Truth
  readonly plan: Omit<Plan, "deep">
}

const [basesDir, tempDir] = process.argv.slice(2) as [string, string]
const prepared = new Map<BaseName, Promise<Prepared>>()
let spaces = 0

async function prepare(base: BaseName): Promise<Prepared> {
  const objects = await readBase(join(basesDir, base))
  const records = recordsOf(base)
  const cacheDir = join(tempDir, "cache")
  const store = openMemoryStore(`fuzz-truth-${base}`)
  for (const [key, body] of objects) await store.put(key, body)
  await using reader = await openSnapshot(store, { cacheDir, workers: 1 })
  const found = await reader.get(records.map(({ id }) => id))
  const { metric, idType, recall, backend } = reader.snapshot
  const ids: Id[] = [3, 17, 44, 61, 99].map((i) => found[i]!.id)
  ids.push(idType === "string" ? "nobody" : 123_456_789)
  return {
    objects,
    truth: {
      metric,
      run: LIVE_RUN,
      records: found.map((record, i) => ({ record: record!, vector: Float32Array.from(records[i]!.vector) })),
    },
    plan: {
      queries: [5, 40, 77].map((i) =>
        Float32Array.from(records[i]!.vector, (x, axis) => x + 0.01 * (axis % 3)),
      ),
      ids,
      hasTarget: recall !== undefined,
      canProbe: base !== "cel",
      trust: backend === "lancedb" ? "untrusted" : "trusted",
      cacheDir,
      tempDir,
    },
  }
}

async function playTask({ base, changed, deep, ...task }: Task): Promise<Judgement> {
  const known = prepared.get(base) ?? prepare(base)
  prepared.set(base, known)
  const { objects, truth, plan } = await known
  const all = new Map<string, Uint8Array>(objects)
  for (const [key, bytes] of changed) {
    if (bytes === undefined) all.delete(key)
    else all.set(key, bytes)
  }
  const store = openMemoryStore(`fuzz-${spaces++ % 50}`)
  await rm(plan.cacheDir, { recursive: true, force: true })
  await mkdir(plan.cacheDir, { recursive: true })
  try {
    const whole = { ...plan, deep }
    return judge(task, await play(store, all, whole), truth, whole)
  } finally {
    const keys: string[] = []
    for await (const { key } of store.list("")) keys.push(key)
    await store.delete(keys)
  }
}

process.on("message", async (task: Task) => {
  const reply: Reply = await playTask(task).then(
    (played) => ({ played }),
    (error) => ({ failed: error instanceof Error ? error.stack! : messageOf(error) }),
  )
  process.send!(reply)
})
