/** A case: a root of which some objects are altered, and what may still be expected of it. */
import { createHash } from "node:crypto"
import { parseJson } from "../../src/json.js"
import { parseKey } from "../../src/manifest/keys.js"
import { seal } from "../../src/manifest/seal.js"
import { sha256OfBytes } from "../../src/storage/checksum.js"
import { alterArrays, alterLocator } from "./arrays.js"
import type { Objects } from "./bases.js"
import { type Altered, alterBytes } from "./bytes.js"
import { alterCells } from "./cells.js"
import type { Chance } from "./chance.js"
import { alterDocument } from "./documents.js"
import { alterLance } from "./lance.js"
import { alterSqlite } from "./sqlite.js"

export const TARGETS = ["pointer", "manifest", "routing", "locator", "records", "shard", "unsealed"] as const
export type Target = (typeof TARGETS)[number]

export interface FuzzCase {
  readonly objects: Objects
  readonly target: Target
  readonly what: string
  /**
   * Shards whose rows may be others than those of the base, so that any sound answer will do; "all" where
   * the manifest may give them another meaning.
   */
  readonly replaced: ReadonlySet<number> | "all"
}

const NONE: ReadonlySet<number> = new Set()

/** The base as it is. */
export const unaltered = (objects: Objects): FuzzCase => ({
  objects,
  target: "pointer",
  what: "nothing",
  replaced: NONE,
})

/** The files of shards are what native code reads. */
const WEIGHTED: readonly Target[] = [...TARGETS, "manifest", "shard", "shard", "shard"]

export function makeCase(base: Objects, chance: Chance): FuzzCase {
  const hasArrays = keysOf(base, "routing").length > 1
  const target = chance.pick(WEIGHTED.filter((it) => it !== "routing" || hasArrays))
  const objects = new Map(base)
  return { objects, target, ...ALTER[target](objects, chance) }
}

type Altering = Map<string, Uint8Array>
type Outcome = Pick<FuzzCase, "what" | "replaced">

const ALTER: Readonly<Record<Target, (objects: Altering, chance: Chance) => Outcome>> = {
  pointer: (objects, chance) => ({ what: alterSealed(objects, "_CURRENT", chance).what, replaced: NONE }),

  manifest(objects, chance) {
    const { what, path } = alterSealed(objects, manifestOf(objects), chance)
    return { what, replaced: MEANINGLESS.includes(path?.[0] ?? "") ? NONE : "all" }
  },

  routing(objects, chance) {
    const keys = keysOf(objects, "routing").filter((key) => !key.endsWith("ids.bin"))
    const key = chance.pick(keys)
    const { bytes, what } = alterArrays(key, objects.get(key)!, chance)
    replace(objects, key, bytes)
    return { what: `${key}: ${what}`, replaced: NONE }
  },

  locator(objects, chance) {
    const [key] = keysOf(objects, "routing").filter((it) => it.endsWith("ids.bin"))
    const { locator } = readManifest(objects)
    const { bytes, index, what } = alterLocator(objects.get(key!)!, locator.index.size, chance)
    objects.set(key!, bytes)
    const part = bytes.subarray(Math.max(0, bytes.length - index))
    changeManifest(objects, (manifest) => {
      manifest.locator = {
        ...manifest.locator,
        size: bytes.length,
        sha256: sha256OfBytes(bytes),
        index: { size: index, sha256: sha256OfBytes(part) },
      }
    })
    return { what: `locator: ${what}`, replaced: NONE }
  },

  records(objects, chance) {
    const key = chance.pick([
      ...keysOf(objects, "run"),
      ...keysOf(objects, "pin"),
      ...keysOf(objects, "reader"),
    ])
    return { what: `${key}: ${alterSealed(objects, key, chance).what}`, replaced: NONE }
  },

  shard(objects, chance) {
    const key = chance.pick(liveShardKeys(objects))
    const original = objects.get(key)!
    const { bytes, what } = alterFile(key, original, chance)
    replace(objects, key, bytes)
    const parsed = parseKey(key)
    return { what: `${key}: ${what}`, replaced: new Set(parsed?.kind === "shard" ? [parsed.shard] : []) }
  },

  unsealed(objects, chance) {
    const key = chance.pick([...objects.keys()])
    const { bytes, what } = alterBytes(objects.get(key)!, chance)
    if (chance.oneIn(6)) objects.delete(key)
    else objects.set(key, bytes)
    return { what: `${key}: ${objects.has(key) ? what : "deleted"}`, replaced: NONE }
  },
}

