/**
 * What benchmarks have measured, one line of JSON per run in bench/history.jsonl, so that a change for the
 * worse is seen and dated. The file is part of the repository; a run adds to the end of it.
 */
import { execFileSync } from "node:child_process"
import { appendFileSync } from "node:fs"
import { availableParallelism, cpus, loadavg, totalmem } from "node:os"
import { fromRepository } from "./paths.js"

const HISTORY_FILE = fromRepository("bench/history.jsonl")

/** What a run says of itself besides its figures. */
export interface RunFacts {
  /** When the run ended, ISO 8601. */
  readonly time: string
  /** Short hash of the commit, with `+` behind it if files differed from it. */
  readonly commit: string
  /** As `process.version`. */
  readonly node: string
  /** Model of the processor. */
  readonly cpu: string
  readonly cores: number
  readonly memoryGiB: number
  /**
   * Processes that wanted a core on average in the last minute of the run: more than `cores`, and others took
   * part.
   */
  readonly load: number
}

/** Appends the figures of one run of the benchmark `bench`. Throws if the file cannot be written. */
export function appendHistory(bench: string, figures: object): void {
  appendFileSync(HISTORY_FILE, `${JSON.stringify({ bench, ...runFacts(), figures })}\n`)
}

/** The facts of a run that ends now. */
export function runFacts(): RunFacts {
  return {
    time: new Date().toISOString(),
    commit: currentCommit(),
    node: process.version,
    cpu: cpus()[0]?.model.trim() ?? "unknown",
    cores: availableParallelism(),
    memoryGiB: Math.round(totalmem() / 2 ** 30),
    load: Number(loadavg()[0]!.toFixed(1)),
  }
}

/** A benchmark may run from a copy that is no checkout. */
function currentCommit(): string {
  const git = (...args: string[]): string =>
    execFileSync("git", args, {
      cwd: fromRepository(),
      encoding: "utf8",
      stdio: ["ignore", "pipe", "ignore"],
    })
  try {
    const changed = git("status", "--porcelain", "--", ".", ":!bench/history.jsonl").trim() !== ""
    return git("rev-parse", "--short", "HEAD").trim() + (changed ? "+" : "")
  } catch {
    return "unknown"
  }
}
