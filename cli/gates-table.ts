/** The results of gates for people. */
import { type GateResult, isVecsnapError } from "../src/index.js"
import type { Io } from "./io.js"
import {
  type Column,
  formatValue,
  type Paint,
  paintFor,
  plainPaint,
  renderTable,
  type TableOptions,
  widthOf,
} from "./render.js"

const COLUMNS: readonly Column[] = [
  { title: "gate" },
  { title: "limit", flexible: true },
  { title: "value", flexible: true },
  { title: "verdict" },
]

/** A table of the gates, then why those that did not pass did not. */
export function renderGates(results: readonly GateResult[], options: TableOptions = {}): string {
  const { paint = plainPaint } = options
  const table = renderTable(
    COLUMNS,
    results.map(({ gate, limit, value, verdict }) => [
      gate,
      formatValue(limit ?? "-"),
      typeof value === "number" ? shortNumber(value) : formatValue(value ?? "-"),
      verdict,
    ]),
    options,
  )
  const reasons = results
    .filter(({ verdict }) => verdict !== "passed")
    .map(({ gate, verdict, reason }) => `  ${colourOf(verdict, paint)(gate)}: ${formatValue(reason)}\n`)
  return `${table}${reasons.length > 0 ? "\n" : ""}${reasons.join("")}`
}

/** Prints the gates of a `GateRefused` on stderr, and nothing for any other error. */
export function printRefusal(error: unknown, { stderr, env }: Pick<Io, "stderr" | "env">): void {
  if (!isVecsnapError(error, "GateRefused")) return
  const results = error.details.gates as readonly GateResult[]
  stderr.write(`${renderGates(results, { width: widthOf(stderr), paint: paintFor(stderr, env) })}\n`)
}

// Six digits, as in the reasons; more would not be read.
const shortNumber = (value: number): string => String(Number(value.toPrecision(6)))

function colourOf(verdict: GateResult["verdict"], paint: Paint): (text: string) => string {
  if (verdict === "refused") return paint.red
  return verdict === "allowed" ? paint.yellow : paint.dim
}
