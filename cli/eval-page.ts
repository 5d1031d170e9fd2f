/**
 * The report of an evaluation as one page that needs nothing but itself: scripts, styles and data are in it.
 */
import { readFile } from "node:fs/promises"
import { createRequire } from "node:module"
import { dirname, join } from "node:path"
import type { Evaluation } from "../src/index.js"
import { formatShare, KIND_NAMES } from "./recall.js"
import { formatCount } from "./render.js"

/** An HTML document. Throws if the package uplot is not installed. */
export async function renderEvalPage(evaluation: Evaluation): Promise<string> {
  const uplot = join(dirname(createRequire(import.meta.url).resolve("uplot")), "..", "dist")
  const [script, style] = await Promise.all(
    ["uPlot.iife.min.js", "uPlot.min.css"].map((name) => readFile(join(uplot, name), "utf8")),
  )
  const { snapshot, url, rows, queries, defaultProbes, certificate } = evaluation
  const kind = queries.kind === "rows" ? "rows of the snapshot" : "real queries"
  const certified =
    certificate === undefined
      ? "It has no certificate to compare with."
      : "Dashed: the certificate of the build. Vertical lines: 95 % intervals."
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<title>Recall of snapshot ${escapeHtml(snapshot)}</title>
<style>${style}</style>
<style>${PAGE_STYLE}</style>
</head>
<body>
<h1>Recall of snapshot ${escapeHtml(snapshot)}</h1>
<p>${escapeHtml(url)}: ${formatCount(rows)} rows, searched for ${formatCount(queries.count)} ${kind}.</p>
<h2>Recall by shards probed</h2>
<p>${certified}</p>
<div class="chart" id="recall"></div>
${recallTable(evaluation)}
${targetTable(evaluation)}
<h2>Rows of each shard</h2>
<p>Copies included, largest first.</p>
<div class="chart" id="rows"></div>
<h2>How often each shard is probed</h2>
<p>Share of the queries at ${formatCount(defaultProbes)} ${defaultProbes === 1 ? "probe" : "probes"}, most often first. Level would be ${formatShare(Math.min(1, defaultProbes / evaluation.shards.length))}.</p>
<div class="chart" id="probed"></div>
<script>${script}</script>
<script type="application/json" id="data">${jsonForHtml(evaluation)}</script>
<script>${PAGE_SCRIPT}</script>
</body>
</html>
`
}

function recallTable({ probes, curves }: Evaluation): string {
  const head = curves.map(({ k }) => `<th>recall@${k}<th>found none<th>5th percentile`).join("")
  const body = probes.map((count, at) => {
    const cells = curves.map(
      ({ recall, low, high, zero, p05 }) =>
        `<td>${formatShare(recall[at]!)} <small>${formatShare(low[at]!)} – ${formatShare(high[at]!)}</small><td>${formatShare(zero[at]!)}<td>${formatShare(p05[at]!)}`,
    )
    return `<tr><td>${formatCount(count)}${cells.join("")}`
  })
  return `<table><thead><tr><th>probes${head}<tbody>${body.join("\n")}</table>`
}

function targetTable({ targets, kinds }: Evaluation): string {
  if (targets.length === 0) return ""
  const rows = kinds.flatMap(({ kind, targets }) => targets.map((figures) => ({ kind, ...figures })))
  const body = rows
    .sort((a, b) => a.target - b.target)
    .map(
      ({ kind, target, recall, probes }) =>
        `<tr><td>${formatShare(target)}<td>${KIND_NAMES[kind]}<td>${formatShare(recall)}<td>${probes.toFixed(2)}`,
    )
  const head = "<th>target<th>queries<th>reached, of 10<th>probes on average"
  return `<table><thead><tr>${head}<tbody>${body.join("\n")}</table>`
}

const escapeHtml = (text: string): string =>
  text.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`)

/** In a script, only "<" can end it. */
const jsonForHtml = (value: unknown): string => JSON.stringify(value).replaceAll("<", "\\u003c")

const PAGE_STYLE = `
:root { color-scheme: light dark; --text: #1c1e21; --dim: #6b7076; --line: #d8dbdf; --ground: #fff;
  --one: #1f6feb; --two: #b8500d; --three: #117a4b }
@media (prefers-color-scheme: dark) { :root { --text: #e4e6e9; --dim: #9aa0a6; --line: #3a3e44; --ground: #17191c;
  --one: #6ea8fe; --two: #f0a35e; --three: #5cc98f } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--text); background: var(--ground); max-width: 60rem;
  margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.5rem } h2 { font-size: 1.15rem; margin-top: 2rem } p, small { color: var(--dim) }
table { border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums }
th, td { text-align: right; padding: .15rem .8rem .15rem 0; border-bottom: 1px solid var(--line) }
th { color: var(--dim); font-weight: 500 }
.chart { overflow-x: auto } .u-legend { color: var(--text) }`

