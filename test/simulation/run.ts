/**
 * `node dist/test/simulation/run.js <first seed> <schedules>`: prints every seed that fails, with what it violates, and one
 * line with counts. With one schedule, prints every step of it.
 */
import { runSchedule } from "./schedule.js"

const [first = 1, count = 1] = process.argv.slice(2).map(Number)
const startMs = performance.now()
const stepsOf: number[] = []
let publications = 0
for (let seed = first; seed < first + count; seed++) {
  const outcome = await runSchedule(seed, count === 1 ? (line) => console.log(line) : undefined)
  stepsOf.push(outcome.steps)
  publications += outcome.publications
  if (outcome.violation) console.log(`seed ${seed}: ${outcome.violation.message}`)
}
const seconds = ((performance.now() - startMs) / 1000).toFixed(1)
const steps = stepsOf.reduce((sum, n) => sum + n, 0)
console.log(`${count} schedules, ${steps} steps, ${publications} publications in ${seconds} s`)
