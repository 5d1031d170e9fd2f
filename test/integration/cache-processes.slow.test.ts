import { type ChildProcess, spawn } from "node:child_process"
import { once } from "node:events"
import { readdir } from "node:fs/promises"
import { join } from "node:path"
import { createInterface } from "node:readline"
import { describe, expect, it } from "vitest"
import { buildSnapshot, openSnapshot, parseJson } from "../../src/index.js"
import { type Content, createDiskCache } from "../../src/reader/shards/disk-cache.js"
import { startS3Server } from "../servers/s3-server.js"
import { fromRoot } from "../support/paths.js"
import { bruteForce, FIELDS, makeRecords } from "../support/records.js"
import { withTempDir } from "../support/stores.js"

const RECORDS = makeRecords(400, { dim: 16, shards: 6 })
const PATIENCE = { timeout: 30_000 }
const TO = "s3://cache/root"
const EXPECTED = bruteForce(RECORDS, "cosine", new Float32Array(16).fill(0.1), 20).map(({ id }) => id)

describe.each(["sqlite-vec", "lancedb"] as const)(
  "processes that share a cache directory of %s shards",
  (backend) => {
    it("are not harmed by one that is killed while it downloads, and clean up behind it", () =>
      withTempDir(async (cacheDir) => {
        const server = await startS3Server({ buckets: ["cache"] })
        const children: ChildProcess[] = []
        const start = (): ChildProcess => {
          const child = spawn(
            process.execPath,
            [fromRoot("dist/test/support/child-search.js"), TO, cacheDir],
            {
              env: {
                ...process.env,
                AWS_ENDPOINT_URL_S3: server.endpoint,
                AWS_ACCESS_KEY_ID: "a",
                AWS_SECRET_ACCESS_KEY: "b",
              },
              stdio: ["pipe", "pipe", "inherit"],
            },
          )
          children.push(child)
          return child
        }
        try {
          const store = {
            s3: { endpoint: server.endpoint, credentials: { accessKeyId: "a", secretAccessKey: "b" } },
          }
          await buildSnapshot(RECORDS, {
            to: TO,
            store,
            backend,
            fields: FIELDS,
            sharding: { strategy: "explicit", shards: 6 },
          })

          // Some of the first one's downloads hang, the others end.
          server.fault(
            { operation: "GetObject", key: /shards\/.*\/0000[14]\// },
            { do: "delay", ms: 60_000 },
            2,
          )
          const killed = start()
          await expect
            .poll(() => server.requests.filter(({ fault }) => fault === "delay").length, PATIENCE)
            .toBe(2)
          await expect.poll(async () => (await contents(cacheDir)).length, PATIENCE).toBe(4)
          const other = start()
          killed.kill("SIGKILL")
          await once(killed, "exit")

          // The other took the four, whole, and downloaded the two that the killed one had begun.
          expect(await answerOf(other)).toEqual({ ids: EXPECTED, downloads: 2 })
          expect((await contents(cacheDir)).length).toBe(6)

          // A cache whose bound is far too low removes nothing that is open there, but what the killed one left.
          const narrow = createDiskCache(cacheDir, 1)
          const empty = (digit: string): Content => ({ name: digit.repeat(40), files: [] })
          await (await narrow.add(empty("a"), async () => {})).release()
          expect((await contents(cacheDir)).length).toBe(7)
          expect(await readdir(join(cacheDir, ".partial"))).toEqual([])
          await using reader = await openSnapshot(TO, { store, cacheDir })
          expect((await reader.warm({ verify: true })).downloads).toBe(0)

          other.stdin!.end()
          expect(await once(other, "exit")).toEqual([0, null])
          // Nor does it matter what the killed one had claimed.
          await (await narrow.add(empty("b"), async () => {})).release()
          expect(await contents(cacheDir)).toEqual([empty("b").name])
        } finally {
          for (const child of children) child.kill("SIGKILL")
          await server.close()
        }
      }))
  },
)

const contents = async (dir: string): Promise<string[]> =>
  (await readdir(dir)).filter((name) => !name.startsWith("."))

/** The line that a child prints when it has its answer. */
async function answerOf(child: ChildProcess): Promise<unknown> {
  for await (const line of createInterface(child.stdout!)) return parseJson(line)
  throw new Error("the child ended without an answer")
}
