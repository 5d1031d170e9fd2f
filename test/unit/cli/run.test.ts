import { mkdtemp, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { describe, expect, test } from "vitest"
import { EXIT_CODES, EXIT_CODES_HELP } from "../../../cli/exit-codes.js"
import { run } from "../../../cli/run.js"
import { captureIo } from "./capture.js"

const COMMANDS = [
  ...[
    "build",
    "export",
    "import",
    "query",
    "get",
    "info",
    "shards",
    "history",
    "rollback",
    "publish",
    "runs",
  ],
  ...["gc", "pin", "unpin", "verify", "diff", "warm", "health", "doctor", "config", "demo"],
]

test("--help lists every command and every exit code, on stdout", async () => {
  const io = captureIo()
  expect(await run(["--help"], io)).toBe(0)
  for (const name of COMMANDS) expect(io.out()).toMatch(new RegExp(`^ {2}${name} `, "m"))
  expect(io.out()).toContain(EXIT_CODES_HELP)
  expect(io.err()).toBe("")
})

test.each(COMMANDS)("%s --help has examples of itself", async (name) => {
  const io = captureIo()
  expect(await run([name, "--help"], io)).toBe(0)
  expect(io.out()).toContain(`Examples:\n  vecsnap ${name}`)
  expect(io.out()).toContain("--json")
})

test("subcommands have help of their own, and errors that say what to change", async () => {
  const help = captureIo()
  expect(await run(["config", "check", "--help"], help)).toBe(0)
  expect(help.out()).toContain("Examples:\n  vecsnap config check\n")
  const wrong = captureIo()
  expect(await run(["config", "check", "--jsno"], wrong)).toBe(2)
  expect(wrong.err()).toBe("error: unknown option '--jsno' (Did you mean --json?)\n")
})

test("health --help documents the exit codes for monitors", async () => {
  const io = captureIo()
  expect(await run(["health", "--help"], io)).toBe(0)
  expect(io.out()).toContain("Exits with 0 if healthy, 10 if degraded and 11 if unhealthy.")
})

test("--version prints the package's", async () => {
  const io = captureIo()
  expect(await run(["--version"], io)).toBe(0)
  expect(io.out()).toMatch(/^\d+\.\d+\.\d+\n$/)
})

test("every error tag has an exit code of its own, none of them 0 or 1", () => {
  const codes = Object.values(EXIT_CODES)
  expect(new Set(codes).size).toBe(codes.length)
  expect(Math.min(...codes)).toBe(2)
  for (const [tag, code] of Object.entries(EXIT_CODES))
    if (tag !== "Aborted") expect(EXIT_CODES_HELP).toMatch(new RegExp(`\\b${code} ${tag}\\b`))
})

describe("usage errors exit with 2 and say what to change", () => {
  test.each([
    [["biuld"], "error: unknown command 'biuld' (Did you mean build?)"],
    [["info", "--jsno"], "error: unknown option '--jsno' (Did you mean --json?)"],
    [
      ["query", "a", "-k", "12x"],
      "error: option '-k <n>' argument '12x' is invalid. Expected a whole number from 1.",
    ],
    [
      ["build", "--shards", "1e3"],
      "error: option '--shards <n|auto>' argument '1e3' is invalid. Expected a whole number from 1, or \"auto\".",
    ],
    [
      ["build", "--metric", "l3"],
      "error: option '--metric <name>' argument 'l3' is invalid. Allowed choices are cosine, l2, dot.",
    ],
    [["query", "a"], "error: nothing to look for is given, expected --vector or --like"],
    [
      ["query", "a", "--like", "x", "--vector", "[1]"],
      "error: --vector and --like are both given, expected one of them",
    ],
    [["info"], "error: no snapshot is named: give its URL, or `to` in vecsnap.yaml"],
    [["build", "-", "--to", "b"], "error: the number of shards is chosen by a look at the input"],
    [["get", "a"], "error: missing required argument 'ids'"],
  ])("%j", async (argv, sentence) => {
    const io = captureIo()
    expect(await run(argv, io)).toBe(2)
    expect(io.err()).toContain(sentence)
    expect(io.err()).not.toContain("    at ")
    expect(io.out()).toBe("")
  })

  test("no command at all prints the help on stderr", async () => {
    const io = captureIo()
    expect(await run([], io)).toBe(2)
    expect(io.err()).toContain("Usage: vecsnap")
    expect(io.err()).toContain("error: no command is given")
  })
})

test("with --json the error is on stdout too, as one document", async () => {
  const io = captureIo()
  expect(await run(["info", "--json"], io)).toBe(2)
  const message = "no snapshot is named: give its URL, or `to` in vecsnap.yaml"
  expect(JSON.parse(io.out())).toEqual({ error: { tag: "InvalidInput", message, details: {} } })
  expect(io.err()).toBe(`error: ${message}\n`)
})

test("--debug adds the stack", async () => {
  const io = captureIo()
  await run(["info", "--debug"], io)
  expect(io.err()).toMatch(/^error: no snapshot is named.*\nVecsnapError: (?:.*\n)*?.*\n {4}at /)
})

test.each([
  ["SIGINT", 130],
  ["SIGTERM", 143],
  ["SIGHUP", 129],
])("after %s the exit code is %d", async (signal, code) => {
  const dir = await mkdtemp(join(tmpdir(), "vecsnap-run-"))
  const io = captureIo({ signal: AbortSignal.abort(signal) })
  expect(await run(["info", dir], io)).toBe(code)
  expect(io.err()).toBe(`error: stopped by ${signal}\n`)
  await rm(dir, { recursive: true })
})

test("nothing published is NotFound, exit code 3", async () => {
  const dir = await mkdtemp(join(tmpdir(), "vecsnap-run-"))
  for (const command of ["info", "shards", "history"]) {
    const io = captureIo()
    expect(await run([command, dir], io)).toBe(3)
    expect(io.err()).toMatch(/^error: no snapshot is published at /)
  }
  await rm(dir, { recursive: true })
})

describe("what arguments, configuration and errors say reaches no terminal as it is", () => {
  const HOSTILE = "\u001b]0;x\u0007\u202e\u009b8m"
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is looked for
  const RAW = /[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u202a-\u202e]/

  test.each([
    [[`x${HOSTILE}`]],
    [["info", `./x${HOSTILE}`]],
    [["info", `./x${HOSTILE}`, "--json"]],
    [["info", `./x${HOSTILE}`, "--debug"]],
    [["info", `--x${HOSTILE}`]],
    [["query", "./x", "--like", HOSTILE]],
    [["get", "./x", HOSTILE, "--cache-dir", `./${HOSTILE}`]],
    [["config", "check", `./x${HOSTILE}`]],
    [["build", `./x${HOSTILE}.csv`, "--to", `./${HOSTILE}`]],
  ])("%j", async (argv) => {
    const io = captureIo({ cwd: tmpdir() })
    expect(await run(argv, io)).not.toBe(0)
    expect(io.err()).not.toMatch(RAW)
    expect(io.out()).not.toMatch(RAW)
    if (argv.includes("--json")) expect(JSON.parse(io.out()).error.message).toContain(HOSTILE)
  })
})
