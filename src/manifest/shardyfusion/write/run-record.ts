/**
 * The record of a run, `run.yaml`: for people, and for tools that list what was tried. Nothing is decided by
 * it, so that a record which cannot be stored fails no run.
 */
import { randomUUID } from "node:crypto"
import { isVecsnapError, messageOf } from "../../../errors.js"
import type { Json } from "../../../records.js"
import type { ObjectStore } from "../../../storage/store.js"
import { pythonJson } from "../json.js"
import { DB_PATH_TEMPLATE, runRecordKey, SHARD_PREFIX } from "../keys.js"
import { formatTime } from "../times.js"

/** How long a run that says no more may be alive, and how often it says so. */
const LEASE_MS = 10 * 60_000
const BEAT_MS = 60_000

/** Who wrote it, in the form of the reference's own: "vector-python", "vector-spark". */
const WRITER = "vector-vecsnap"

/**
 * Runs `work`, which returns the key of its manifest, with a record of the run: stored at its start, each
 * minute, and when it has ended one way or the other.
 */
export async function recorded<T extends { readonly manifest: string }>(
  store: ObjectStore,
  { run, prefix }: { readonly run: string; readonly prefix: string },
  work: () => Promise<T>,
): Promise<T> {
  const startedAt = new Date()
  const key = runRecordKey(startedAt, run, randomUUID().replaceAll("-", ""))
  // One after the other, so that the last one said is the last one stored.
  let stored = Promise.resolve()
  const say = (status: "running" | "succeeded" | "failed", facts: Readonly<Record<string, Json>> = {}) => {
    const now = new Date()
    const record = {
      format_version: 1,
      run_id: run,
      writer_type: WRITER,
      status,
      started_at: formatTime(startedAt),
      updated_at: formatTime(now),
      lease_expires_at: formatTime(status === "running" ? new Date(now.getTime() + LEASE_MS) : now),
      s3_prefix: prefix,
      shard_prefix: SHARD_PREFIX,
      db_path_template: DB_PATH_TEMPLATE,
      manifest_ref: null,
      error_type: null,
      error_message: null,
      ...facts,
    }
    const body = Buffer.from(blockMapping(record))
    stored = stored
      .then(() => store.put(key, body, { contentType: "application/x-yaml" }))
      .then(
        () => {},
        () => {},
      )
    return stored
  }

  await say("running")
  const beat = setInterval(() => void say("running"), BEAT_MS)
  beat.unref()
  try {
    const done = await work()
    clearInterval(beat)
    await say("succeeded", { manifest_ref: `${prefix}/${done.manifest}` })
    return done
  } catch (error) {
    clearInterval(beat)
    const type = isVecsnapError(error) ? error.tag : "Error"
    await say("failed", { error_type: type, error_message: messageOf(error) })
    throw error
  }
}

/** YAML, a line per property in order of names. Texts are in double quotes, as in JSON. */
const blockMapping = (record: Readonly<Record<string, Json>>): string =>
  Object.keys(record)
    .sort()
    .map((name) => `${name}: ${pythonJson(record[name]!)}\n`)
    .join("")
