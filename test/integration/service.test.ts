/** The example service as a real process: queried, scraped, refreshed under load, and told to end. */
import { spawn } from "node:child_process"
import { once } from "node:events"
import { createInterface } from "node:readline"
import { expect, it } from "vitest"
import { buildSnapshot } from "../../src/index.js"
import { fromRoot } from "../support/paths.js"
import { FIELDS, makeRecords } from "../support/records.js"
import { withTempDir } from "../support/stores.js"

const RECORDS = makeRecords(80, { dim: 8 })

it("the example service answers, is scraped, and ends without a failed request on SIGTERM", () =>
  withTempDir(async (dir) => {
    const root = `${dir}/root`
    const build = () =>
      buildSnapshot(RECORDS, { to: root, fields: FIELDS, sharding: { strategy: "cluster", shards: 4 } })
    await build()
    const child = spawn(process.execPath, [fromRoot("dist/examples/service/main.js")], {
      env: {
        PATH: process.env.PATH,
        SNAPSHOT: root,
        CACHE_DIR: `${dir}/cache`,
        PORT: "0",
        REFRESH_SECONDS: "0.2",
      },
      stdio: ["ignore", "pipe", "inherit"],
    })
    try {
      const exited = once(child, "exit") as Promise<[number | null, NodeJS.Signals | null]>
      const lines: string[] = []
      const address = await new Promise<string>((resolve, reject) => {
        createInterface(child.stdout).on("line", (line) => {
          lines.push(line)
          const [, url] = /^listening at (.*)$/.exec(line) ?? []
          if (url !== undefined) resolve(url)
        })
        exited.then(([code]) => reject(new Error(`the service ended with ${code}`)), reject)
      })
      const post = (body: object): Promise<Response> =>
        fetch(`${address}/search`, {
          method: "POST",
          headers: { "content-type": "application/json" },
          body: JSON.stringify(body),
        })
      const vectorOf = (n: number) => Array.from(RECORDS[n]!.vector as Float32Array)

      const answer = await post({ vector: vectorOf(5), k: 3, probes: 4 })
      expect(answer.status).toBe(200)
      const { hits } = (await answer.json()) as { hits: { id: string }[] }
      expect(hits).toHaveLength(3)
      expect(hits[0]!.id).toBe("id-5")

      const refused = await post({ vector: [1, 2] })
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
      const load = Array.from({ length: 4 }, async (_, client) => {
        for (let n = client; ; n = (n + 4) % RECORDS.length) {
          try {
            const response = await post({ vector: vectorOf(n), k: 1, probes: 4 })
            expect(response.status).toBe(200)
            expect(((await response.json()) as { hits: { id: string }[] }).hits[0]!.id).toBe(`id-${n}`)
            answered++
          } catch (error) {
            // Once it ends no connection is accepted any more; an answer that fails before that is a failure.
            if (ending && (error as Error).message === "fetch failed") return
            throw error
          }
        }
      })
      await build()
      const before = answered
      while (answered < before + 100)
        await Promise.race([...load, new Promise((done) => setTimeout(done, 20))])
      ending = true
      child.kill("SIGTERM")
      await Promise.all(load)
      expect(await exited).toEqual([0, null])
      expect(lines.at(-1)).toBe("closed")
    } finally {
      child.kill("SIGKILL")
    }
  }))
