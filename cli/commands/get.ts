import { Command } from "commander"
import { type FoundRecord, type RouteOptions, stringifyJson, VecsnapError } from "../../src/index.js"
import { listOf, shortened } from "../../src/wording.js"
import { type Io, printJson } from "../io.js"
import { type ReaderFlags, withReader } from "../open-reader.js"
import {
  addOutputOptions,
  addReaderOptions,
  addRouteOptions,
  addSnapshotOption,
  addStorageOptions,
  type RouteFlags,
  routeOptions,
} from "../options.js"
import { parseId } from "../parse.js"

const NOTES = `
Prints one JSON object per line, in order of the ids. Ids that are not there are named on stderr, and the exit code is
then 3. Put -- before the URL if an id starts with a dash.

Examples:
  vecsnap get s3://vectors/words king queen
  vecsnap get ./.demo king --json | jq '.records[0].fields'`

/** `vecsnap get`: records by id. */
export function getCommand(io: Io): Command {
  const command = new Command("get")
    .description("print records by id, as JSON")
    .argument("<url>", "root of the snapshots")
    .argument("<ids...>", "ids of the records")
    .addHelpText("after", NOTES)
  addRouteOptions(command)
  addSnapshotOption(command)
  addReaderOptions(command)
  addStorageOptions(command)
  addOutputOptions(command)
  return command.action((url: string, ids: readonly string[], flags: ReaderFlags & RouteFlags) =>
    withReader(io, url, flags, async (reader) => {
      const { idType, context, run } = reader.snapshot
      const typedIds = ids.map((id) => parseId(id, idType))
      const route: RouteOptions = routeOptions(flags, context)
      const found = await reader.get(typedIds, { ...route, signal: io.signal })
      const records = found.filter((record) => record !== undefined).map(recordDocument)
      const missing = typedIds.filter((_, i) => found[i] === undefined)
      if (flags.json) printJson(io, { snapshot: run, records, missing })
      else for (const record of records) io.stdout.write(`${stringifyJson(record)}\n`)
      if (missing.length > 0) {
        const names = listOf(
          missing.map((id) => stringifyJson(id)),
          shortened,
        )
        throw new VecsnapError("NotFound", `snapshot ${run} has no record with the id ${names}`, { missing })
      }
    }),
  )
}

const recordDocument = ({ id, shard, vector, fields, payload }: FoundRecord): object => ({
  id,
  shard,
  fields,
  payload,
  vector: Array.from(vector, shortestFloat32),
})

/** The number with the fewest digits that is the same float32: 0.1, not 0.10000000149011612. */
function shortestFloat32(value: number): number {
  for (const digits of [6, 7, 8]) {
    const short = Number(value.toPrecision(digits))
    if (Math.fround(short) === value) return short
  }
  return value
}
