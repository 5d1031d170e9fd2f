/**
 * `node dist/test/simulation/mutants.js [<schedules> [<words in a name>...]]`: takes each mechanism out of
 * the compiled code, one at a time, and runs the scenarios and the simulation, up to so many schedules
 * (2,000), until one fails. Prints a line for each: the first seed that fails, the invariant that it violates
 * and the scenarios that fail. Exits with 1 if one is not found, if it is found by another invariant than its
 * own, if the seed fails without the change too, or if what is to be taken out is not there any more.
 */
import { execFile } from "node:child_process"
import { cpSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { promisify } from "node:util"
import { inLanes } from "../../src/async/lanes.js"
import { fromRoot } from "../support/paths.js"
import type { Finding } from "./hunt.js"
import { changed, MUTANTS, type Mutant } from "./mutations.js"
import { runSchedule } from "./schedule.js"

/** As many processes as the smallest machine for tests has cores. */
const CONCURRENCY = 2

const [schedules = "2000", ...words] = process.argv.slice(2)
const MUTANTS_DIR = fromRoot("dist/mutants")

/** What a copy of the compiled code in which one thing is changed does. */
async function hunt(mutant: Mutant, index: number): Promise<Finding> {
  const root = join(MUTANTS_DIR, String(index))
  const dir = join(root, "dist")
  for (const part of ["src", "test/simulation", "test/support"])
    cpSync(fromRoot("dist", part), join(dir, part), { recursive: true })
  cpSync(fromRoot("package.json"), join(root, "package.json"))
  const path = join(dir, mutant.file)
  writeFileSync(path, changed(readFileSync(path, "utf8"), mutant))
  const args = [join(dir, "test/simulation/hunt.js"), schedules]
  const { stdout } = await promisify(execFile)(process.execPath, args)
  rmSync(root, { recursive: true })
  return JSON.parse(stdout)
}

/** What is said of a mutant, and whether it was found as it should be. */
async function judge(
  mutant: Mutant,
  index: number,
): Promise<{ readonly line: string; readonly good: boolean }> {
  const { scenarios, schedule, schedules } = await hunt(mutant, index)
  const places = scenarios.map((name) => `scenario "${name}"`)
  if (schedule === undefined) {
    const line = [...places, `no seed of ${schedules}`].join(", ")
    return { line, good: places.length > 0 }
  }
  const { seed, invariant } = schedule
  const isOwn = mutant.breaks.includes(invariant)
  const passesWithout = (await runSchedule(seed)).violation === undefined
  const remarks = [
    ...(isOwn ? [] : [`EXPECTED ${mutant.breaks.join(" or ")}`]),
    ...(passesWithout ? [] : ["FAILS WITHOUT THE CHANGE TOO"]),
  ]
  return {
    line: [`seed ${seed} of ${schedules}: ${invariant}`, ...remarks, ...places].join(", "),
    good: isOwn && passesWithout,
  }
}

rmSync(MUTANTS_DIR, { recursive: true, force: true })
await inLanes(
  MUTANTS.filter(({ name }) => words.length === 0 || words.some((word) => name.includes(word))),
  CONCURRENCY,
  async (mutant, _, index) => {
    const { line, good } = await judge(mutant, index).catch((error) => ({ line: String(error), good: false }))
    if (!good) process.exitCode = 1
    console.log(`${good ? "found" : "NOT FOUND"}: ${mutant.name}: ${line}`)
  },
)
rmSync(MUTANTS_DIR, { recursive: true, force: true })
