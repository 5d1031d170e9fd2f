/**
 * The command line as a function: arguments and an environment in, exit code out. Prints, never exits.
 */
import { readFileSync } from "node:fs"
import { Command, CommanderError } from "commander"
import { buildCommand } from "./commands/build.js"
import { configCommand } from "./commands/config.js"
import { demoCommand } from "./commands/demo.js"
import { diffCommand } from "./commands/diff.js"
import { doctorCommand } from "./commands/doctor.js"
import { evalCommand } from "./commands/eval.js"
import { gcCommand } from "./commands/gc.js"
import { getCommand } from "./commands/get.js"
import { healthCommand } from "./commands/health.js"
import { historyCommand } from "./commands/history.js"
import { infoCommand } from "./commands/info.js"
import { pinCommand } from "./commands/pin.js"
import { planCommand } from "./commands/plan.js"
import { publishCommand } from "./commands/publish.js"
import { queryCommand } from "./commands/query.js"
import { rollbackCommand } from "./commands/rollback.js"
import { runsCommand } from "./commands/runs.js"
import { shardsCommand } from "./commands/shards.js"
import { unpinCommand } from "./commands/unpin.js"
import { verifyCommand } from "./commands/verify.js"
import { warmCommand } from "./commands/warm.js"
import { errorDocument, exitCodeOf, renderError, reportedError } from "./error-report.js"
import { EXIT_CODES_HELP, EXIT_OK } from "./exit-codes.js"
import { type Io, printJson } from "./io.js"
import { widthOf } from "./render.js"

/**
 * Runs one command. `argv` is what follows the program's name.
 *
 * Errors: one sentence on stderr; with `--json` also `{ "error": { "tag", "message", "details" } }` on stdout, unless the
 * command's own document is there already; with `--debug` also the stack. The exit code tells the kind of error.
 */
export async function run(argv: readonly string[], io: Io): Promise<number> {
  let printed = false
  const stdout = {
    ...terminalOf(io.stdout),
    write: (text: string): void => {
      printed = true
      io.stdout.write(text)
    },
  }
  try {
    let exitCode = EXIT_OK
    const exitWith = (code: number): void => {
      exitCode = code
    }
    await createProgram({ ...io, stdout }, exitWith).parseAsync([...argv], { from: "user" })
    return exitCode
  } catch (thrown) {
    if (isHelp(thrown)) return EXIT_OK
    const error = reportedError(thrown, io)
    if (argv.includes("--json") && !printed) printJson(io, errorDocument(error))
    io.stderr.write(renderError(error, argv.includes("--debug"), io))
    return exitCodeOf(error, io)
  }
}

const terminalOf = ({ isTTY, columns }: Io["stdout"]): Pick<Io["stdout"], "isTTY" | "columns"> => ({
  ...(isTTY === undefined ? {} : { isTTY }),
  ...(columns === undefined ? {} : { columns }),
})

/** `exitWith` sets the exit code of a command that has done its work but has more to say than that. */
function createProgram(io: Io, exitWith: (code: number) => void): Command {
  const program = new Command("vecsnap")
    .description("Snapshots of sharded vector indexes on object storage.")
    .version(packageVersion(), "-V, --version", "print the version")
    .helpCommand("help [command]", "print help for a command")
    .addHelpText("after", `\n${EXIT_CODES_HELP}\n\nStart with: vecsnap demo`)
  const commands = [
    planCommand,
    buildCommand,
    queryCommand,
    getCommand,
    infoCommand,
    shardsCommand,
    historyCommand,
    rollbackCommand,
    publishCommand,
    runsCommand,
    gcCommand,
    pinCommand,
    unpinCommand,
    verifyCommand,
    diffCommand,
    evalCommand,
    warmCommand,
    healthCommand,
    configCommand,
    doctorCommand,
    demoCommand,
  ]
  for (const create of commands) program.addCommand(create(io, exitWith))
  const width = widthOf(io.stdout)
  for (const command of withSubcommands(program)) {
    command
      .exitOverride()
      .showSuggestionAfterError()
      // An error is printed by `run`, with all others; what remains is help and version.
      .configureOutput({
        writeOut: (text) => void io.stdout.write(text),
        writeErr: (text) => void io.stderr.write(text),
        outputError: () => {},
        getOutHasColors: () => false,
        getErrHasColors: () => false,
        ...(width === undefined ? {} : { getOutHelpWidth: () => width }),
      })
  }
  return program
}

const withSubcommands = (command: Command): readonly Command[] => [
  command,
  ...command.commands.flatMap(withSubcommands),
]

/** Version of the package. This file is dist/cli/run.js in it. */
function packageVersion(): string {
  const text = readFileSync(new URL("../../package.json", import.meta.url), "utf8")
  return (JSON.parse(text) as { readonly version: string }).version
}

/** Help that was asked for, and `--version`, leave commander as errors too. */
const isHelp = (error: unknown): boolean => error instanceof CommanderError && error.exitCode === 0
