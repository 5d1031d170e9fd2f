/**
 * The ids of a whole snapshot: none twice, but for copies, as many as the manifest says and equal to one
 * another; and the id locator knows each of them once, and no others. In bounded memory: ids come from
 * buckets on disk (buckets.ts), whose order is that of the locator, so both are read side by side.
 */
import { open } from "node:fs/promises"
import { corrupt } from "../../errors.js"
import { blockChecksum, blockRange, decodeLocatorIndex, ENTRY_BYTES } from "../../manifest/locator.js"
import type { LocatorEntry } from "../../manifest/manifest.js"
import type { FieldSpec, StoredRecord } from "../../records.js"
import { readRange } from "../../storage/files.js"
import { type Buckets, bucketBits, createBuckets, type Entry, ROWS_PER_BUCKET } from "../buckets.js"
import { ROW_HASHES_BYTES, writeRowHashes } from "../row-hashes.js"
import { shown } from "./shard.js"

/** The rows of a shard, as {@link encodeShardRow} has them, by the hash of their ids. */
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
  /** Rows stored beyond these, by the manifest. */
  readonly copies?: number | undefined
  /**
   * Whether all shards of the snapshot could be read; default true. If not, what is lacking may be in the
   * others.
   */
  readonly complete?: boolean | undefined
  readonly rowsPerBucket?: number | undefined
  /** The locator, whose bytes are known to be right, as a local file. */
  readonly locator?: { readonly entry: LocatorEntry; readonly path: string } | undefined
}

export interface IdProblem {
  readonly about: "ids" | "locator"
  readonly message: string
}

/** An entry of the locator. */
interface Place {
  readonly hash: bigint
  readonly shard: number
}

/** A row as a shard holds it. */
interface StoredPlace extends Place {
  /** What is shown of the id. */
  readonly id: string
  readonly hashes: Buffer
}

const byHashAndShard = (a: Place, b: Place): number =>
  a.hash < b.hash ? -1 : a.hash > b.hash ? 1 : a.shard - b.shard

/** A row of a shard for {@link checkIds}: the hashes of its parts, then its id as it is shown. */
export function encodeShardRow(record: StoredRecord, fields: readonly FieldSpec[]): Buffer {
  const id = Buffer.from(shown(record.id))
  const bytes = Buffer.allocUnsafe(ROW_HASHES_BYTES + id.length)
  writeRowHashes(record, fields, bytes, 0)
  id.copy(bytes, ROW_HASHES_BYTES)
  return bytes
}

/**
 * Compares the shards whose ids are known with each other and with the locator. Throws `Corrupt` for a
 * damaged locator.
 */
export async function checkIds(
  shards: readonly ShardIds[],
  { name, dir, rows, copies = 0, complete = true, rowsPerBucket = ROWS_PER_BUCKET, locator }: IdsOptions,
): Promise<readonly IdProblem[]> {
  const all = createBuckets(dir, "all", bucketBits(rows + copies, rowsPerBucket))
  for (const { shard, ids } of shards) {
    for (let bucket = 0; bucket < ids.count; bucket++) {
      for (const { hash, bytes } of await ids.read(bucket)) await all.add(hash, withShard(shard, bytes))
    }
  }
  await all.finish()

  const repeated = new Examples()
  const unequal = new Examples()
  const lacking = new Examples()
  const stray = new Examples()
  const known = new Set(shards.map(({ shard }) => shard))
  const entries = locator && locatorEntries(locator.entry, locator.path, rows)
  let entry = await next(entries, known)
  for (let bucket = 0; bucket < all.count; bucket++) {
    const places = (await all.read(bucket)).map(decodePlace).sort(byHashAndShard)
    for (const group of groupsBy(places, ({ hash }) => hash)) {
      const byId = [...groupsBy(group, ({ id }) => id)]
      for (const stored of byId) noteRepeated(stored, repeated, unequal)
      if (entries === undefined) continue
      const { hash } = group[0]!
      for (; entry !== undefined && entry.hash < hash; entry = await next(entries, known))
        stray.add(() => describeEntry(entry!))
      const named: Place[] = []
      for (; entry?.hash === hash; entry = await next(entries, known)) named.push(entry)
      // Without copies each row has an entry, one that repeats an id too.
      const located = copies === 0 ? group.map((place) => [place]) : byId
      const { unnamed, left } = matchEntries(located, named)
      for (const [place] of unnamed) lacking.add(() => `${place!.id} of shard ${place!.shard}`)
      for (const place of left) stray.add(() => describeEntry(place))
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
  if (copies === 0) {
    report(
      "ids",
      repeated,
      (n, first) => `${name}: ${n} rows repeat an id of another row, the first ${first}`,
    )
  } else if (complete ? repeated.count !== copies : repeated.count > copies) {
    problems.push({
      about: "ids",
      message: `${name}: ${repeated.count} rows repeat an id of another row, its manifest says ${copies}`,
    })
  }
  if (copies > 0) {
    report(
      "ids",
      unequal,
      (n, first) => `${name}: ${n} copies differ from the row they copy, the first ${first}`,
    )
  }
  const key = locator?.entry.key
  // The entry of a row with copies may name a shard that could not be read.
  if (copies === 0 || complete)
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

function decodePlace({ hash, bytes }: Entry): StoredPlace {
  const idAt = 4 + ROW_HASHES_BYTES
  return {
    hash,
    shard: bytes.readUInt32LE(),
    hashes: bytes.subarray(4, idAt),
    id: bytes.toString("utf8", idAt),
  }
}

/** Items with the same key, in their order. */
function groupsBy<T, K>(items: readonly T[], keyOf: (item: T) => K): Iterable<readonly T[]> {
  const groups = new Map<K, T[]>()
  for (const item of items) {
    const key = keyOf(item)
    const group = groups.get(key)
    if (group === undefined) groups.set(key, [item])
    else group.push(item)
  }
  return groups.values()
}

/** Notes rows of one id beyond the first, and those of other content than that one. */
function noteRepeated(
  [first, ...others]: readonly StoredPlace[],
  repeated: Examples,
  unequal: Examples,
): void {
  for (const other of others) {
    const describe = () => `${other.id} in shards ${first!.shard} and ${other.shard}`
    repeated.add(describe)
    if (!first!.hashes.equals(other.hashes)) unequal.add(describe)
  }
}

/** Gives each row, that is the places of one id, an entry that names one of its shards. All have one hash. */
function matchEntries(
  rows: readonly (readonly StoredPlace[])[],
  entries: readonly Place[],
): { readonly unnamed: readonly (readonly StoredPlace[])[]; readonly left: readonly Place[] } {
  const left = [...entries]
  // Different ids may share a hash: those with the fewest shards choose first.
  const unnamed = rows
    .toSorted((a, b) => a.length - b.length)
    .filter((places) => {
      const found = left.findIndex(({ shard }) => places.some((place) => place.shard === shard))
      if (found >= 0) left.splice(found, 1)
      return found < 0
    })
  return { unnamed, left }
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
