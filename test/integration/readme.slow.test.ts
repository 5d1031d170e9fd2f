import { execFile } from "node:child_process"
import { copyFile, mkdir, readFile, symlink, writeFile } from "node:fs/promises"
import { join } from "node:path"
import { promisify } from "node:util"
import { ModuleKind, ScriptTarget, transpileModule } from "typescript"
import { describe, expect, it } from "vitest"
import { EXIT_CODES, EXIT_DEGRADED, EXIT_UNHEALTHY, signalExitCode } from "../../cli/exit-codes.js"
import { fromRoot } from "../support/paths.js"
import { ALL } from "../support/scope.js"
import { withTempDir } from "../support/stores.js"

const run = promisify(execFile)

/** The code blocks of the README that are marked as tested, by their mark. */
async function testedBlocks(): Promise<ReadonlyMap<string, string>> {
  const readme = await readFile(fromRoot("README.md"), "utf8")
  const blocks = readme.matchAll(/<!-- tested: (\w+) -->\n```\w+\n([\s\S]*?)```/g)
  return new Map(Array.from(blocks, ([, name, code]) => [name!, code!]))
}

/** A directory as a reader of the README has it: the input file, the package installed, its command on the PATH. */
async function setUp(
  dir: string,
): Promise<{ sh: (script: string) => Promise<string>; ts: (code: string) => Promise<string> }> {
  await copyFile(fromRoot("data/words.parquet"), join(dir, "words.parquet"))
  await mkdir(join(dir, "node_modules"))
  await symlink(fromRoot(), join(dir, "node_modules/vecsnap"))
  await mkdir(join(dir, "bin"))
  await symlink(fromRoot("dist/cli/main.js"), join(dir, "bin/vecsnap.js"))
  await writeFile(
    join(dir, "bin/vecsnap"),
    `#!/bin/sh\nexec "${process.execPath}" "${fromRoot("dist/cli/main.js")}" "$@"\n`,
    { mode: 0o755 },
  )
  const env = {
    ...process.env,
    PATH: `${join(dir, "bin")}:${process.env.PATH}`,
    XDG_CACHE_HOME: join(dir, "cache"),
  }
  return {
    sh: async (script) => (await run("sh", ["-euc", script], { cwd: dir, env })).stdout,
    async ts(code) {
      const compilerOptions = { module: ModuleKind.ESNext, target: ScriptTarget.ES2022 }
      await writeFile(join(dir, "example.mjs"), transpileModule(code, { compilerOptions }).outputText)
      return (await run(process.execPath, ["example.mjs"], { cwd: dir, env })).stdout
    },
  }
}

describe("the README", () => {
  it("has command lines that do what it says", () =>
    withTempDir(async (dir) => {
      const { sh } = await setUp(dir)
      const out = await sh((await testedBlocks()).get("cli")!)
      expect(out).toMatch(/prince[\s\S]*queen/)
      expect(out).toMatch(/cluster/)
    }))

  it.runIf(ALL)("has a configuration that is all that a build needs", () =>
    withTempDir(async (dir) => {
      const { sh } = await setUp(dir)
      await writeFile(join(dir, "vecsnap.yaml"), (await testedBlocks()).get("config")!)
      expect(JSON.parse(await sh("vecsnap build --json"))).toMatchObject({
        rows: 10_000,
        shards: { total: 16 },
      })
    }),
  )

  it("has programs that print what it says", () =>
    withTempDir(async (dir) => {
      const { ts } = await setUp(dir)
      const blocks = await testedBlocks()
      expect(await ts(blocks.get("build")!)).toMatch(/^10000 rows in 16 shards, snapshot [0-9a-z]{12}\n$/)
      const found = await ts(blocks.get("search")!)
      expect(
        found
          .split("\n")
          .slice(0, 4)
          .map((line) => line.split(" ")[0])
          .sort(),
      ).toContain("queen")
      expect(found).toMatch(/asked shards (\d+, ){3}\d+ of 16/)
      expect(await ts(blocks.get("service")!)).toBe("healthy\n")
      expect(await ts(blocks.get("records")!)).toBe("[ 'teapot', 'kettle' ]\n")
    }))

  it("documents every exit code that the command line has", async () => {
    const readme = await readFile(fromRoot("README.md"), "utf8")
    const ofHealth = [EXIT_DEGRADED, EXIT_UNHEALTHY]
    for (const code of [0, 1, ...ofHealth, ...Object.values(EXIT_CODES), signalExitCode("SIGTERM")]) {
      expect(readme, `exit code ${code}`).toMatch(new RegExp(`\\n\\|[^|]*\\b${code}\\b[^|]*\\|`))
    }
  })
})
