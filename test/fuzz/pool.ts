/** Processes that play cases: used again until one dies, is too slow, or takes too much memory. */
import { type ChildProcess, fork } from "node:child_process"
import { readFileSync } from "node:fs"
import { fromRoot } from "../support/paths.js"
import type { Reply, Task } from "./child.js"
import type { Verdict } from "./judge.js"

export type Outcome = Verdict | "crash" | "memory"

export interface Result {
  readonly outcome: Outcome
  readonly reasons: readonly string[]
  readonly ms: number
  /** Largest resident memory that was seen of the process, in bytes; 0 where the system does not tell. */
  readonly bytes: number
}

export interface Limits {
  readonly ms: number
  readonly bytes: number
}

/** A case takes some 100 ms and a process 200 MiB; machines are slow, and others use them too. */
export const LIMITS: Limits = { ms: 120_000, bytes: 2 ** 30 }

const HEAP_MIB = 768
const LOOK_MS = 25

export class Player {
  readonly #args: readonly string[]
  readonly #limits: Limits
  #child: ChildProcess | undefined
  #stderr = ""

  constructor(basesDir: string, tempDir: string, limits: Limits = LIMITS) {
    this.#args = [basesDir, tempDir]
    this.#limits = limits
  }

  async play(task: Task): Promise<Result> {
    this.#child ??= this.#start()
    const child = this.#child
    this.#stderr = ""
    const started = Date.now()
    let most = 0
    let stopped: "hang" | "memory" | undefined
    const stop = (why: "hang" | "memory"): void => {
      stopped = why
      child.kill("SIGKILL")
    }
    const watch = setInterval(() => {
      most = Math.max(most, residentBytes(child.pid!))
      if (most > this.#limits.bytes) stop("memory")
      else if (Date.now() - started > this.#limits.ms) stop("hang")
    }, LOOK_MS)
    try {
      const reply = await new Promise<Reply | { readonly died: string }>((resolve) => {
        child.once("message", (message) => resolve(message as Reply))
        child.once("exit", (code, signal) => resolve({ died: signal ?? `exit code ${code}` }))
        child.send(task)
      })
      const ms = Date.now() - started
      if ("failed" in reply) throw new Error(`${task.base}, ${task.what}: ${reply.failed}`)
      if ("played" in reply) {
        const { verdict, reasons } = reply.played
        // What a thread still does would be charged to the next case.
        if (verdict === "hang") this.close()
        return { outcome: verdict, reasons, ms, bytes: most }
      }
      this.#child = undefined
      const outOfMemory = /heap out of memory|Allocation failed|memory allocation of/.test(this.#stderr)
      const outcome = stopped ?? (outOfMemory ? "memory" : "crash")
      const reasons = [`${reply.died}: ${this.#stderr.slice(-600)}`]
      return { outcome, reasons, ms, bytes: most }
    } finally {
      clearInterval(watch)
      child.removeAllListeners("message")
      child.removeAllListeners("exit")
    }
  }

  get pid(): number | undefined {
    return this.#child?.pid
  }

  close(): void {
    this.#child?.kill("SIGKILL")
    this.#child = undefined
  }

  #start(): ChildProcess {
    const child = fork(fromRoot("dist/test/fuzz/child.js"), this.#args, {
      execArgv: [`--max-old-space-size=${HEAP_MIB}`],
      serialization: "advanced",
      stdio: ["ignore", "ignore", "pipe", "ipc"],
    })
    child.stderr!.on("data", (part) => (this.#stderr = (this.#stderr + part).slice(-4000)))
    return child
  }
}

const PAGE_BYTES = 4096

/** Of Linux; elsewhere the limit of the heap and the time have to do. */
function residentBytes(pid: number): number {
  try {
    return Number(readFileSync(`/proc/${pid}/statm`, "utf8").split(" ")[1]) * PAGE_BYTES
  } catch {
    return 0
  }
}
