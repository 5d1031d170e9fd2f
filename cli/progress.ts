/**
 * Progress of a build on stderr: a bar on a terminal, plain lines elsewhere.
 */
import type { Logger, Progress, Stage } from "../src/index.js"
import type { Io } from "./io.js"
import {
  countOf,
  formatCount,
  formatDuration,
  formatValue,
  ownSequence,
  paintFor,
  printable,
  shorten,
  widthOf,
} from "./render.js"

const STAGE_TITLES: Readonly<Record<Stage, string>> = {
  sample: "reading a sample",
  train: "training the router",
  layout: "laying out rows",
  partition: "partitioning rows",
  duplicates: "looking for duplicate ids",
  locator: "writing the id locator",
  codes: "training the codebook",
  shards: "building shards",
  certificate: "measuring recall",
  manifest: "storing the manifest",
  gates: "checking the gates",
  publish: "publishing",
  collect: "collecting what is no longer needed",
}

export interface ProgressView {
  show(progress: Progress): void
  /** Writes a line of its own, above the bar if there is one. */
  line(text: string): void
  /** Removes the bar. Idempotent. */
  end(): void
}

const LINE_INTERVAL_MS = 10_000
const BAR_INTERVAL_MS = 80
const BAR_WIDTH = 24
const CLEAR_LINE = "\r\u001b[2K"

export interface ProgressOptions {
  /** Show nothing but lines. */
  readonly quiet?: boolean | undefined
  /** Milliseconds of a monotonic clock. */
  readonly now?: () => number
}

export function createProgress(
  { stderr, env }: Pick<Io, "stderr" | "env">,
  { quiet = false, now = () => performance.now() }: ProgressOptions = {},
): ProgressView {
  const line = (text: string): void => void stderr.write(`${text}\n`)
  if (quiet) return { show: () => {}, line, end: () => {} }
  return stderr.isTTY && env.TERM !== "dumb" ? barView(stderr, now) : lineView(line, now)
}

/** One line when a stage begins, and one every ten seconds that it goes on. */
function lineView(line: (text: string) => void, now: () => number): ProgressView {
  let stage: Stage | undefined
  let startedMs = 0
  let lastMs = 0
  const show = (progress: Progress): void => {
    const begins = progress.stage !== stage
    if (begins) startedMs = now()
    if (!begins && now() - lastMs < LINE_INTERVAL_MS) return
    stage = progress.stage
    lastMs = now()
    const text = describeProgress(progress) + describePace(progress, lastMs - startedMs)
    line(begins && progress.done === 0 ? STAGE_TITLES[progress.stage] : text)
  }
  return { show, line, end: () => {} }
}

function barView(stderr: Io["stderr"], now: () => number): ProgressView {
  let stage: Stage | undefined
  let startedMs = 0
  let lastMs = 0
  let visible = false
  const clearLine = ownSequence(stderr, CLEAR_LINE)
  const end = (): void => {
    if (visible) stderr.write(clearLine)
    visible = false
  }
  const show = (progress: Progress): void => {
    const begins = progress.stage !== stage
    if (begins) startedMs = now()
    const finished = progress.done === progress.total
    if (!begins && !finished && now() - lastMs < BAR_INTERVAL_MS) return
    stage = progress.stage
    lastMs = now()
    visible = true
    const elapsedMs = lastMs - startedMs
    const text = `${describeProgress(progress)}${describePace(progress, elapsedMs)}  ${formatDuration(elapsedMs)}`
    // One column less than the terminal has: a full line would wrap and could not be cleared.
    stderr.write(clearLine + shorten(renderBar(progress) + text, (widthOf(stderr) ?? 80) - 1))
  }
  const line = (text: string): void => {
    end()
    stderr.write(`${text}\n`)
  }
  return { show, line, end }
}

/** "building shards: 3 of 16 shards", "partitioning rows: 120,000 rows". */
function describeProgress({ stage, done, total, unit }: Progress): string {
  const one = unit.slice(0, -1)
  const count = total === undefined ? countOf(done, one) : `${formatCount(done)} of ${countOf(total, one)}`
  return `${STAGE_TITLES[stage]}: ${count}`
}

/** Before that, little is known of the pace. */
const PACE_KNOWN_AFTER_MS = 2000

/** ", 41,000 rows/s, 8.3 s left": what is known of the two after `elapsedMs` of a stage. */
export function describePace({ done, total, unit }: Progress, elapsedMs: number): string {
  if (elapsedMs < PACE_KNOWN_AFTER_MS || done === 0) return ""
  const perSecond = (1000 * done) / elapsedMs
  const pace = unit === "rows" ? `, ${formatCount(Number(perSecond.toPrecision(2)))} rows/s` : ""
  if (total === undefined || done >= total) return pace
  return `${pace}, ${formatDuration((1000 * (total - done)) / perSecond)} left`
}

function renderBar({ done, total }: Progress): string {
  if (total === undefined || total === 0) return ""
  const filled = Math.round((Math.min(done, total) / total) * BAR_WIDTH)
  return `${"█".repeat(filled)}${"░".repeat(BAR_WIDTH - filled)}  `
}

/** A logger for the library that writes warnings and errors to stderr, and everything if `debug`. */
export function createLogger(
  io: Pick<Io, "stderr" | "env">,
  { line }: Pick<ProgressView, "line">,
  debug = false,
): Logger {
  const paint = paintFor(io.stderr, io.env)
  const write =
    (label: string) =>
    (facts: object, message: string): void =>
      line(`${label}: ${printable(message)}${debug ? ` ${formatValue(facts)}` : ""}`)
  const ignore = (): void => {}
  return {
    debug: debug ? write(paint.dim("debug")) : ignore,
    info: debug ? write(paint.dim("info")) : ignore,
    warn: write(paint.yellow("warning")),
    error: write(paint.red("error")),
  }
}

/** The logger of a command that shows no progress. */
export const stderrLogger = (io: Pick<Io, "stderr" | "env">, debug?: boolean): Logger =>
  createLogger(io, { line: (text) => void io.stderr.write(`${text}\n`) }, debug)
