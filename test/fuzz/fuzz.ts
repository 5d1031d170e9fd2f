/** Many cases, and a table of how they ended. */
import { existsSync } from "node:fs"
import { join } from "node:path"
import { BASE_NAMES, type BaseName, type Objects, readBase, writeBase } from "./bases.js"
import { type FuzzCase, makeCase } from "./case.js"
import { chanceOf, seedOf } from "./chance.js"
import type { Task } from "./child.js"
import { type Outcome, Player, type Result } from "./pool.js"

export const OUTCOMES: readonly Outcome[] = ["error", "right", "replaced", "wrong", "crash", "hang", "memory"]
/** What must not be. */
export const BAD: readonly Outcome[] = ["wrong", "crash", "hang", "memory"]

export interface FuzzOptions {
  readonly cases: number
  readonly seed: number
  readonly processes: number
  /** After so many no further case is begun; default: all are played. */
  readonly seconds?: number
  /** This case alone. */
  readonly only?: number | undefined
  readonly dir: string
  readonly onResult?: (result: NumberedResult) => void
}

export interface NumberedResult extends Result, Omit<Task, "changed" | "replaced"> {
  readonly seed: number
  readonly number: number
}

/** Which base a case is made of. Those that take long come less often. */
export const baseOf = (seed: number, number: number): BaseName =>
  chanceOf(seedOf(seed + 1, number)).pick([
    "plain",
    "plain",
    "plain",
    "layout",
    "layout",
    "lsh",
    "cel",
    "lance",
  ])

/** The bases, each as objects; written below `dir` unless they are there. */
export async function prepareBases(dir: string): Promise<ReadonlyMap<BaseName, Objects>> {
  const bases = new Map<BaseName, Objects>()
  for (const name of BASE_NAMES) {
    const base = join(dir, name)
    if (!existsSync(base)) await writeBase(name, base)
    bases.set(name, await readBase(base))
  }
  return bases
}

export async function fuzz(options: FuzzOptions): Promise<readonly NumberedResult[]> {
  const { cases, seed, processes, seconds = Infinity, only, dir, onResult } = options
  const basesDir = join(dir, "bases")
  const bases = await prepareBases(basesDir)
  const end = Date.now() + 1000 * seconds
  const results: NumberedResult[] = []
  const numbers = only === undefined ? Array.from({ length: cases }, (_, i) => i) : [only]
  await Promise.all(
    Array.from({ length: processes }, async (_, i) => {
      const player = new Player(basesDir, join(dir, `process-${i}`))
      try {
        for (;;) {
          const number = Date.now() < end ? numbers.shift() : undefined
          if (number === undefined) break
          const base = baseOf(seed, number)
          const chance = chanceOf(seedOf(seed, number))
          const made = makeCase(bases.get(base)!, chance)
          const task = taskOf(base, bases.get(base)!, made, chance.oneIn(8))
          const { changed: _, replaced: __, ...facts } = task
          const result = { seed, number, ...facts, ...(await player.play(task)) }
          results.push(result)
          onResult?.(result)
        }
      } finally {
        player.close()
      }
    }),
  )
  return results
}

/** A case for the process that plays it: all that differs from the base, which it has. */
export function taskOf(
  base: BaseName,
  objects: Objects,
  { objects: altered, ...made }: FuzzCase,
  deep: boolean,
): Task {
  const changed = new Map<string, Uint8Array | undefined>()
  for (const [key, bytes] of altered) if (objects.get(key) !== bytes) changed.set(key, bytes)
  for (const key of objects.keys()) if (!altered.has(key)) changed.set(key, undefined)
  return { base, changed, deep, ...made }
}

/** Counts by target and outcome, as a Markdown table. */
export function tableOf(results: readonly NumberedResult[]): string {
  const targets = [...new Set(results.map(({ target }) => target))].sort()
  const count = (target: string | undefined, outcome: Outcome): number =>
    results.filter((it) => (target === undefined || it.target === target) && it.outcome === outcome).length
  const line = (cells: readonly (string | number)[]): string => `| ${cells.join(" | ")} |\n`
  return [
    line(["altered", ...OUTCOMES]),
    line(["---", ...OUTCOMES.map(() => "--:")]),
    ...targets.map((target) => line([target, ...OUTCOMES.map((outcome) => count(target, outcome))])),
    line(["all", ...OUTCOMES.map((outcome) => count(undefined, outcome))]),
  ].join("")
}

/** What a case was, and how to play it again. */
export const describe = ({
  seed,
  number,
  base,
  outcome,
  target,
  what,
  reasons,
  ms,
}: NumberedResult): string =>
  `${outcome}: case ${number} of seed ${seed} (${base}, ${target}, ${ms} ms): ${what}\n` +
  `  ${reasons.join("\n  ").slice(0, 2000)}\n` +
  `  again: npm run fuzz -- --seed ${seed} --only ${number}\n`
