/**
 * `npm run fuzz -- [--cases 20000] [--seed 1] [--seconds N] [--only N] [--processes 2] [--verbose]`: alters snapshots, one
 * case after the other, and prints how reading them ended. docs/security.md tells what counts.
 */
import { availableParallelism } from "node:os"
import { parseArgs } from "node:util"
import { withTempDir } from "../../src/storage/temp-dir.js"
import { BAD, describe, fuzz, tableOf } from "./fuzz.js"

const { values } = parseArgs({
  options: {
    cases: { type: "string", default: "20000" },
    seed: { type: "string", default: "1" },
    seconds: { type: "string", default: "Infinity" },
    only: { type: "string" },
    processes: { type: "string", default: String(Math.min(4, availableParallelism())) },
    verbose: { type: "boolean", default: false },
  },
})

const started = Date.now()
let done = 0
await withTempDir(undefined, "vecsnap-fuzz", async (dir) => {
  const results = await fuzz({
    cases: Number(values.cases),
    seed: Number(values.seed),
    seconds: Number(values.seconds),
    processes: Number(values.processes),
    only: values.only === undefined ? undefined : Number(values.only),
    dir,
    onResult(result) {
      if (++done % 500 === 0) console.error(`${done} cases, ${Math.round((Date.now() - started) / 1000)} s`)
      if (BAD.includes(result.outcome) || values.verbose || values.only !== undefined)
        console.log(describe(result))
    },
  })
  console.log(tableOf(results))
  const slowest = Math.max(...results.map(({ ms }) => ms))
  const largest = Math.max(...results.map(({ bytes }) => bytes))
  console.log(`${results.length} cases in ${Math.round((Date.now() - started) / 1000)} s`)
  console.log(`slowest ${slowest} ms, largest process ${Math.round(largest / 2 ** 20)} MiB`)
  if (results.some(({ outcome }) => BAD.includes(outcome))) process.exitCode = 1
})
