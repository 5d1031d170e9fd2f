/** The example service as a real process: queried, scraped, refreshed under load, and told to end. */
import { type ChildProcess, spawn } from "node:child_process"
import { once } from "node:events"
import { writeFile } from "node:fs/promises"
import { request } from "node:http"
import { createInterface } from "node:readline"
import { json } from "node:stream/consumers"
import { setTimeout as delay } from "node:timers/promises"
import { expect, it } from "vitest"
import { buildSnapshot, type StoreOptions } from "../../src/index.js"
import { cliEnvironment } from "../support/cli.js"
import { fromRoot } from "../support/paths.js"
import { FIELDS, makeRecords } from "../support/records.js"
import { ALL } from "../support/scope.js"
import { s3Root, withTempDir } from "../support/stores.js"

const RECORDS = makeRecords(80, { dim: 8 })
const vectorOf = (n: number): number[] => Array.from(RECORDS[n]!.vector as Float32Array)

/** Publishes the records; their ids begin with `prefix`. */
async function publish(root: string, prefix: string, store: StoreOptions = {}): Promise<string> {
  const records = RECORDS.map((record, n) => ({ ...record, id: `${prefix}-${n}` }))
  const sharding = { strategy: "cluster", shards: 4 } as const
  const { run } = await buildSnapshot(records, { to: root, store, fields: FIELDS, sharding })
  return run
}

interface Service {
  readonly child: ChildProcess
  readonly address: string
  /** What it has printed. */
  readonly lines: readonly string[]
  readonly exited: Promise<[number | null, NodeJS.Signals | null]>
  search(body: object): Promise<Response>
}

/** Runs `use` with the service on that root. */
async function withService(dir: string, root: string, use: (service: Service) => Promise<void>) {
  const child = spawn(process.execPath, [fromRoot("dist/examples/service/main.js")], {
    env: {
      ...cliEnvironment(),
      SNAPSHOT: root,
      CACHE_DIR: `${dir}/cache`,
      PORT: "0",
      REFRESH_SECONDS: "0.2",
    },
    stdio: ["ignore", "pipe", "inherit"],
  })
  try {
    const exited = once(child, "exit") as Service["exited"]
    const lines: string[] = []
    const address = await new Promise<string>((resolve, reject) => {
      createInterface(child.stdout).on("line", (line) => {
        lines.push(line)
        const [, url] = /^listening at (.*)$/.exec(line) ?? []
        if (url !== undefined) resolve(url)
      })
      exited.then(([code]) => reject(new Error(`the service ended with ${code}`)), reject)
    })
    const search = (body: object): Promise<Response> =>
      fetch(`${address}/search`, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify(body),
      })
    await use({ child, address, lines, exited, search })
  } finally {
    child.kill("SIGKILL")
  }
}

interface SearchAnswer {
  readonly snapshot: string
  readonly hits: readonly { readonly id: string }[]
}

