/**
 * The ids of a whole snapshot: none twice, and the id locator knows each of them, and no others. In bounded memory: ids
 * come from buckets on disk (buckets.ts), whose order is that of the locator, so both are read side by side.
 */
import { open } from "node:fs/promises"
import { corrupt } from "../../errors.js"
import { blockChecksum, blockRange, decodeLocatorIndex, ENTRY_BYTES } from "../../manifest/locator.js"
import type { LocatorEntry } from "../../manifest/manifest.js"
import { readRange } from "../../storage/files.js"
import { type Buckets, bucketBits, createBuckets, ROWS_PER_BUCKET } from "../buckets.js"

/** The ids of a shard, as UTF-8 of what is shown of them, by their hash. */
export interface ShardIds {
  readonly shard: number
  readonly ids: Buckets
}

export interface IdsOptions {
  /** Name of the snapshot in messages. */
  readonly name: string
  /** For temporary files. */
  readonly dir: string
  readonly rows: number
  readonly rowsPerBucket?: number
  /** The locator, whose bytes are known to be right, as a local file. */
  readonly locator?: { readonly entry: LocatorEntry; readonly path: string } | undefined
}

export interface IdProblem {
  readonly about: "ids" | "locator"
  readonly message: string
}

interface Place {
  readonly hash: bigint
  readonly shard: number
  /** Only of rows, not of entries of the locator. */
  readonly id?: string
}

const byHashAndShard = (a: Place, b: Place): number =>
  a.hash < b.hash ? -1 : a.hash > b.hash ? 1 : a.shard - b.shard

/** Compares the shards whose ids are known with each other and with the locator. Throws `Corrupt` for a damaged locator. */
export async function checkIds(
  shards: readonly ShardIds[],
  { name, dir, rows, rowsPerBucket = ROWS_PER_BUCKET, locator }: IdsOptions,
): Promise<readonly IdProblem[]> {
  const all = createBuckets(dir, "all", bucketBits(rows, rowsPerBucket))
  for (const { shard, ids } of shards) {
    for (let bucket = 0; bucket < ids.count; bucket++) {
      for (const { hash, bytes } of await ids.read(bucket)) await all.add(hash, withShard(shard, bytes))
    }
  }
  await all.finish()

  const repeated = new Examples()
  const lacking = new Examples()
  const stray = new Examples()
  const known = new Set(shards.map(({ shard }) => shard))
  const entries = locator && locatorEntries(locator.entry, locator.path, rows)
  let entry = await next(entries, known)
  for (let bucket = 0; bucket < all.count; bucket++) {
    const places = (await all.read(bucket)).map(({ hash, bytes }): Place & { readonly id: string } => {
      return { hash, shard: bytes.readUInt32LE(), id: bytes.toString("utf8", 4) }
    })
    places.sort(byHashAndShard)
    noteRepeated(places, repeated)
    if (entries === undefined) continue
    for (const place of places) {
      while (entry !== undefined && byHashAndShard(entry, place) < 0) {
        stray.add(() => describeEntry(entry!))
        entry = await next(entries, known)
      }
      if (entry !== undefined && byHashAndShard(entry, place) === 0) entry = await next(entries, known)
      else lacking.add(() => `${place.id} of shard ${place.shard}`)
    }
  }
  for (; entry !== undefined; entry = await next(entries, known)) stray.add(() => describeEntry(entry!))

  const problems: IdProblem[] = []
  const report = (
    about: IdProblem["about"],
    examples: Examples,
    say: (count: number, first: string) => string,
  ) => {
    if (examples.first !== undefined) problems.push({ about, message: say(examples.count, examples.first) })
  }
  report("ids", repeated, (n, first) => `${name}: ${n} rows repeat an id of another row, the first ${first}`)
  const key = locator?.entry.key
  report("locator", lacking, (n, first) => `${key} does not lead to ${n} ids, the first ${first}`)
  report(
    "locator",
    stray,
    (n, first) => `${key} names ${n} ids that are not in their shards, the first ${first}`,
  )
  return problems
}

/** How many there are of something, and the first. */
class Examples {
  count = 0
  first: string | undefined

  add(describe: () => string): void {
    this.first ??= describe()
    this.count++
  }
}

const describeEntry = ({ hash, shard }: Place): string =>
  `with hash ${hash.toString(16).padStart(16, "0")} in shard ${shard}`

function withShard(shard: number, id: Buffer): Buffer {
  const bytes = Buffer.allocUnsafe(4 + id.length)
  bytes.writeUInt32LE(shard)
  id.copy(bytes, 4)
  return bytes
}

/** Notes rows whose id an earlier row has. Different ids may share a hash, so the ids decide. */
function noteRepeated(places: readonly (Place & { readonly id: string })[], repeated: Examples): void {
  const shardOf = new Map<string, number>()
  let hash: bigint | undefined
  for (const place of places) {
    if (place.hash !== hash) shardOf.clear()
    hash = place.hash
    const other = shardOf.get(place.id)
    if (other === undefined) shardOf.set(place.id, place.shard)
    else repeated.add(() => `${place.id} in shards ${other} and ${place.shard}`)
  }
}

/** The next entry of a shard that could be read: of the others nothing can be said. */
async function next(
  entries: AsyncGenerator<Place> | undefined,
  known: ReadonlySet<number>,
): Promise<Place | undefined> {
  for (;;) {
    const result = await entries?.next()
    if (result === undefined || result.done) return undefined
    if (known.has(result.value.shard)) return result.value
  }
}

/** All entries of a locator, in order. Throws `Corrupt` if its blocks are not what its index says. */
async function* locatorEntries(locator: LocatorEntry, path: string, rows: number): AsyncGenerator<Place> {
  const { key, size } = locator
  const file = await open(path)
  try {
    const index = decodeLocatorIndex(
      await readRange(file, path, size - locator.index.size, size),
      locator,
      rows,
    )
    for (const [block, expected] of index.blocks.entries()) {
      const { start, end } = blockRange(index, block)
      const bytes = Buffer.from(await readRange(file, path, start, end))
      const actual = {
        firstHash: bytes.readBigUInt64LE(0),
        lastHash: bytes.readBigUInt64LE(bytes.length - ENTRY_BYTES),
        checksum: blockChecksum(bytes),
      }
      for (const name of ["checksum", "firstHash", "lastHash"] as const) {
        if (actual[name] === expected[name]) continue
        throw corrupt(
          `${key}: block ${block} has the ${name} ${actual[name]}, its index says ${expected[name]}`,
          { key, block },
        )
      }
      for (let at = 0; at < bytes.length; at += ENTRY_BYTES) {
        yield { hash: bytes.readBigUInt64LE(at), shard: bytes.readUInt32LE(at + 8) }
      }
    }
  } finally {
    await file.close()
  }
}