/** Plain JavaScript of the page. Charts are drawn anew when the colour scheme or the width changes. */
const PAGE_SCRIPT = `
const data = JSON.parse(document.getElementById("data").textContent)
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim()
const percent = (value) => value == null ? "–" : (100 * value).toFixed(1) + "%"
const axis = (label, more) => ({ label, stroke: colour("--dim"), grid: { stroke: colour("--line"), width: 1 },
  ticks: { stroke: colour("--line") }, ...more })
const size = (height) => ({ width: Math.min(928, document.body.clientWidth - 32), height })
const strokes = ["--one", "--two", "--three"]
function intervals(curves) {
  return { hooks: { draw: [(u) => {
    const { ctx } = u
    ctx.save()
    for (const [i, { low, high }] of curves.entries()) {
      ctx.strokeStyle = colour(strokes[i % 3])
      ctx.lineWidth = devicePixelRatio
      for (const [at, probes] of data.probes.entries()) {
        const x = u.valToPos(probes, "x", true)
        ctx.beginPath()
        ctx.moveTo(x, u.valToPos(low[at], "y", true))
        ctx.lineTo(x, u.valToPos(high[at], "y", true))
        ctx.stroke()
      }
    }
    ctx.restore()
  }] } }
}
function drawRecall(target) {
  const certificate = data.certificate
  const most = data.probes[data.probes.length - 1]
  const xs = [...new Set([...data.probes, ...(certificate ? certificate.probes.filter((p) => p <= most) : [])])]
    .sort((a, b) => a - b)
  const pick = (probes, values) => xs.map((x) => { const at = probes.indexOf(x); return at < 0 ? null : values[at] })
  const series = [{ label: "probes" }]
  const columns = [xs]
  for (const [i, curve] of data.curves.entries()) {
    const stroke = colour(strokes[i % 3])
    const common = { stroke, width: 2, spanGaps: true, value: (_, value) => percent(value) }
    series.push({ ...common, label: "recall@" + curve.k, points: { show: true, size: 6 } })
    columns.push(pick(data.probes, curve.recall))
    const certified = certificate && certificate.curves.find(({ k }) => k === curve.k)
    if (!certified) continue
    series.push({ ...common, label: "certified @" + curve.k, width: 1, dash: [6, 4], points: { show: false } })
    columns.push(pick(certificate.probes, certified.recall))
  }
  new uPlot({ ...size(340), series, plugins: [intervals(data.curves)],
    scales: { x: { time: false, distr: 3, log: 2 }, y: { range: (_, low) => [Math.max(0, Math.floor(low * 20) / 20 - .05), 1] } },
    axes: [axis("shards probed", { values: (_, values) => values.map((value) => value ?? "") }),
      axis("recall", { values: (_, values) => values.map((value) => Math.round(100 * value) + "%"), size: 60 })] },
    columns, target)
}
function drawBars(target, name, show, label) {
  const shards = [...data.shards].sort((a, b) => b[name] - a[name])
  const fill = colour("--one")
  new uPlot({ ...size(220), scales: { x: { time: false, range: () => [-.7, shards.length - .3] }, y: { range: (_, __, high) => [0, high * 1.05 || 1] } },
    series: [{ label: "shard", value: (_, place) => place == null ? "–" : shards[place].shard },
      { label, fill, stroke: fill, width: 0, paths: uPlot.paths.bars({ size: [.8, 60] }), points: { show: false }, value: (_, value) => show(value) }],
    axes: [axis("", { values: () => [], size: 10, grid: { show: false } }),
      axis(label, { values: (_, values) => values.map(show), size: 70 })] },
    [shards.map((_, place) => place), shards.map((shard) => shard[name])], target)
}
function draw() {
  for (const chart of document.querySelectorAll(".chart")) chart.replaceChildren()
  drawRecall(document.getElementById("recall"))
  drawBars(document.getElementById("rows"), "rows", (value) => value == null ? "–" : String(value), "rows")
  drawBars(document.getElementById("probed"), "probed", percent, "queries")
}
draw()
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw)
addEventListener("resize", draw)`
