/**
 * What a build tells of itself through the OpenTelemetry API; docs/metrics.md has the names. A build is a
 * short process: its application must flush the SDK before it exits.
 */
import { metrics } from "@opentelemetry/api"
import { inSpan, SCOPE, tagOf } from "../tracing.js"
import { VERSION } from "../version.js"
import type { BuildReport } from "./options.js"

/** Seconds; a small build takes one, a large one hours. */
const DURATION_BOUNDS = [0.5, 1, 2.5, 5, 10, 30, 60, 150, 300, 600, 1800, 3600, 7200, 14_400, 28_800]

/** Runs a build of the root `url` and tells how it went. */
export function observeBuild(url: string, build: () => Promise<BuildReport>): Promise<BuildReport> {
  const meter = metrics.getMeter(SCOPE, VERSION)
  const ofRoot = { "vecsnap.root": url }
  const startMs = performance.now()
  const ended = (outcome: string): void =>
    meter
      .createHistogram("vecsnap.build.duration", {
        description: "Duration of builds, by outcome",
        unit: "s",
        advice: { explicitBucketBoundaries: DURATION_BOUNDS },
      })
      .record((performance.now() - startMs) / 1000, { ...ofRoot, "vecsnap.outcome": outcome })
  return inSpan("build", ofRoot, async (span) => {
    try {
      const report = await build()
      span.setAttributes({ "vecsnap.run": report.run, "vecsnap.rows": report.rows })
      ended(report.published ? "published" : "unpublished")
      tellReport(report)
      return report
    } catch (error) {
      ended("failed")
      meter
        .createCounter("vecsnap.errors", { description: "Errors, by operation and tag", unit: "{error}" })
        .add(1, { ...ofRoot, "vecsnap.operation": "build", "error.type": tagOf(error) })
      throw error
    }
  })
}

/** Gauges of the latest build: what one wants to be alarmed about when it changes from night to night. */
function tellReport({ url, rows, skippedRows, duplicateRows, bytes, shards, timingsMs }: BuildReport): void {
  const meter = metrics.getMeter(SCOPE, VERSION)
  const ofRoot = { "vecsnap.root": url }
  const gauges: readonly (readonly [name: string, unit: string, description: string, value: number])[] = [
    ["rows", "{row}", "Rows of the snapshot", rows],
    ["skipped_rows", "{row}", "Bad rows that were left out", skippedRows],
    ["duplicate_rows", "{row}", "Rows that lost against another with the same id", duplicateRows],
    ["size", "By", "Bytes of all files of the snapshot", bytes],
    ["skew", "1", "Rows of the largest shard over the average", shards.skew],
    ["reused_shards", "{shard}", "Shards whose files were there already", shards.reused],
  ]
  for (const [name, unit, description, value] of gauges)
    meter.createGauge(`vecsnap.build.${name}`, { description, unit }).record(value, ofRoot)
  const stages = meter.createGauge("vecsnap.build.stage.duration", {
    description: "Duration of the stages of the latest build",
    unit: "s",
  })
  for (const [stage, ms] of Object.entries(timingsMs))
    if (stage !== "total") stages.record(ms / 1000, { ...ofRoot, "vecsnap.stage": stage })
}
