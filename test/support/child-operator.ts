/**
 * A process of its own that builds, publishes, rolls back and collects as its parent orders (see `operators.ts`), and that
 * can halt at an exact call to the store: to die there, or to wait until it is told to go on.
 */
import {
  collect,
  isVecsnapError,
  type ObjectStore,
  openStore,
  publishRun,
  rollback,
} from "../../src/index.js"
import { buildGeneration, type GenerationOptions, hoursLater, STRICT } from "./generations.js"

export type Operation =
  | ({ readonly do: "build" } & GenerationOptions)
  | { readonly do: "publish"; readonly run: string }
  | { readonly do: "rollback"; readonly to: string }
  /** As if it came an hour later, and as strict as can be. */
  | { readonly do: "collect" }

/** Where to halt: before the call of that number, from 0, among those that count. */
export interface Halt {
  readonly number: number
  /** Which calls count: all of them, or writes and removals. Two halves of a removal of several objects count as two. */
  readonly among: "calls" | "writes"
  /** Only calls with this key count; default: all. */
  readonly key?: string
  /** Die by SIGKILL, or wait. */
  readonly act: "die" | "wait"
}

export interface Order {
  readonly url: string
  readonly operation: Operation
  readonly halt?: Halt
}

export type Outcome =
  | { readonly done: true; readonly run: string | undefined; readonly durationMs: number }
  | { readonly done: false; readonly tag: string; readonly message: string }

export type FromOperator =
  | { readonly type: "ready" | "begun" | "waiting" }
  | { readonly type: "outcome"; readonly outcome: Outcome }
export type ToOperator = { readonly type: "order"; readonly order: Order } | { readonly type: "proceed" }

const tell = (message: FromOperator): void => void process.send!(message)

let proceed = (): void => {}

async function reached({ act }: Halt): Promise<void> {
  if (act === "die") process.kill(process.pid, "SIGKILL")
  const told = new Promise<void>((resolve) => {
    proceed = resolve
  })
  tell({ type: "waiting" })
  await told
}

/** A store that halts where it should, once. */
function haltingStore(inner: ObjectStore, halt: Halt | undefined): ObjectStore {
  let count = 0
  async function pass(kind: "read" | "write", key: string): Promise<void> {
    if (halt === undefined || (halt.among === "writes" && kind === "read")) return
    if (halt.key !== undefined && halt.key !== key) return
    if (count++ === halt.number) await reached(halt)
  }
  return {
    url: inner.url,
    async get(key, options) {
      await pass("read", key)
      return inner.get(key, options)
    },
    async getIfChanged(key, etag, options) {
      await pass("read", key)
      return inner.getIfChanged(key, etag, options)
    },
    async getFile(key, path, options) {
      await pass("read", key)
      return inner.getFile(key, path, options)
    },
    async head(key, options) {
      await pass("read", key)
      return inner.head(key, options)
    },
    async put(key, body, options) {
      await pass("write", key)
      return inner.put(key, body, options)
    },
    async *list(prefix, options) {
      await pass("read", prefix)
      yield* inner.list(prefix, options)
    },
    async delete(keys, options) {
      const middle = Math.ceil(keys.length / 2)
      const failures = []
      for (const half of [keys.slice(0, middle), keys.slice(middle)]) {
        if (half.length === 0) continue
        await pass("write", half[0]!)
        failures.push(...(await inner.delete(half, options)))
      }
      return failures
    },
    close: () => inner.close(),
  }
}

async function perform(store: ObjectStore, operation: Operation): Promise<string | undefined> {
  switch (operation.do) {
    case "build":
      return (await buildGeneration(store, operation)).run
    case "publish":
      return (await publishRun(store, operation.run)).publication.run
    case "rollback":
      return (await rollback(store, operation)).publication.run
    case "collect":
      await collect(hoursLater(store, 1), STRICT)
      return undefined
  }
}

async function obey({ url, operation, halt }: Order): Promise<Outcome> {
  const opened = openStore(url)
  const startMs = performance.now()
  try {
    const run = await perform(haltingStore(opened, halt), operation)
    return { done: true, run, durationMs: performance.now() - startMs }
  } catch (error) {
    if (!isVecsnapError(error)) throw error
    return { done: false, tag: error.tag, message: error.message }
  } finally {
    opened.close()
  }
}

process.on("message", async (message: ToOperator) => {
  if (message.type === "proceed") return proceed()
  tell({ type: "begun" })
  tell({ type: "outcome", outcome: await obey(message.order) })
})
tell({ type: "ready" })
