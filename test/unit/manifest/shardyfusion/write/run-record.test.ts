import { afterEach, beforeEach, expect, test, vi } from "vitest"
import { parse } from "yaml"
import { invalidInput } from "../../../../../src/errors.js"
import { recorded } from "../../../../../src/manifest/shardyfusion/write/run-record.js"
import { openMemoryStore } from "../../../../../src/storage/memory.js"
import type { ObjectStore } from "../../../../../src/storage/store.js"

const RUN = { run: "R", prefix: "s3://b/p" }
const START = "2026-01-02T03:04:05.120Z"
let stores = 0

beforeEach(
  () => void vi.useFakeTimers({ now: new Date(START), toFake: ["Date", "setInterval", "clearInterval"] }),
)
afterEach(() => void vi.useRealTimers())

async function textOf(store: ObjectStore): Promise<{ readonly key: string; readonly text: string }> {
  const keys: string[] = []
  for await (const { key } of store.list("")) keys.push(key)
  expect(keys).toHaveLength(1)
  return { key: keys[0]!, text: Buffer.from((await store.get(keys[0]!))!.body).toString() }
}

test("a run is recorded at its start, each minute and at its end", async () => {
  const store = openMemoryStore(`run-record-${stores++}`)
  await recorded(store, RUN, async () => {
    const { key, text } = await textOf(store)
    expect(key).toMatch(/^runs\/2026-01-02T03:04:05\.120000Z_run_id=R_[0-9a-f]{32}\/run\.yaml$/)
    expect(text).toBe(
      [
        'db_path_template: "db={db_id:05d}"',
        "error_message: null",
        "error_type: null",
        "format_version: 1",
        'lease_expires_at: "2026-01-02T03:14:05.120000Z"',
        "manifest_ref: null",
        'run_id: "R"',
        's3_prefix: "s3://b/p"',
        'shard_prefix: "shards"',
        'started_at: "2026-01-02T03:04:05.120000Z"',
        'status: "running"',
        'updated_at: "2026-01-02T03:04:05.120000Z"',
        'writer_type: "vector-vecsnap"',
        "",
      ].join("\n"),
    )
    await vi.advanceTimersByTimeAsync(60_000)
    expect(parse((await textOf(store)).text)).toMatchObject({
      status: "running",
      started_at: "2026-01-02T03:04:05.120000Z",
      updated_at: "2026-01-02T03:05:05.120000Z",
      lease_expires_at: "2026-01-02T03:15:05.120000Z",
    })
    return { manifest: "manifests/m" }
  })
  const ended = {
    status: "succeeded",
    manifest_ref: "s3://b/p/manifests/m",
    lease_expires_at: "2026-01-02T03:05:05.120000Z",
  }
  expect(parse((await textOf(store)).text)).toMatchObject(ended)
  await vi.advanceTimersByTimeAsync(120_000)
  expect(parse((await textOf(store)).text)).toMatchObject(ended)
})

test("a run that fails says why, and fails with that", async () => {
  const store = openMemoryStore(`run-record-${stores++}`)
  const message = 'record "é: #1" has\nno vector'
  await expect(
    recorded(store, RUN, async () => {
      throw invalidInput(message)
    }),
  ).rejects.toMatchObject({ tag: "InvalidInput", message })
  expect(parse((await textOf(store)).text)).toMatchObject({
    status: "failed",
    error_type: "InvalidInput",
    error_message: message,
    manifest_ref: null,
  })
})

test("a record that cannot be stored fails no run", async () => {
  const store = openMemoryStore(`run-record-${stores++}`)
  const put = vi.fn(async () => Promise.reject(new Error("no room")))
  const refusing = { ...store, put, close: () => {} } as unknown as ObjectStore
  expect(await recorded(refusing, RUN, async () => ({ manifest: "m" }))).toEqual({ manifest: "m" })
  expect(put).toHaveBeenCalledTimes(2)
})
