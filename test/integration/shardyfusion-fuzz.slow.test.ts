/**
 * Mutated manifests of shardyfusion: whatever was changed in the rows, the texts or the bytes of one, it opens as
 * what it says or is refused by a typed error, in bounded time; never anything else.
 */
import Sqlite from "better-sqlite3"
import fc from "fast-check"
import { describe, expect, test } from "vitest"
import { isVecsnapError } from "../../src/errors.js"
import { readLiveSnapshot } from "../../src/manifest/formats.js"
import { POINTER_KEY } from "../../src/manifest/keys.js"
import { META_COLUMNS, SHARD_COLUMNS } from "../../src/manifest/shardyfusion/documents.js"
import { readArtifacts, readSnapshot } from "../../src/manifest/shardyfusion/read.js"
import { restoreStrategy } from "../../src/sharding/registry.js"
import { snapshotFiles, strategyContextOf } from "../../src/snapshot/snapshot.js"
import { isReadKey } from "../../src/storage/rules.js"
import { FIXTURES, loadFixture, storedFixture } from "../support/shardyfusion.js"

const SQL_VALUES = fc.oneof(
  fc.constant(null),
  fc.constantFrom(
    "",
    "{}",
    "[]",
    "null",
    "4",
    "-1",
    "1e9",
    "s3://other/x",
    "../../etc",
    "s3://fixtures/x/../y",
  ),
  fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }),
  fc.double({ noNaN: true }),
  fc.string({ maxLength: 40 }),
  fc.uint8Array({ maxLength: 12 }),
)
const JSON_VALUES = fc.oneof(
  fc.jsonValue({ maxDepth: 2 }) as fc.Arbitrary<unknown>,
  fc.constantFrom<unknown>("cluster", "lsh", "explicit", "cel", "dot_product", -1, 0, 2 ** 40, 1e300, true),
)
/** Properties of `custom.vector`, and of what may be in it. */
const PROPERTIES = [
  ...[
    "dim",
    "metric",
    "sharding_strategy",
    "num_probes",
    "centroids_ref",
    "hyperplanes_ref",
    "num_hash_bits",
  ],
  ...["cel_expr", "cel_columns", "routing_values", "backend", "vecsnap", "unified", "total_vectors"],
]

type Mutation = (db: Sqlite.Database) => void

const mutations: fc.Arbitrary<Mutation> = fc.oneof(
  fc.tuple(fc.constantFrom(...META_COLUMNS), SQL_VALUES).map(
    ([column, value]): Mutation =>
      (db) =>
        void db.prepare(`UPDATE build_meta SET ${column} = ?`).run(value),
  ),
  fc.tuple(fc.constantFrom(...SHARD_COLUMNS), fc.nat(7), SQL_VALUES).map(
    ([column, row, value]): Mutation =>
      (db) =>
        void db
          .prepare(
            `UPDATE shards SET ${column} = ? WHERE rowid = (SELECT rowid FROM shards LIMIT 1 OFFSET ?)`,
          )
          .run(value, row % 3),
  ),
  fc.tuple(fc.constantFrom(...PROPERTIES), fc.option(JSON_VALUES)).map(
    ([property, value]): Mutation =>
      (db) => {
        const custom = JSON.parse(db.prepare("SELECT custom FROM build_meta").pluck().get() as string) as {
          vector?: Record<string, unknown>
        }
        if (custom?.vector === undefined) return
        if (value === null) delete custom.vector[property]
        else custom.vector[property] = value
        db.prepare("UPDATE build_meta SET custom = ?").run(JSON.stringify(custom))
      },
  ),
  fc.constantFrom<Mutation>(
    (db) => void db.exec("DELETE FROM shards"),
    (db) => void db.exec("DELETE FROM build_meta"),
    (db) => void db.exec("DROP TABLE shards"),
    (db) => void db.exec("ALTER TABLE shards RENAME COLUMN db_url TO url"),
    (db) => void db.exec("ALTER TABLE shards ADD COLUMN later TEXT"),
    (db) => void db.exec("INSERT INTO build_meta SELECT * FROM build_meta"),
    (db) => void db.exec("CREATE TABLE more AS SELECT * FROM shards"),
    (db) => void db.exec("ALTER TABLE shards RENAME TO s; CREATE VIEW shards AS SELECT * FROM s"),
  ),
)

/** What is changed in the bytes of the file: a few of them, or its end. */
const damages = fc.oneof(
  fc
    .array(fc.tuple(fc.nat(12_287), fc.nat(255)), { minLength: 1, maxLength: 4 })
    .map((changes) => (bytes: Buffer) => {
      for (const [at, value] of changes) bytes[at % bytes.length] = value
      return bytes
    }),
  fc.nat(12_287).map((length) => (bytes: Buffer) => bytes.subarray(0, length)),
)

const CASES = 640
const SECONDS = 120

describe.each(FIXTURES)("%s", (name) => {
  test(
    `opens as what it says, or not, in ${CASES} mutations of its manifest`,
    async () => {
      const fixture = loadFixture(name)
      const store = await storedFixture(name)
      const { manifest: key, snapshot: sound } = await readLiveSnapshot(store)
      const original = fixture.objects.get(key)!
      let opened = 0

      const check = async (bytes: Uint8Array): Promise<void> => {
        await store.put(key, bytes)
        try {
          const snapshot = await readSnapshot(store, key)
          // What is not refused is sound.
          expect(snapshot.schema.dim).toBeGreaterThan(0)
          expect(snapshot.sharding.shards).toBeGreaterThan(0)
          const numbers = snapshot.shards.map(({ shard }) => shard)
          expect(numbers).toEqual([...new Set(numbers)].sort((a, b) => a - b))
          expect(numbers.every((shard) => shard >= 0 && shard < snapshot.sharding.shards)).toBe(true)
          expect(snapshotFiles(snapshot).every((file) => isReadKey(file.key))).toBe(true)
          expect(snapshot.rows).toBe(snapshot.shards.reduce((sum, { rows }) => sum + rows, 0))
          const arrays = await readArtifacts(store, snapshot)
          await restoreStrategy(snapshot.sharding, arrays, strategyContextOf(snapshot))
          if (Buffer.from(bytes).equals(original)) expect(snapshot).toEqual(sound)
          opened++
        } catch (error) {
          if (!isVecsnapError(error)) throw error
          expect(["Corrupt", "Unsupported", "NotFound"]).toContain(error.tag)
        }
      }

      await fc.assert(
        fc.asyncProperty(fc.array(mutations, { minLength: 1, maxLength: 2 }), async (all) => {
          const db = new Sqlite(Buffer.from(original))
          for (const mutate of all) {
            try {
              mutate(db)
            } catch (error) {
              // What an earlier mutation has taken away, or constraints refuse.
              if (!(error instanceof Sqlite.SqliteError) && !(error instanceof SyntaxError)) throw error
            }
          }
          const bytes = db.serialize()
          db.close()
          await check(bytes)
        }),
        { numRuns: CASES / 2, seed: 22 },
      )
      await fc.assert(
        fc.asyncProperty(damages, async (damage) => {
          await check(damage(Buffer.from(original)))
        }),
        { numRuns: CASES / 2, seed: 22 },
      )
      // Both happen, so that neither goes without a test.
      expect(opened).toBeGreaterThan(CASES / 20)
      expect(opened).toBeLessThan(CASES)
      await store.put(key, original)
      expect((await readLiveSnapshot(store)).snapshot).toEqual(sound)
      expect(await store.get(POINTER_KEY)).toBeDefined()
    },
    SECONDS * 1000,
  )
})
