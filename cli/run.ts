/**
 * The command line as a function: arguments and an environment in, exit code out. Prints, never exits.
 */
import { readFileSync } from "node:fs"
import { Command, CommanderError } from "commander"
import { commandsFor } from "./commands.js"
import { errorDocument, exitCodeOf, renderError, reportedError } from "./error-report.js"
import { EXIT_CODES_HELP, EXIT_OK } from "./exit-codes.js"
import { type Io, printJson } from "./io.js"
import { printing, widthOf } from "./render.js"

/**
 * Runs one command. `argv` is what follows the program's name.
 *
 * Errors: one sentence on stderr; with `--json` also `{ "error": { "tag", "message", "details" } }` on
 * stdout, unless the command's own document is there already; with `--debug` also the stack. The exit code
 * tells the kind of error.
 */
export async function run(argv: readonly string[], io: Io): Promise<number> {
  let printed = false
  const safe = { ...io, stdout: printing(io.stdout), stderr: printing(io.stderr) }
  const stdout = {
    ...terminalOf(io.stdout),
    escapes: true,
    write: (text: string): void => {
      printed = true
      safe.stdout.write(text)
    },
  }
  const watched = { ...safe, stdout }
  try {
    let exitCode = EXIT_OK
    const exitWith = (code: number): void => {
      exitCode = code
    }
    const program = createProgram()
    for (const create of await commandsFor(argv)) program.addCommand(create(watched, exitWith))
    await configure(program, watched).parseAsync([...argv], { from: "user" })
    return exitCode
  } catch (thrown) {
    if (isHelp(thrown)) return EXIT_OK
    const error = reportedError(thrown, io)
    if (argv.includes("--json") && !printed) printJson(safe, errorDocument(error))
    safe.stderr.write(renderError(error, argv.includes("--debug"), safe))
    return exitCodeOf(error, io)
  }
}

const terminalOf = ({ isTTY, columns }: Io["stdout"]): Pick<Io["stdout"], "isTTY" | "columns"> => ({
  ...(isTTY === undefined ? {} : { isTTY }),
  ...(columns === undefined ? {} : { columns }),
})

function createProgram(): Command {
  return new Command("vecsnap")
    .description("Snapshots of sharded vector indexes on object storage.")
    .version(packageVersion(), "-V, --version", "print the version")
    .helpCommand("help [command]", "print help for a command")
    .addHelpText("after", `\n${EXIT_CODES_HELP}\n\nStart with: vecsnap demo`)
}

/** Makes a program and its commands throw what ends them, and print to `io`. */
function configure(program: Command, io: Io): Command {
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
