#!/usr/bin/env node
/**
 * The executable: connects {@link run} with the process.
 */
import { EXIT_CODES, EXIT_OK } from "./exit-codes.js"
import { run } from "./run.js"

// What cannot be printed must not end a build. A log that is full (`2> log`) is passed over, and so is a
// reader that went away (`| head`); that the result is not there because the disk is full, the exit code
// says.
let unprinted: NodeJS.ErrnoException | undefined
process.stderr.on("error", () => {})
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  if (error.code !== "EPIPE") unprinted ??= error
})

// The first signal lets the command clean up; a second one, no longer caught, ends the process at once.
const stop = new AbortController()
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.once(signal, () => stop.abort(signal))

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
process.once("beforeExit", () => {
  if (unprinted === undefined || exitCode !== EXIT_OK) return
  process.stderr.write(`error: cannot write the output: ${unprinted.code}\n`)
  process.exitCode = EXIT_CODES.Unavailable
})
