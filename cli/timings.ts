import { formatDuration } from "./render.js"

/** "4.2 s: sample 0.4 s, train 1.2 s": the total first, if there is one, then the stages. */
export function describeTimings(timingsMs: Readonly<Record<string, number>>): string {
  const { total, ...stages } = timingsMs
  const parts = Object.entries(stages).map(([stage, ms]) => `${stage} ${formatDuration(ms)}`)
  const all = total ?? Object.values(stages).reduce((sum, ms) => sum + ms, 0)
  return parts.length === 0 ? formatDuration(all) : `${formatDuration(all)}: ${parts.join(", ")}`
}
