#!/usr/bin/env node
/**
 * The executable: connects {@link run} with the process.
 */
import { run } from "./run.js"

// A reader that went away (`| head`) is no error. What is left to print goes nowhere; the command still ends
// properly.
for (const stream of [process.stdout, process.stderr]) {
  stream.on("error", (error: NodeJS.ErrnoException) => {
    if (error.code !== "EPIPE") throw error
  })
}

// The first signal lets the command clean up; a second one, no longer caught, ends the process at once.
const stop = new AbortController()
for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => stop.abort(signal))

const exitCode = await run(process.argv.slice(2), {
  stdout: process.stdout,
  stderr: process.stderr,
  env: process.env,
  cwd: process.cwd(),
  signal: stop.signal,
})

// After a signal all is cleaned up, but a standard input that was being read may still hold the process.
if (stop.signal.aborted) process.exit(exitCode)
process.exitCode = exitCode
