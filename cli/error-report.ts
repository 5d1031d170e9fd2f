/** What is told of an error: a sentence, a document for scripts, an exit code. */
import { inspect } from "node:util"
import { CommanderError } from "commander"
import { type ErrorTag, isVecsnapError, VecsnapError } from "../src/errors.js"
import { asTagged } from "../src/storage/system-fault.js"
import { EXIT_CODES, EXIT_UNEXPECTED, signalExitCode } from "./exit-codes.js"
import type { Io } from "./io.js"
import { paintFor, printable } from "./render.js"
import { usageError } from "./usage-error.js"

/** The error to report for what a command has thrown. */
export const reportedError = (thrown: unknown, { signal }: Pick<Io, "signal">): unknown =>
  signal.aborted ? stoppedBy(signal.reason, thrown) : asTagged(fromCommander(thrown), "the command")

function fromCommander(error: unknown): unknown {
  if (!(error instanceof CommanderError)) return error
  // "vecsnap" alone: the help is on stderr already.
  if (error.code === "commander.help") return usageError("no command is given")
  const sentence = error.message
    .replace(/^error: /, "")
    .replace(/\s*\n\s*/g, " ")
    // What was given to an option that does not exist may be a secret, as in --secret-key=….
    .replace(/^(unknown option '-[^'=]*)=.*?'/, "$1=…'")
  return usageError(sentence)
}

/** Whatever a command failed with after a signal, it was stopped by the user. */
const stoppedBy = (signal: unknown, cause: unknown): Error =>
  new VecsnapError("Aborted", `stopped by ${signal}`, { signal }, cause)

/** Exit code of a reported error. */
export function exitCodeOf(error: unknown, { signal }: Pick<Io, "signal">): number {
  if (signal.aborted) return signalExitCode(signal.reason)
  return isVecsnapError(error) ? EXIT_CODES[error.tag] : EXIT_UNEXPECTED
}

type ReportedTag = ErrorTag | "Unexpected"

/** `{ "error": { "tag", "message", "details" } }`. */
export function errorDocument(error: unknown): object {
  const tag: ReportedTag = isVecsnapError(error) ? error.tag : "Unexpected"
  return {
    error: { tag, message: messageOf(error), details: isVecsnapError(error) ? error.details : {} },
  }
}

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error))

export function renderError(error: unknown, debug: boolean, io: Pick<Io, "stderr" | "env">): string {
  const label = paintFor(io.stderr, io.env).red("error")
  const hint =
    isVecsnapError(error) || debug ? "" : "this error was not foreseen: --debug prints where it happened\n"
  return `${label}: ${printable(messageOf(error))}\n${debug ? `${inspect(error, { depth: 4 })}\n` : hint}`
}
