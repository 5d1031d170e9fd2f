/**
 * `node dist/test/simulation/run.js [<first seed> [<schedules> [--until-failure]]]`: prints every seed that fails, with what it violates,
 * and one line with counts. One schedule is printed with all its steps.
 */
import { type Outcome, runSchedule } from "./schedule.js"

const [first = 1, count = 1] = process.argv.slice(2, 4).map(Number)
const untilFailure = process.argv.includes("--until-failure")
const startMs = performance.now()
const outcomes: Outcome[] = []
for (let seed = first; seed < first + count; seed++) {
  const outcome = await runSchedule(seed, count === 1 ? { trace: (line) => console.log(line) } : {})
  outcomes.push(outcome)
  if (outcome.violation === undefined) continue
  console.log(`seed ${seed} (${outcome.mode}): ${outcome.violation.message}`)
  if (untilFailure) break
}
const seconds = ((performance.now() - startMs) / 1000).toFixed(1)
const sum = (of: (outcome: Outcome) => number): number =>
  outcomes.reduce((total, each) => total + of(each), 0)
console.log(
  `${outcomes.length} schedules, ${sum(({ violation }) => (violation ? 1 : 0))} failed, ${sum(({ counts }) => counts.steps)} steps, ` +
    `${sum(({ counts }) => counts.publications)} publications, ${sum(({ counts }) => counts.removed)} objects removed in ${seconds} s`,
)
