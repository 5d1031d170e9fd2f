/**
 * `node dist/test/simulation/hunt.js <schedules>`: runs the scenarios, then schedules from seed 1 until one fails, and prints what
 * failed, as JSON. Is run by `mutants.ts` on changed code.
 */
import { messageOf } from "../../src/errors.js"
import { SCENARIOS } from "./scenarios.js"
import { runSchedule } from "./schedule.js"

/** What was found. */
export interface Finding {
  /** Names of the scenarios that fail. */
  readonly scenarios: readonly string[]
  /** The first schedule that fails. */
  readonly schedule: { readonly seed: number; readonly invariant: string } | undefined
  /** Schedules run. */
  readonly schedules: number
}

async function invariantBroken(seed: number): Promise<string | undefined> {
  try {
    return (await runSchedule(seed)).violation?.invariant
  } catch (error) {
    return messageOf(error)
  }
}

const most = Number(process.argv[2])
const scenarios: string[] = []
for (const { name, play } of SCENARIOS) await play().catch(() => scenarios.push(name))
let schedule: Finding["schedule"]
let seed = 0
while (schedule === undefined && seed < most) {
  const invariant = await invariantBroken(++seed)
  if (invariant !== undefined) schedule = { seed, invariant }
}
const finding: Finding = { scenarios, schedule, schedules: seed }
console.log(JSON.stringify(finding))
