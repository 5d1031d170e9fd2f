/** Roots that are not trusted: the same answers, from another process, and an error for a hostile shard. */
import { writeFile } from "node:fs/promises"
import { join } from "node:path"
import { describe, expect, it } from "vitest"
import { run } from "../../cli/run.js"
import { buildSnapshot, diffSnapshots, evaluateSnapshot, openSnapshot, verifyRoot } from "../../src/index.js"
import type { BackendName } from "../../src/shards/registry.js"
import { registerBackend } from "../../src/shards/registry.js"
import { noiseRows } from "../contract/shard-rows.js"
import { withTempDir } from "../support/stores.js"
import { captureIo } from "../unit/cli/capture.js"

const RECORDS = noiseRows(200, 8).map(({ id, vector }, n) => ({
  id: String(id),
  vector: Float32Array.from(vector),
  payload: { n },
}))
const QUERY = noiseRows(1, 8, 7)[0]!.vector

describe.each(["sqlite-vec", "lancedb"] as const)("an untrusted root of %s", (backend) => {
  it("is answered, verified, compared and measured as a trusted one is", () =>
    withTempDir(async (dir) => {
      const to = join(dir, "root")
      const sharding = { strategy: "cluster", shards: 3 } as const
      await buildSnapshot(RECORDS, { to, backend, metric: "l2", sharding, certificate: false })
      await buildSnapshot(RECORDS.slice(20), {
        to,
        backend,
        metric: "l2",
        sharding,
        certificate: false,
      })
      const ask = async (trust: "trusted" | "untrusted") => {
        await using reader = await openSnapshot(to, { cacheDir: join(dir, trust), trust })
        return [
          await reader.search(Array.from(QUERY), { k: 10, probes: "all" }),
          await reader.get(["r0042", "none"]),
          (await verifyRoot(to, { deep: true, trust })).faults,
          (await diffSnapshots(to, "previous", "live", { trust })).rows,
          (await evaluateSnapshot(to, { trust, sample: 20, ks: [1], probes: [3] })).curves,
        ]
      }
      expect(await ask("untrusted")).toEqual(await ask("trusted"))
    }))
})

describe("a shard that ends the process which reads it", () => {
  /** A root of three shards, the second of which ends whoever searches it. */
  async function hostileRoot(dir: string): Promise<string> {
    await registerBackend(new URL("../support/trouble.js", import.meta.url))
    const to = join(dir, "root")
    const records = RECORDS.slice(0, 9).map((record, n) => ({
      ...record,
      shard: n % 3,
      payload: { trouble: n % 3 === 1 ? { search: "abort" } : {} },
    }))
    const sharding = { strategy: "explicit", shards: 3 } as const
    const backend = "trouble" as BackendName
    await buildSnapshot(records, { to, backend, metric: "l2", sharding, certificate: false })
    return to
  }

  it("fails alone, and the rest of an untrusted root is searched and verified", () =>
    withTempDir(async (dir) => {
      const to = await hostileRoot(dir)
      await using reader = await openSnapshot(to, { cacheDir: join(dir, "cache"), trust: "untrusted" })
      const result = await reader.search(Array.from(QUERY), { shards: "all", partial: "allow" })
      expect(result.shards).toMatchObject({
        answered: [0, 2],
        failed: [{ shard: 1, reason: expect.stringMatching(/it ended with SIGABRT/) }],
      })
      const report = await verifyRoot(to, { deep: true, trust: "untrusted" })
      expect(report.faults.filter(({ message }) => message.includes("SIGABRT"))).toHaveLength(1)
    }))

  it("is an error of commands that do not trust the root, by flag or by configuration", () =>
    withTempDir(async (dir) => {
      const to = await hostileRoot(dir)
      const config = join(dir, "vecsnap.yaml")
      await writeFile(config, `to: ${to}\ntrust: untrusted\n`)
      const cache = ["--cache-dir", join(dir, "cache")]
      const query = ["--vector", JSON.stringify(Array.from(QUERY)), "--shards", "1", ...cache]
      // In this process: it would end if one of them read the shard here.
      for (const command of [
        ["query", to, ...query, "--trust", "untrusted"],
        ["query", "--config", config, ...query],
        ["verify", to, "--deep", "--trust", "untrusted"],
        ["verify", "--config", config, "--deep"],
      ]) {
        const io = captureIo()
        expect(await run(command, io), command.join(" ")).toBe(6)
        expect(io.out() + io.err()).toContain("it ended with SIGABRT")
      }
      for (const command of [
        ["diff", to, "previous", "live"],
        ["eval", to],
        ["health", to],
      ])
        expect(await run([...command, "--trust", "somewhat"], captureIo()), command.join(" ")).toBe(2)
    }))
})
