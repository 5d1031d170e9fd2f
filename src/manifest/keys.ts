/**
 * Every object key of a snapshot root is built and parsed here, and nowhere else.
 *
 * ```
 * _CURRENT                                   pointer
 * manifests/<time>-<run>.json                manifest
 * routing/<run>/<file>                       routing artifact
 * shards/<run>/<shard>/<attempt>/<file>      a file of a shard; <file> may contain "/"
 * runs/<run>.json                            run record, with the lease of a run that is going on
 * pins/<run>.json                            protects the snapshot of a run from collection
 * readers/<lease>.json                       lease of a reader: protects the snapshot that it has open
 * probes/<id>/<file>                         a trial write, removed at once; <file> may contain "/"
 * ```
 *
 * `<time>` is UTC without separators, so that keys sort by time; `<shard>` has at least five digits.
 */
import { randomInt } from "node:crypto"

export type ParsedKey =
  | { readonly kind: "pointer" }
  | { readonly kind: "manifest"; readonly time: Date; readonly run: string }
  | { readonly kind: "routing"; readonly run: string; readonly file: string }
  | {
      readonly kind: "shard"
      readonly run: string
      readonly shard: number
      readonly attempt: number
      readonly file: string
    }
  | { readonly kind: "run"; readonly run: string }
  | { readonly kind: "pin"; readonly run: string }
  | { readonly kind: "reader"; readonly lease: string }
  | { readonly kind: "probe"; readonly id: string; readonly file: string }

export const POINTER_KEY = "_CURRENT"
export const MANIFEST_PREFIX = "manifests/"

export const manifestKey = (time: Date, run: string): string =>
  `${MANIFEST_PREFIX}${formatTime(time)}-${run}.json`
export const routingKey = (run: string, file: string): string => `routing/${run}/${file}`
export const RUN_PREFIX = "runs/"
export const PIN_PREFIX = "pins/"
export const READER_PREFIX = "readers/"
export const runKey = (run: string): string => `${RUN_PREFIX}${run}.json`
export const pinKey = (run: string): string => `${PIN_PREFIX}${run}.json`
export const readerKey = (lease: string): string => `${READER_PREFIX}${lease}.json`

/**
 * What is written only to see how the store behaves. `id` is of the form of {@link newId}, fresh for each
 * trial.
 */
export const probeKey = (id: string, file: string): string => `probes/${id}/${file}`

/** The folder of one attempt at one shard; the shard's files are below it. */
export const shardFolder = (run: string, shard: number, attempt: number): string =>
  `shards/${run}/${String(shard).padStart(5, "0")}/${attempt}`

const RUN_ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyz"
const RUN_LENGTH = 12

/** A new id of a run, of a reader's lease or of one write: 12 random characters of [0-9a-z], 62 bits. */
export function newId(): string {
  return Array.from({ length: RUN_LENGTH }, () => RUN_ALPHABET[randomInt(RUN_ALPHABET.length)]).join("")
}

const RUN = "[0-9a-z]{12}"
const TIME = String.raw`\d{8}T\d{6}\.\d{3}Z`
const MANIFEST = new RegExp(`^manifests/(${TIME})-(${RUN})\\.json$`)
const ROUTING = new RegExp(`^routing/(${RUN})/([^/]+)$`)
const SHARD = new RegExp(`^shards/(${RUN})/(\\d{5,})/(\\d+)/(.+)$`)
const NAMED = new RegExp(`^(runs|pins|readers)/(${RUN})\\.json$`)
const PROBE = new RegExp(`^probes/(${RUN})/(.+)$`)
const RUN_ID = new RegExp(`^${RUN}$`)

export const isRunId = (text: string): boolean => RUN_ID.test(text)

/** What a key is, or `undefined` for a key that is none of ours (which nothing may delete). */
export function parseKey(key: string): ParsedKey | undefined {
  if (key === POINTER_KEY) return { kind: "pointer" }
  const manifest = MANIFEST.exec(key)
  if (manifest) {
    const time = parseTime(manifest[1]!)
    return time && { kind: "manifest", time, run: manifest[2]! }
  }
  const routing = ROUTING.exec(key)
  if (routing && isSafeFileName(routing[2]!)) return { kind: "routing", run: routing[1]!, file: routing[2]! }
  const shard = SHARD.exec(key)
  if (shard && isSafeFileName(shard[4]!)) {
    const parsed = {
      kind: "shard",
      run: shard[1]!,
      shard: Number(shard[2]),
      attempt: Number(shard[3]),
      file: shard[4]!,
    } as const
    // Only the one spelling that we write is ours: not "000001" for shard 1, nor attempt "00".
    return `${shardFolder(parsed.run, parsed.shard, parsed.attempt)}/${parsed.file}` === key
      ? parsed
      : undefined
  }
  const [, folder, id] = NAMED.exec(key) ?? []
  if (folder === "runs") return { kind: "run", run: id! }
  if (folder === "pins") return { kind: "pin", run: id! }
  if (folder === "readers") return { kind: "reader", lease: id! }
  const probe = PROBE.exec(key)
  if (probe && isSafeFileName(probe[2]!)) return { kind: "probe", id: probe[1]!, file: probe[2]! }
  return undefined
}

/**
 * Whether a relative file name from a manifest stays below the folder it is joined to: no empty, "." or ".."
 * segment, no leading "/", no backslash, no control character.
 */
export function isSafeFileName(name: string): boolean {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is looked for
  if (name.length === 0 || name.length > 1024 || /[\u0000-\u001f\\]/.test(name)) return false
  return name.split("/").every((segment) => segment !== "" && segment !== "." && segment !== "..")
}

function formatTime(time: Date): string {
  return time.toISOString().replace(/[-:]/g, "")
}

function parseTime(text: string): Date | undefined {
  const iso = text.replace(/^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d\.\d{3}Z)$/, "$1-$2-$3T$4:$5:$6")
  const time = new Date(iso)
  return Number.isNaN(time.getTime()) || time.toISOString() !== iso ? undefined : time
}
