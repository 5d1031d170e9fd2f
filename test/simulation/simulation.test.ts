import { describe, expect, it } from "vitest"
import { ALL } from "../support/scope.js"
import { MODES, type Outcome, runSchedule } from "./schedule.js"

/** `SIMULATION_SCHEDULES` runs as many, from seed `SIMULATION_FIRST`; `SIMULATION_SEED` runs one and prints its steps. */
const { SIMULATION_SCHEDULES, SIMULATION_FIRST, SIMULATION_SEED } = process.env
const replayed = SIMULATION_SEED === undefined ? undefined : Number(SIMULATION_SEED)
const first = replayed ?? Number(SIMULATION_FIRST ?? 1)
const schedules = replayed === undefined ? Number(SIMULATION_SCHEDULES ?? (ALL ? 2000 : 500)) : 1
const MS_PER_SCHEDULE = 300

const failureOf = ({ seed, mode, violation }: Outcome): string =>
  `seed ${seed} (${mode}): ${violation?.message}; replay it with SIMULATION_SEED=${seed} npx vitest run dist/test/simulation`

async function traceOf(seed: number): Promise<readonly string[]> {
  const lines: string[] = []
  await runSchedule(seed, { trace: (line) => lines.push(line) })
  return lines
}

describe("simulation", () => {
  it(
    `keeps every invariant in ${schedules} schedules`,
    async () => {
      const failures: string[] = []
      const counted = { steps: 0, publications: 0, crashes: 0, stalls: 0, removed: 0 }
      const modes = new Set<string>()
      for (let seed = first; seed < first + schedules; seed++) {
        const trace = replayed === undefined ? undefined : (line: string) => console.log(line)
        const outcome = await runSchedule(seed, { trace })
        modes.add(outcome.mode)
        for (const [what, count] of Object.entries(outcome.counts))
          counted[what as keyof typeof counted] += count
        if (outcome.violation !== undefined) failures.push(failureOf(outcome))
      }
      expect(failures).toEqual([])
      if (replayed !== undefined) return
      // That nothing failed says something only if much has happened.
      expect([...modes].sort()).toEqual([...MODES].sort())
      expect(counted.steps).toBeGreaterThan(100 * schedules)
      expect(counted.publications).toBeGreaterThan(3 * schedules)
      expect(counted.removed).toBeGreaterThan(3 * schedules)
      expect(counted.crashes + counted.stalls).toBeGreaterThan(schedules / 2)
    },
    60_000 + MS_PER_SCHEDULE * schedules,
  )

  it("repeats a schedule exactly", async () => {
    for (const seed of [1, 2, 3, 8, 16]) {
      const trace = await traceOf(seed)
      expect(trace.length).toBeGreaterThan(20)
      expect(await traceOf(seed)).toEqual(trace)
    }
  })

  it.runIf(ALL)("sees that preconditions are needed: two win where the store ignores them", async () => {
    const seen = new Set<string>()
    for (let seed = 1; seed <= 300; seed++) {
      const { violation } = await runSchedule(seed, { broken: true })
      if (violation) seen.add(violation.invariant)
    }
    expect([...seen]).toContain("exactly one wins each swap")
  })
})
