import { Command } from "commander"
import {
  type Hit,
  type Id,
  type Reader,
  type SearchResult,
  stringifyJson,
  VecsnapError,
} from "../../src/index.js"
import { type Io, printJson } from "../io.js"
import { type ReaderFlags, withReader } from "../open-reader.js"
import {
  addOutputOptions,
  addReaderOptions,
  addRouteOptions,
  addSnapshotOption,
  addStorageOptions,
  addTimeoutOption,
  type RouteFlags,
  routeOptions,
  type TimeoutFlags,
} from "../options.js"
import { parseId, parseProbes, parseShare, wholeNumber } from "../parse.js"
import { readQueryVector } from "../query-vector.js"
import { type Column, countOf, formatCount, formatValue, paintFor, renderTable, widthOf } from "../render.js"
import { withTimeout } from "../timeout.js"
import { usageError } from "../usage-error.js"
import { listShards } from "./shards.js"

const NOTES = `
--like takes the vector of a record in the snapshot; the record itself is left out of the hits.

Examples:
  vecsnap query s3://vectors/words --like king
  vecsnap query s3://vectors/words --vector @query.npy -k 20 --probes all
  vecsnap query s3://vectors/words --like king --target-recall .95
  vecsnap query ./tenants --vector '[0.1,0.2,0.3]' --context tenant=acme
  vecsnap query ./days --vector query.json --shards 6,7 --json | jq -r '.hits[].id'`

interface QueryFlags extends ReaderFlags, RouteFlags, TimeoutFlags {
  readonly vector?: string
  readonly like?: string
  readonly k: number
  readonly targetRecall?: number
}

/** `vecsnap query`: the nearest records of one vector. */
export function queryCommand(io: Io): Command {
  const command = new Command("query")
    .description("find the records nearest to a vector, or to a record")
    .argument("[url]", "root of the snapshots; default: `to` of vecsnap.yaml")
    .option("--vector <json|file>", "the vector: JSON, or a file of JSON or .npy (with or without @)")
    .option("--like <id>", "the vector of this record")
    .option("-k <n>", "hits wanted", wholeNumber(1), 10)
    .option("--probes <n|all>", "shards to search; default: the snapshot's", parseProbes)
    .option(
      "--target-recall <share>",
      "search as many shards as this recall takes; .95, for example",
      parseShare,
    )
    .addHelpText("after", NOTES)
  addRouteOptions(command)
  addTimeoutOption(command)
  addSnapshotOption(command)
  addReaderOptions(command)
  addStorageOptions(command)
  addOutputOptions(command)
  return command.action(async (url: string | undefined, flags: QueryFlags) => {
    const { vector, like } = flags
    if (vector === undefined && like === undefined)
      throw usageError("nothing to look for is given, expected --vector or --like")
    if (vector !== undefined && like !== undefined)
      throw usageError("--vector and --like are both given, expected one of them")
    // Before anything is opened: a vector that cannot be read needs no store.
    const given = vector === undefined ? undefined : await readQueryVector(vector, io.cwd)
    await withTimeout(io, flags.timeout, (limited) =>
      withReader(limited, url, flags, async (reader) => {
        const result =
          given === undefined
            ? await searchLike(reader, like!, flags, limited)
            : await search(reader, given, flags, limited)
        if (flags.json) printJson(io, searchDocument(result))
        else io.stdout.write(renderResult(result, reader.snapshot.shards, flags.k, io))
        for (const { shard, reason } of result.shards.failed)
          io.stderr.write(`warning: shard ${shard} failed: ${reason}\n`)
      }),
    )
  })
}

const search = (reader: Reader, vector: Float32Array, flags: QueryFlags, io: Io): Promise<SearchResult> =>
  reader.search(vector, {
    ...routeOptions(flags, reader.snapshot.context),
    ...(flags.targetRecall !== undefined && { targetRecall: flags.targetRecall }),
    k: flags.k,
    signal: io.signal,
  })

async function searchLike(reader: Reader, text: string, flags: QueryFlags, io: Io): Promise<SearchResult> {
  const id = parseId(text, reader.snapshot.idType)
  const [record] = await reader.get([id], { signal: io.signal })
  if (record === undefined) {
    const { run } = reader.snapshot
    throw new VecsnapError("NotFound", `snapshot ${run} has no record with the id ${stringifyJson(id)}`, {
      id,
    })
  }
  // One more, since the record itself is likely among them.
  const result = await search(reader, record.vector, { ...flags, k: flags.k + 1 }, io)
  return { ...result, hits: withoutId(result.hits, id, flags.k) }
}

/** The first `k` hits other than `id`. */
const withoutId = (hits: readonly Hit[], id: Id, k: number): readonly Hit[] =>
  // Compared as text: the same integer may be a number here and a bigint there.
  hits.filter((hit) => String(hit.id) !== String(id)).slice(0, k)

/** The documented shape of `query --json`. */
const searchDocument = ({ snapshot, hits, shards, complete, expectedRecall }: SearchResult): object => ({
  snapshot,
  hits: hits.map(({ id, distance, shard, fields, payload }) => ({ id, distance, shard, fields, payload })),
  shards: { asked: shards.asked, answered: shards.answered, failed: shards.failed },
  complete,
  // JSON has no undefined: it is there only with a target.
  expectedRecall,
})

/** A table of the hits, and a line that tells where they were looked for. */
function renderResult(
  { snapshot, hits, shards, expectedRecall }: SearchResult,
  shardCount: number,
  k: number,
  io: Pick<Io, "stdout" | "env">,
): string {
  const fields = [...new Set(hits.flatMap((hit) => Object.keys(hit.fields)))]
  const hasPayload = hits.some(({ payload }) => payload !== null)
  const columns: readonly Column[] = [
    { title: "#", align: "right" },
    { title: "id", flexible: true },
    { title: "distance", align: "right" },
    { title: "shard", align: "right" },
    ...fields.map((name) => ({ title: formatValue(name), flexible: true })),
    ...(hasPayload ? [{ title: "payload", flexible: true }] : []),
  ]
  const rows = hits.map((hit, i) => [
    String(i + 1),
    formatValue(hit.id),
    formatDistance(hit.distance),
    String(hit.shard),
    ...fields.map((name) => formatValue(hit.fields[name])),
    ...(hasPayload ? [formatValue(hit.payload)] : []),
  ])
  const paint = paintFor(io.stdout, io.env)
  const table = renderTable(columns, rows, { width: widthOf(io.stdout), paint })
  const found = hits.length < k ? `only ${countOf(hits.length, "hit")}; ` : ""
  const asked = `searched ${formatCount(shards.asked.length)} of ${countOf(shardCount, "shard")}: ${listShards(shards.asked)}`
  const expected = expectedRecall === undefined ? "" : `; expected recall ${expectedRecall.toFixed(3)}`
  return `${table}\n${paint.dim(`${found}${asked}${expected}; snapshot ${snapshot}`)}\n`
}

/** Five decimals, or eight digits where distances are large. */
const formatDistance = (distance: number): string =>
  Math.abs(distance) < 1000 ? distance.toFixed(5) : String(Number(distance.toPrecision(8)))