it("the example service answers, is scraped, follows a new snapshot and ends, without a failed request", () =>
  withTempDir(async (dir) => {
    const root = `${dir}/root`
    const first = await publish(root, "first")
    await withService(dir, root, async ({ child, address, lines, exited, search }) => {
      const answer = await search({ vector: vectorOf(5), k: 3, probes: 4 })
      expect(answer.status).toBe(200)
      const { snapshot, hits } = (await answer.json()) as SearchAnswer
      expect(snapshot).toBe(first)
      expect(hits).toHaveLength(3)
      expect(hits[0]!.id).toBe("first-5")

      const refused = await search({ vector: [1, 2] })
      expect([refused.status, await refused.json()]).toEqual([
        400,
        { error: expect.stringContaining("the query vector has 2 values, expected 8") },
      ])
      const health = await fetch(`${address}/healthz`)
      expect([health.status, await health.json()]).toMatchObject([200, { status: "healthy" }])
      const metrics = await (await fetch(`${address}/metrics`)).text()
      expect(metrics).toMatch(/^vecsnap_search_duration_seconds_count\{.*outcome="complete"\} 1$/m)
      expect(metrics).toMatch(/^process_cpu_seconds_total /m)

      // Under load while another snapshot is published, and while it is told to end.
      let answered = 0
      let ending = false
      /** Snapshots that have answered, with the prefix of their hits. */
      const seen = new Set<string>()
      const load = Array.from({ length: 4 }, async (_, client) => {
        for (let n = client; ; n = (n + 4) % RECORDS.length) {
          try {
            const response = await search({ vector: vectorOf(n), k: 1, probes: 4 })
            expect(response.status).toBe(200)
            const { snapshot, hits } = (await response.json()) as SearchAnswer
            const [prefix, number] = hits[0]!.id.split("-")
            expect(number).toBe(String(n))
            seen.add(`${snapshot} ${prefix}`)
            answered++
          } catch (error) {
            // Once it ends no connection is accepted any more; an answer that fails before that is a failure.
            if (ending && (error as Error).message === "fetch failed") return
            throw error
          }
        }
      })
      const underLoad = async (isDone: () => boolean): Promise<void> => {
        while (!isDone()) await Promise.race([...load, delay(20)])
      }
      const second = await publish(root, "second")
      await underLoad(() => seen.has(`${second} second`))
      const before = answered
      await underLoad(() => answered >= before + 100)
      expect([...seen]).toEqual([`${first} first`, `${second} second`])
      const { snapshot: healthOf } = (await (await fetch(`${address}/healthz`)).json()) as SearchAnswer
      expect(healthOf).toBe(second)

      ending = true
      child.kill("SIGTERM")
      await Promise.all(load)
      expect(await exited).toEqual([0, null])
      expect(lines.at(-1)).toBe("closed")
    })
  }))

it.runIf(ALL)("a fault of the machine is no fault of the caller: 503 without paths, then unhealthy", () =>
  withTempDir(async (dir) => {
    const { url, store } = s3Root("service")
    await publish(url, "only", store)
    await writeFile(`${dir}/cache`, "a file, so that no cache directory can be made")
    await withService(dir, url, async ({ address, search }) => {
      for (let n = 0; n < 5; n++) {
        const answer = await search({ vector: vectorOf(n), k: 1 })
        expect([answer.status, await answer.json()]).toEqual([503, { error: "not available now" }])
      }
      const health = await fetch(`${address}/healthz`)
      const said = await health.text()
      expect([health.status, JSON.parse(said)]).toMatchObject([503, { status: "unhealthy" }])
      expect(said).not.toContain(dir)
    })
  }),
)

it.runIf(ALL)("a terminal that is closed ends the example service in order", () =>
  withTempDir(async (dir) => {
    const root = `${dir}/root`
    await publish(root, "only")
    await withService(dir, root, async ({ child, exited, search }) => {
      expect((await search({ vector: vectorOf(1), k: 1 })).status).toBe(200)
      // What it prints from now on fails, as on a terminal that is gone.
      child.stdout!.destroy()
      child.kill("SIGHUP")
      expect(await exited).toEqual([0, null])
    })
  }),
)

it.runIf(ALL)("a request that the example service has begun to read is answered after SIGTERM", () =>
  withTempDir(async (dir) => {
    const root = `${dir}/root`
    await publish(root, "only")
    await withService(dir, root, async ({ child, address, lines, exited }) => {
      const body = JSON.stringify({ vector: vectorOf(7), k: 1, probes: 4 })
      const begun = request(`${address}/search`, {
        method: "POST",
        headers: {
          "content-type": "application/json",
          "content-length": Buffer.byteLength(body),
          // Answered as soon as the header is read: from then on the request is the service's.
          expect: "100-continue",
        },
      })
      const answered = once(begun, "response")
      begun.flushHeaders()
      await once(begun, "continue")
      child.kill("SIGTERM")
      const accepts = () =>
        fetch(`${address}/healthz`, { headers: { connection: "close" } }).then(
          () => true,
          () => false,
        )
      while (await accepts()) await delay(10)
      expect(lines).not.toContain("closed")

      begun.end(body)
      const [response] = await answered
      expect(response.statusCode).toBe(200)
      expect(response.headers.connection).toBe("close")
      expect(((await json(response)) as SearchAnswer).hits[0]!.id).toBe("only-7")
      expect(await exited).toEqual([0, null])
      expect(lines.at(-1)).toBe("closed")
    })
  }),
)
