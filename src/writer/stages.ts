/** Times the stages of a build and passes their progress on. */
import type { Logger } from "../logger.js"
import { inSpan } from "../tracing.js"
import type { Progress, Stage } from "./options.js"

export interface StageClock {
  /** Runs one stage; its duration is added to the stage's. */
  time<T>(stage: Stage, work: (progress: (done: number, total?: number) => void) => Promise<T>): Promise<T>
  /** Milliseconds by stage, and since the start as `total`. */
  timingsMs(): Record<string, number>
}

const UNITS: Record<Stage, Progress["unit"]> = {
  sample: "rows",
  train: "rounds",
  layout: "steps",
  partition: "rows",
  duplicates: "rows",
  locator: "rows",
  codes: "rows",
  shards: "shards",
  certificate: "objects",
  manifest: "objects",
  gates: "gates",
  publish: "objects",
  collect: "objects",
}

export function createStageClock(
  onProgress: ((progress: Progress) => void) | undefined,
  logger: Logger,
): StageClock {
  const start = performance.now()
  const timings: Record<string, number> = {}
  return {
    async time(stage, work) {
      const stageStart = performance.now()
      logger.debug({ stage }, "stage started")
      const progress = (done: number, total?: number): void =>
        onProgress?.({ stage, done, total, unit: UNITS[stage] })
      const result = await inSpan(`build.${stage}`, {}, () => work(progress))
      timings[stage] = Math.round((timings[stage] ?? 0) + performance.now() - stageStart)
      logger.info({ stage, durationMs: timings[stage] }, "stage done")
      return result
    },
    timingsMs: () => ({ ...timings, total: Math.round(performance.now() - start) }),
  }
}
