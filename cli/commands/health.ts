import { Command } from "commander"
import type { Health } from "../../src/index.js"
import { FORMAT_NAMES } from "../../src/manifest/formats.js"
import { EXIT_DEGRADED, EXIT_OK, EXIT_UNHEALTHY } from "../exit-codes.js"
import { type Io, printJson } from "../io.js"
import { type ReaderFlags, withReader } from "../open-reader.js"
import {
  addOutputOptions,
  addReaderOptions,
  addStorageOptions,
  addTimeoutOption,
  type TimeoutFlags,
} from "../options.js"
import { parseSeconds } from "../parse.js"
import { formatShare } from "../recall.js"
import { countOf, formatValue, paintFor } from "../render.js"
import { withTimeout } from "../timeout.js"

const NOTES = `
Exits with 0 if healthy, ${EXIT_DEGRADED} if degraded and ${EXIT_UNHEALTHY} if unhealthy. If there is nothing to judge, because the
snapshot cannot be opened, the exit code is that of the error, as with every command: 3 if nothing is
published, 6 if it is damaged, 7 if the store does not answer. So 0 is fine, and all else is an alarm.
It asks the smallest shard for one row, so that the first time it downloads that into the cache directory.

Examples:
  vecsnap health s3://vectors/words
  vecsnap health s3://vectors/words --max-age 26h --timeout 10
  vecsnap health ./.demo --json | jq -r '.reasons[]'`

interface HealthFlags extends ReaderFlags, TimeoutFlags {
  readonly maxAge?: number
}

const EXIT_OF: Readonly<Record<Health["status"], number>> = {
  healthy: EXIT_OK,
  degraded: EXIT_DEGRADED,
  unhealthy: EXIT_UNHEALTHY,
}

/**
 * `vecsnap health`: opens the live snapshot as a service would, asks one shard for a row, and says how it is;
 * the exit code says it too.
 */
export function healthCommand(io: Io, exitWith: (code: number) => void): Command {
  const command = new Command("health")
    .description("say whether the live snapshot can be opened and searched, and is fresh; for monitors")
    .argument("[url]", "root of the snapshots; default: `to` of vecsnap.yaml")
    .option(
      "--max-age <time>",
      "published longer ago is degraded: seconds, or 90s, 15m, 26h, 2d",
      parseSeconds,
    )
    .addHelpText("after", NOTES)
  addTimeoutOption(command)
  addReaderOptions(command)
  addStorageOptions(command)
  addOutputOptions(command)
  return command.action((url: string | undefined, flags: HealthFlags) =>
    withTimeout(io, flags.timeout, (limited) =>
      withReader(
        limited,
        url,
        flags,
        async (reader) => {
          const health = await reader.health({ trial: true, signal: limited.signal })
          if (flags.json) printJson(io, health)
          else io.stdout.write(renderHealth(health, io))
          exitWith(EXIT_OF[health.status])
        },
        flags.maxAge === undefined ? {} : { maxAgeSeconds: flags.maxAge },
      ),
    ),
  )
}

const COLOR_OF = { healthy: "green", degraded: "yellow", unhealthy: "red" } as const

/** The format of a snapshot that is not ours. */
const ofFormat = (format: string): string => (format === FORMAT_NAMES[0] ? "" : ` of ${format}`)

/** One line with the status, which monitors show, and one for each reason. */
export function renderHealth(
  { status, reasons, snapshot, format, ageSeconds, recall, signedBy }: Health,
  io: Pick<Io, "stdout" | "env">,
): string {
  const paint = paintFor(io.stdout, io.env)
  const measured =
    recall === undefined
      ? ""
      : `, recall@${recall.k} ${formatShare(recall.mean)} ${recall.target === undefined ? `at ${countOf(recall.probes, "probe")}` : `for target ${formatShare(recall.target)}`}`
  const signed = signedBy === undefined ? "" : `, signed by ${signedBy.join(", ")}`
  const first = `${paint[COLOR_OF[status]](status)}: snapshot ${snapshot}${ofFormat(format)}, published ${formatAge(ageSeconds)} ago${measured}${signed}`
  return [first, ...reasons.map((reason) => `  ${formatValue(reason)}`)].map((line) => `${line}\n`).join("")
}

/** Two units at most: "26 h 3 min". */
export function formatAge(seconds: number): string {
  const units = [
    ["d", Math.floor(seconds / 86_400)],
    ["h", Math.floor(seconds / 3600) % 24],
    ["min", Math.floor(seconds / 60) % 60],
    ["s", Math.floor(seconds) % 60],
  ] as const
  const first = units.findIndex(([, count]) => count > 0)
  if (first === -1) return "0 s"
  return units
    .slice(first, first + 2)
    .filter(([, count]) => count > 0)
    .map(([unit, count]) => `${count} ${unit}`)
    .join(" ")
}
