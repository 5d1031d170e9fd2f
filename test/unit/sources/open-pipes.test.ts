import { execFileSync, spawn } from "node:child_process"
import { createWriteStream } from "node:fs"
import { readFile } from "node:fs/promises"
import { finished } from "node:stream/promises"
import { gzipSync } from "node:zlib"
import { describe, expect, it } from "vitest"
import { buildSnapshot } from "../../../src/index.js"
import { openSource, type SourceOptions } from "../../../src/sources/open.js"
import { readAll, runSql, useDirectory } from "./helpers.js"

const dir = useDirectory()

/** A pipe with a path, as `<(…)` is one, into which `bytes` are written once. */
function pipeOf(name: string, bytes: Uint8Array): string {
  const path = dir.path(name)
  execFileSync("mkfifo", [path])
  const writer = createWriteStream(path)
  writer.on("error", () => {})
  writer.end(bytes)
  return path
}

const lines = Buffer.from('{"id":"a","vector":[1,0]}\n{"id":"b","vector":[0,1]}\n')

describe("a pipe with a path", () => {
  it.each<[string, () => Promise<Uint8Array>, SourceOptions]>([
    ["plain", async () => lines, { format: "jsonl" }],
    ["packed", async () => gzipSync(lines), { format: "jsonl" }],
    ["by-name.jsonl", async () => lines, {}],
    [
      "parquet",
      async () => {
        const path = dir.path("piped.parquet")
        await runSql(
          `COPY (SELECT unnest(['a', 'b']) AS id, unnest([[1.0, 0], [0.0, 1]])::FLOAT[] AS vector) TO '${path}'`,
        )
        return readFile(path)
      },
      { format: "parquet" },
    ],
  ])("is read: %s", async (name, bytes, options) => {
    const path = pipeOf(name, await bytes())
    const source = await openSource(path, options)
    expect(source).toMatchObject({ name: path, repeatable: false })
    expect((await readAll(source)).ids).toEqual(["a", "b"])
    await expect(readAll(source)).rejects.toThrow(`${path} can be read only once`)
  })

  it("is spooled where a build needs it twice", async () => {
    const path = pipeOf("build", lines)
    const { rows } = await buildSnapshot(await openSource(path, { format: "jsonl" }), {
      to: "memory://piped",
      sharding: { strategy: "cluster", shards: 1 },
      certificate: false,
    })
    expect(rows).toBe(2)
  })

  it("needs a format, since nothing can be told by its name", async () => {
    const path = dir.path("unnamed")
    execFileSync("mkfifo", [path])
    await expect(openSource(path)).rejects.toThrow(`the format of ${path} cannot be told`)
  })

  it("works as shells give it to a program", async () => {
    const program = `
      import { openSource } from "${new URL("../../../src/sources/open.js", import.meta.url).href}"
      for await (const { ids } of (await openSource(process.argv[1], { format: "jsonl" })).read({})) console.log(ids.values.join())`
    const file = await dir.write("rows.jsonl.gz", gzipSync(lines))
    const child = spawn(
      "bash",
      ["-c", '"$0" --input-type=module -e "$1" <(gzip -dc "$2")', process.execPath, program, file],
      {
        stdio: ["ignore", "pipe", "inherit"],
      },
    )
    let out = ""
    child.stdout.on("data", (chunk) => {
      out += String(chunk)
    })
    await finished(child.stdout)
    expect(out).toBe("a,b\n")
  })
})
