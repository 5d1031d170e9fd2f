import { readdirSync, readFileSync } from "node:fs"
import { describe, expect, it } from "vitest"
import { parseAllDocuments } from "yaml"
import { parseConfig } from "../../cli/config/check.js"
import { run } from "../../cli/run.js"
import { fromRoot } from "../support/paths.js"
import { captureIo } from "../unit/cli/capture.js"

const NIGHTLY = "examples/nightly"
const read = (path: string): string => readFileSync(fromRoot(path), "utf8")

/** Every "vecsnap <command> … --flag" that a file tells people to run: in Markdown at the start of a line, or of code in a line. */
function commandsIn(file: string): readonly { command: string; flags: readonly string[] }[] {
  const start = file.endsWith(".md") ? "(?:^|`)" : String.raw`\b`
  const commands = read(file).matchAll(new RegExp(`${start}vecsnap,? ([a-z]+)([^\`;|&>#\\n]*)`, "gm"))
  return Array.from(commands, ([, command, rest]) => ({
    command: command!,
    flags: Array.from(rest!.matchAll(/(?<![\w-])--[a-z][a-z-]*/g), ([flag]) => flag),
  })).filter(({ command }) => command !== "help")
}

async function helpOf(command: string): Promise<string> {
  const io = captureIo()
  expect(await run(["help", command], io), command).toBe(0)
  return io.out()
}

describe("examples of a nightly job", () => {
  it("have a configuration that is valid", () => {
    const config = parseConfig(read(`${NIGHTLY}/vecsnap.yaml`), "vecsnap.yaml", {})
    expect(config).toMatchObject({ to: "s3://vectors/words", retention: { "keep-last": 7 } })
  })

  it.each(["vecsnap.yaml", "cronjob.yaml", "github-actions.yml"])("%s is YAML", (name) => {
    const documents = parseAllDocuments(read(`${NIGHTLY}/${name}`))
    expect(documents).toHaveLength(1)
    expect(documents.flatMap(({ errors }) => errors)).toEqual([])
  })

  const files = [
    ...readdirSync(fromRoot(NIGHTLY)).map((name) => `${NIGHTLY}/${name}`),
    ...readdirSync(fromRoot("docs"))
      .filter((name) => name.endsWith(".md"))
      .map((name) => `docs/${name}`),
    "README.md",
  ]
  it.each(files)("%s names commands and flags that there are", async (file) => {
    for (const { command, flags } of commandsIn(file)) {
      const help = await helpOf(command)
      for (const flag of flags) expect(help, `vecsnap ${command}`).toContain(flag)
    }
  })

  it("are found", () => {
    const found = files.flatMap((file) => commandsIn(file))
    expect(new Set(found.map(({ command }) => command)).size).toBeGreaterThan(10)
  })
})
