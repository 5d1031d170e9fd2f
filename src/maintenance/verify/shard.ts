/** Whether a shard holds what its manifest says, once its files are known to be the right bytes. */
import { sameBytes } from "../../bytes.js"
import { compareIds, type Id, type StoredRecord } from "../../records.js"
import type { ShardReader, ShardSpec } from "../../shards/backend.js"
import { prepareQuery } from "../../shards/query.js"
import { distance } from "../../vectors/distance.js"
import { vectorProblem } from "../../vectors/validate.js"

/** Rows of a shard that are looked up and searched for, spread evenly over it. */
const SAMPLES = 3
/** Single precision inside an engine, relative to the length of what is compared. */
const TOLERANCE = 1e-4
/** Distances are computed from the stored vectors in float64, whatever the backend; relative. */
const DISTANCE_TOLERANCE = 1e-9

/** A mistake that many rows share is told once, with the first row and how many there are. */
interface Tally {
  readonly first: string
  rows: number
}

/**
 * Reads a shard from end to end, searches it for some of its own vectors, and once for all of its rows, which
 * an index keeps in files of its own: whatever makes a search fail is found. Holds the records of that answer
 * in memory. Returns what is wrong, as sentences that name `name`; `onRecord` is told every record.
 *
 * @param rows that the manifest says the shard has
 */
export async function checkRecords(
  name: string,
  reader: ShardReader,
  rows: number,
  spec: ShardSpec,
  onRecord: (record: StoredRecord) => Promise<void>,
): Promise<readonly string[]> {
  const problems = new Map<string, Tally>()
  const note = (kind: string, first: () => string): void => {
    const tally = problems.get(kind)
    if (tally === undefined) problems.set(kind, { first: first(), rows: 1 })
    else tally.rows++
  }
  const wanted = new Set(Array.from({ length: SAMPLES }, (_, i) => Math.floor((i * reader.rows) / SAMPLES)))
  const samples: StoredRecord[] = []
  let everything: SearchOfAll | undefined
  let row = 0
  let previous: Id | undefined
  for await (const batch of reader.records()) {
    everything ??= await searchForAll(reader, batch[0]?.vector, spec)
    for (const record of batch) {
      const { id, vector } = record
      const bad = vectorProblem(vector, spec.dim, spec.metric)
      if (bad !== undefined) note("vector", () => `the vector of ${shown(id)} ${bad}`)
      else if (wanted.has(row)) samples.push(record)
      if (previous !== undefined && compareIds(previous, id) >= 0)
        note("order", () => `id ${shown(id)} follows ${shown(previous!)}: expected rising ids, each once`)
      // An id that comes again has been compared.
      const unlike = id === previous ? undefined : everything.compare(record)
      if (unlike !== undefined) note("search", () => unlike)
      previous = id
      row++
      await onRecord(record)
    }
  }
  const stray = everything?.left()
  if (stray !== undefined) note("stray", () => stray)
  const sentences = Array.from(problems.values(), ({ first, rows }) =>
    rows === 1 ? `${name}: ${first}` : `${name}: ${first} (${rows} such rows)`,
  )
  if (row !== rows) sentences.unshift(`${name} has ${row} rows, the manifest says ${rows}`)
  for (const sample of samples) {
    const problem = await sampleProblem(reader, sample, spec)
    if (problem !== undefined) sentences.push(`${name}: ${problem}`)
  }
  return sentences
}

interface SearchOfAll {
  /** What the answer has in place of this record, if that is not what it should be. */
  compare(record: StoredRecord): string | undefined
  /** What it has besides all that were compared. */
  left(): string | undefined
}

/** The answer to a search for every row, by this vector if it can be searched for. */
async function searchForAll(
  reader: ShardReader,
  first: Float32Array | undefined,
  spec: ShardSpec,
): Promise<SearchOfAll> {
  const usable = first !== undefined && vectorProblem(first, spec.dim, spec.metric) === undefined
  const vector = usable ? first : new Float32Array(spec.dim).fill(1)
  const hits = await reader.search(prepareQuery(vector, reader.rows, spec))
  const distances = new Map(hits.map(({ id, distance }) => [id, distance]))
  return {
    compare({ id, vector: stored }) {
      const found = distances.get(id)
      distances.delete(id)
      if (found === undefined) return `a search for all rows does not find id ${shown(id)}`
      const expected = distance(spec.metric, vector, stored)
      if (Math.abs(found - expected) <= DISTANCE_TOLERANCE * Math.max(1, Math.abs(expected))) return undefined
      return `a search finds id ${shown(id)} at distance ${found}, expected ${expected}`
    },
    left() {
      const [id] = distances.keys()
      return id === undefined ? undefined : `a search for all rows finds id ${shown(id)}, which is no record`
    },
  }
}

/** A stored vector must be found under its id, and no row may be nearer to it than the search says. */
async function sampleProblem(
  reader: ShardReader,
  { id, vector }: StoredRecord,
  spec: ShardSpec,
): Promise<string | undefined> {
  const [found] = await reader.get([id])
  if (found === undefined || !sameBytes(found.vector, vector))
    return `a lookup of id ${shown(id)} does not give its record`
  const [nearest] = await reader.search(prepareQuery(vector, 1, spec))
  const own = distance(spec.metric, vector, vector)
  const slack = TOLERANCE * Math.max(1, Math.abs(own), spec.metric === "l2" ? norm(vector) : 0)
  // Under `dot` another row may be nearer to a vector than itself.
  if (nearest !== undefined && nearest.distance <= own + slack) return undefined
  const got = nearest === undefined ? "nothing" : `${shown(nearest.id)} at distance ${nearest.distance}`
  return `a search for the vector of id ${shown(id)} finds ${got}, expected a distance of at most ${own}`
}

const norm = (vector: Float32Array): number => Math.hypot(...vector)

/** An id as it is shown in a message: text in quotes. */
export const shown = (id: Id): string => (typeof id === "string" ? JSON.stringify(id) : String(id))
