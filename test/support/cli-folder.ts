/**
 * The command line as a user has it: processes of dist/cli/main.js on files in a temporary directory of their own.
 */
import { type ChildProcess, spawn } from "node:child_process"
import { mkdtemp, rm, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, beforeAll, expect } from "vitest"
import { type CliResult, finished } from "./cli.js"
import { fromRoot } from "./paths.js"

/** Record i lies at i² on a line, so that all distances to one record differ; record i is in shard i mod 3. */
const RECORDS = Array.from({ length: 12 }, (_, i) => ({
  id: `w${i}`,
  vector: [i * i, 0.5],
  lang: i % 2 === 0 ? "de" : "en",
  year: 2000 + i,
  part: i % 3,
  note: i === 4 ? null : { text: `note ${i}` },
}))

/** Builds them as ./words, in four shards of which the last is empty. */
export const BUILD_WORDS = [
  ...["build", "words.jsonl", "--to", "./words", "--metric", "l2"],
  ...["--strategy", "explicit", "--shards", "4", "--shard-column", "part"],
  ...["--fields", "lang:string,year:int64", "--payload-columns", "note", "--custom", "team=search"],
]

/** For the tests of one file: a directory with the twelve records as `words.jsonl`, and commands that run there. */
export function cliFolder() {
  let dir = ""
  beforeAll(async () => {
    dir = await mkdtemp(join(tmpdir(), "vecsnap-cli-"))
    await writeFile(join(dir, "words.jsonl"), RECORDS.map((record) => `${JSON.stringify(record)}\n`).join(""))
  })
  afterAll(() => rm(dir, { recursive: true, force: true }))

  function start(...argv: readonly string[]): ChildProcess {
    const { PATH, HOME } = process.env
    const env = { PATH, HOME, XDG_CACHE_HOME: join(dir, "cache"), AWS_EC2_METADATA_DISABLED: "true" }
    return spawn(process.execPath, [fromRoot("dist/cli/main.js"), ...argv], { cwd: dir, env })
  }
  const vecsnap = (...argv: readonly string[]): Promise<CliResult> => finished(start(...argv))

  return {
    /** Path of a file there. */
    path: (...names: readonly string[]): string => join(dir, ...names),
    start,
    vecsnap,
    /** Runs a command that must succeed, and reads what it prints. */
    async vecsnapJson(...argv: readonly string[]) {
      const { code, stdout, stderr } = await vecsnap(...argv, "--json")
      expect(code, stderr).toBe(0)
      return JSON.parse(stdout)
    },
  }
}
