/**
 * Keys and URLs of the format. Every reference that is stored is an absolute URL below the prefix that the
 * snapshot was written to; keys are what follows that prefix, whatever root they are read from, so that
 * copied and renamed roots can be read.
 *
 * ```
 * _CURRENT                                             pointer
 * manifests/<time>_run_id=<run>/manifest               manifest
 * shards/run_id=<run>/db=<shard>/attempt=<n>/<file>    a file of a shard
 * vector_meta/run_id=<run>/<name>.npy                  routing artifact
 * runs/<time>_run_id=<run>_<32 hex digits>/run.yaml    run record
 * ```
 */
import { corrupt } from "../../errors.js"
import { isKey, isReadKey } from "../../storage/rules.js"
import { quoted } from "../../wording.js"
import { MANIFEST_PREFIX } from "../keys.js"
import { formatStamp, parseTime } from "./times.js"

const STAMP = String.raw`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z`
const MANIFEST_URL = /^s3:\/\/.+?\/(manifests\/[^/]+\/manifest)$/
const MANIFEST_KEY = new RegExp(`^manifests/(${STAMP})_run_id=([^/]+)/manifest$`)

export const SHARD_PREFIX = "shards"
export const DB_PATH_TEMPLATE = "db={db_id:05d}"

export const manifestKey = (time: Date, run: string): string =>
  `${MANIFEST_PREFIX}${formatStamp(time)}_run_id=${run}/manifest`
export const artifactKey = (run: string, file: string): string => `vector_meta/run_id=${run}/${file}`
/** @param unique 32 hex digits */
export const runRecordKey = (time: Date, run: string, unique: string): string =>
  `runs/${formatStamp(time)}_run_id=${run}_${unique}/run.yaml`
/** Nothing is tried twice under one run, so that the number of the attempt is always 0. */
export const shardFolder = (run: string, shard: number): string =>
  `${SHARD_PREFIX}/run_id=${run}/db=${String(shard).padStart(5, "0")}/attempt=00`

/** Time and run of a manifest, by its key; `undefined` for any other key, which listings pass over. */
export function parseManifestKey(key: string): { readonly time: Date; readonly run: string } | undefined {
  const [, stamp, run] = MANIFEST_KEY.exec(key) ?? []
  const time = parseTime(stamp)
  return time && { time, run: run! }
}

/** The folder of a run, with a slash at its end: what all shards of it lie in. */
export const runFolderOf = (shardFolder: string): string => `${/^\/*[^/]+(\/[^/]+)?/.exec(shardFolder)![0]}/`

/** The key of the manifest that a pointer names. Throws `Corrupt`. */
export function manifestKeyOf(url: string, pointer: string): string {
  const key = MANIFEST_URL.exec(url)?.[1]
  if (key !== undefined && isKey(key)) return key
  throw corrupt(
    `${pointer}: manifest_ref is ${quoted(url)}, expected s3://bucket/prefix/manifests/…/manifest`,
    { key: pointer },
  )
}

/**
 * The key of what a URL in the manifest `document` names, below the prefix that the snapshot was written to.
 * It begins with a slash if that prefix ended with one: the reference then puts another one behind it. Throws
 * `Corrupt` if it is not below it.
 */
export function keyBelow(prefix: string, url: string, document: string): string {
  const base = prefix.replace(/\/+$/, "")
  const key = url.startsWith(`${base}/`) ? url.slice(base.length + 1) : ""
  if (isReadKey(key)) return key
  throw corrupt(`${document} names ${quoted(url)}, which is not below its own prefix ${quoted(prefix)}`, {
    key: document,
  })
}