function alterFile(key: string, original: Uint8Array, chance: Chance): Altered {
  if (key.endsWith("/shard.db")) return alterSqlite(original, chance)
  if (key.endsWith("/cells.bin")) return alterCells(original, chance)
  return alterLance(key, original, chance)
}

/** Properties of a manifest of which no row depends. */
const MEANINGLESS = ["build", "custom", "recall", "base", "basePublication", "artifacts", "locator", "codes"]

const textOf = (bytes: Uint8Array): string => Buffer.from(bytes).toString()

const keysOf = (objects: Objects, kind: string): string[] =>
  [...objects.keys()].filter((key) => parseKey(key)?.kind === kind)

/** The manifest of the live snapshot, which is the later one. */
const manifestOf = (objects: Objects): string => keysOf(objects, "manifest").sort().at(-1)!

interface WireFile {
  name: string
  size: number
  sha256: string
}
interface WireManifest {
  sharding: { artifacts: { key: string; size: number; sha256: string }[] }
  codes?: { key: string; size: number; sha256: string }
  locator: { key: string; size: number; sha256: string; index: { size: number; sha256: string } }
  shards: { shard: number; folder: string; files: WireFile[] }[]
}

function readManifest(objects: Objects): WireManifest {
  const { sha256: _, ...manifest } = parseJson(textOf(objects.get(manifestOf(objects))!)) as object & {
    sha256?: string
  }
  return manifest as unknown as WireManifest
}

function changeManifest(objects: Altering, change: (manifest: WireManifest) => void): void {
  const manifest = readManifest(objects)
  change(manifest)
  objects.set(manifestOf(objects), seal({ ...manifest }))
}

/** Files of the live snapshot's shards; those of Lance have random names, so by folder and length. */
function liveShardKeys(objects: Objects): string[] {
  const files = readManifest(objects).shards.flatMap(({ folder, files }) =>
    files.map(({ name, size }) => ({ key: `${folder}/${name}`, folder, size })),
  )
  const kind = (key: string): string =>
    key.replace(/[^/]*\.(lance|txn|manifest)$/, "$1").replace(/[0-9a-f-]{36}/, "")
  return files
    .sort((a, b) => (a.folder + kind(a.key) < b.folder + kind(b.key) ? -1 : 1))
    .map(({ key }) => key)
}

/** Puts a file in place, and its size and checksum into the manifest. */
function replace(objects: Altering, key: string, bytes: Buffer): void {
  objects.set(key, bytes)
  const entry = { size: bytes.length, sha256: sha256OfBytes(bytes) }
  changeManifest(objects, ({ sharding, codes, shards }) => {
    if (codes?.key === key) Object.assign(codes, entry)
    for (const artifact of sharding.artifacts) if (artifact.key === key) Object.assign(artifact, entry)
    for (const { folder, files } of shards)
      for (const file of files) if (`${folder}/${file.name}` === key) Object.assign(file, entry)
  })
}

/** Alters a sealed document and seals it again, mostly as JSON, now and then as bytes. */
function alterSealed(
  objects: Altering,
  key: string,
  chance: Chance,
): { readonly what: string; readonly path?: readonly string[] } {
  const original = Buffer.from(objects.get(key)!)
  if (chance.oneIn(5)) {
    const end = original.lastIndexOf(`,\n  "sha256"`)
    const { bytes, what } = alterBytes(original.subarray(0, end), chance)
    objects.set(key, sealBytes(bytes))
    return { what }
  }
  const { document, path, what } = alterDocument(textOf(original), chance)
  try {
    objects.set(key, seal(document))
  } catch {
    // What our own writer refuses: put together by hand, as somebody else would.
    const text = JSON.stringify(document, (_, value) => (typeof value === "bigint" ? `${value}` : value), 2)
    objects.set(key, sealBytes(Buffer.from(text.slice(0, text.lastIndexOf("}")).trimEnd())))
  }
  return { what, path }
}

function sealBytes(body: Buffer): Buffer {
  const digest = createHash("sha256").update(body).digest("hex")
  return Buffer.concat([body, Buffer.from(`,\n  "sha256": "${digest}"\n}\n`)])
}
