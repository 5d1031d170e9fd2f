import { Command } from "commander"
import { withoutUndefined } from "../../src/defined.js"
import { type Check, type Diagnosis, diagnoseStore, isVecsnapError, type Verdict } from "../../src/index.js"
import { EXIT_CODES, EXIT_OK } from "../exit-codes.js"
import { type Io, printJson } from "../io.js"
import { withStore } from "../open.js"
import { addOutputOptions, addStorageOptions, type OutputFlags, type StorageFlags } from "../options.js"
import { parseSeconds } from "../parse.js"
import { displayWidth, formatValue, type Paint, paintFor, widthOf } from "../render.js"

const NOTES = `
It writes, races for and removes some 1,100 small objects and two of 16 MiB, all below probes/ of the root, and
nothing else. Exits with 0 if the store is fit, warnings included; 8 if something that vecsnap needs does not
work; 7 if the store cannot be reached; 2 if credentials or settings are wrong; 3 if the bucket does not exist.

Examples:
  vecsnap doctor s3://vectors/words
  vecsnap doctor s3://vectors/words --quick --json | jq -r '.checks[] | select(.verdict != "ok") | .name'`

interface DoctorFlags extends StorageFlags, OutputFlags {
  readonly quick?: boolean
  readonly checkTimeout?: number
}

/** `vecsnap doctor`: tries out a store, and says what works, what does not, and what that means. */
export function doctorCommand(io: Io, exitWith: (code: number) => void): Command {
  const command = new Command("doctor")
    .description(
      "try out whether a store does what vecsnap needs; says what does not work and what that means",
    )
    .argument("[url]", "root of the snapshots, which may be empty; default: `to` of vecsnap.yaml")
    .option("--quick", "leave out what writes much: more than a page of keys, an upload in parts")
    .option("--check-timeout <time>", "limit of each check: seconds, or 90s, 15m; default 30s", parseSeconds)
    .addHelpText("after", NOTES)
  addStorageOptions(command)
  addOutputOptions(command)
  return command.action((url: string | undefined, flags: DoctorFlags) =>
    withStore(io, url, flags, async (store) => {
      const paint = paintFor(io.stdout, io.env)
      const print = (check: Check): void => void io.stdout.write(renderCheck(check, paint, io))
      try {
        const diagnosis = await diagnoseStore(
          store,
          withoutUndefined({
            quick: flags.quick,
            // Rounded, since 4.35 s are not a whole number of milliseconds in floating point.
            checkTimeoutMs: flags.checkTimeout && Math.ceil(flags.checkTimeout * 1000),
            signal: io.signal,
            onCheck: flags.json ? undefined : print,
          }),
        )
        if (flags.json) printJson(io, diagnosis)
        else io.stdout.write(`\n${wrapText(diagnosis.summary, textWidth(io))}\n`)
        exitWith(exitCodeOf(diagnosis))
      } catch (error) {
        // Who was stopped prints only that; what stays behind must be said all the same.
        if (isVecsnapError(error, "Aborted") && Number(error.details.remaining) > 0)
          io.stderr.write(`${formatValue(error.message)}\n`)
        throw error
      }
    }),
  )
}

/** The code for what kept doctor from the store, else for whether the store is fit. */
function exitCodeOf({ verdict, checks }: Diagnosis): number {
  const connection = checks.find(({ name }) => name === "connection")
  if (connection?.verdict === "failed") return EXIT_CODES[connection.error ?? "Unsupported"]
  return verdict === "failed" ? EXIT_CODES.Unsupported : EXIT_OK
}

const MARKS: Readonly<Record<Verdict, string>> = {
  ok: "ok",
  warning: "warn",
  failed: "FAIL",
  skipped: "skip",
}
const COLORS = { ok: "green", warning: "yellow", failed: "red", skipped: "dim" } as const
const NAME_WIDTH = "conditional overwrite".length
const INDENT = " ".repeat(4 + 2 + NAME_WIDTH + 2)

function renderCheck({ name, verdict, finding, meaning }: Check, paint: Paint, io: Io): string {
  const mark = paint[COLORS[verdict]](MARKS[verdict].padEnd(4))
  const wrap = (text: string, first: string): string =>
    `${first}${wrapText(formatValue(text), textWidth(io) - INDENT.length).replaceAll("\n", `\n${INDENT}`)}\n`
  const found = wrap(finding, `${mark}  ${name.padEnd(NAME_WIDTH)}  `)
  return meaning === undefined ? found : found + wrap(`That is: ${meaning}.`, INDENT)
}

/** Of the lines; those of a file are as wide as those of a usual terminal. */
const textWidth = (io: Io): number => Math.max(60, Math.min(110, widthOf(io.stdout) ?? 100))

/** Breaks a text between words into lines of at most `width` columns; a longer word has a line of its own. */
function wrapText(text: string, width: number): string {
  const lines: string[] = []
  for (const word of text.split(" ")) {
    const longer = lines.length === 0 ? word : `${lines.at(-1)} ${word}`
    if (lines.length > 0 && displayWidth(longer) > width) lines.push(word)
    else lines.splice(-1, 1, longer)
  }
  return lines.join("\n")
}
