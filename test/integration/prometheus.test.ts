import { randomUUID } from "node:crypto"
import * as prometheus from "prom-client"
import { expect, it } from "vitest"
import { buildSnapshot, openSnapshot, type Reader } from "../../src/index.js"
import { registerMetrics } from "../../src/reader/report/prometheus.js"
import { FIELDS, makeRecords } from "../support/records.js"
import { withTempDir } from "../support/stores.js"

const RECORDS = makeRecords(60, { dim: 8 })

async function openNew(cacheDir: string): Promise<Reader> {
  const to = `memory://prometheus-${randomUUID()}`
  await buildSnapshot(RECORDS, { to, fields: FIELDS, sharding: { strategy: "cluster", shards: 2 } })
  return openSnapshot(to, { cacheDir })
}

it("registers the metrics of several readers in one registry, told apart by root", () =>
  withTempDir(async (cacheDir) => {
    const registry = new prometheus.Registry()
    const one = await openNew(`${cacheDir}/one`)
    const two = await openNew(`${cacheDir}/two`)
    const ends = [one, two].map((reader) => registerMetrics(reader, prometheus, registry))
    const vector = RECORDS[0]!.vector as Float32Array
    await one.search(vector, { probes: "all" })
    await one.search(vector, { probes: 1 })
    await two.refresh()
    await expect(two.search([1])).rejects.toMatchObject({ tag: "InvalidInput" })

    const text = await registry.metrics()
    const root = `root="${one.snapshot.url}"`
    const other = `root="${two.snapshot.url}"`
    for (const line of [
      `vecsnap_search_duration_seconds_count{${root},outcome="complete"} 2`,
      `vecsnap_search_duration_seconds_count{${other},outcome="failed"} 1`,
      `vecsnap_search_shards_sum{${root}} 3`,
      `vecsnap_shard_opens_total{${root}} 2`,
      `vecsnap_shard_downloads_total{${root}} 2`,
      `vecsnap_refreshes_total{${other},outcome="unchanged"} 1`,
      `vecsnap_errors_total{${other},operation="search",tag="InvalidInput"} 1`,
      `vecsnap_open_shards{${root}} 2`,
      `vecsnap_open_shards{${other}} 0`,
      `vecsnap_queue_length{${root}} 0`,
    ])
      expect(text.split("\n")).toContain(line)
    expect(text).toMatch(new RegExp(`^vecsnap_snapshot_age_seconds{${root}} \\d`, "m"))
    expect(text).toMatch(new RegExp(`^vecsnap_shard_download_bytes_total{${root}} \\d{4}`, "m"))

    ends[0]!()
    await one.search(vector)
    const later = await registry.metrics()
    expect(later).not.toContain(`vecsnap_open_shards{${root}}`)
    expect(later).toContain(`vecsnap_open_shards{${other}} 0`)
    expect(later).toContain(`vecsnap_search_duration_seconds_count{${root},outcome="complete"} 2`)
    await Promise.all([one.close(), two.close()])
    expect(() => registerMetrics(one, prometheus, registry)).toThrow(/only an open reader/)
  }))
