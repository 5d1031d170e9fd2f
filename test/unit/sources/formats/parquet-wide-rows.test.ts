import { execFile } from "node:child_process"
import { stat } from "node:fs/promises"
import { promisify } from "node:util"
import { beforeAll, describe, expect, it } from "vitest"
import { mostChunkBytes, rangesOf, windowsOf } from "../../../../src/sources/formats/parquet.js"
import { ALL } from "../../../support/scope.js"
import { readInputs, runSql, useDirectory } from "../helpers.js"

const MIB = 2 ** 20

describe("ranges of rows", () => {
  // Two groups: 100 rows of 10 bytes, then 60 of 100.
  const groups = [
    { rows: 100, bytes: 1000 },
    { rows: 60, bytes: 6000 },
  ]

  it("are windows of 32 rows, put together as far as they fit", () => {
    const windows = windowsOf(groups, [])
    expect([...windows]).toEqual([320, 320, 320, 40 + 2800, 3200])
    expect(rangesOf(windows, 700)).toEqual([
      { from: 0, to: 64 },
      { from: 64, to: 96 },
      { from: 96, to: 128 },
      { from: 128, to: 160 },
    ])
    expect(rangesOf(windows, 10_000)).toEqual([{ from: 0, to: 160 }])
    expect(rangesOf(windowsOf([], []), 1)).toEqual([])
  })

  it("count texts that are stored once wherever they occur", () => {
    expect([...windowsOf(groups, [5, 0, 0, 0, 7])]).toEqual([325, 320, 320, 2840, 3207])
  })

  it("are needed where a chunk is large: 2,048 rows of one group", () => {
    expect(mostChunkBytes(groups, windowsOf(groups, []))).toBe(2840 + 3200)
    const even = [{ rows: 4096, bytes: 4096 }]
    expect(mostChunkBytes(even, windowsOf(even, []))).toBe(2048)
  })
})

describe("Parquet whose texts are far larger than its file", () => {
  const dir = useDirectory()
  const textBytes = 200_000
  const rows = 2500
  let path: string

  beforeAll(async () => {
    path = dir.path("repeated.parquet")
    await runSql(`COPY (SELECT range AS id, [range % 7 + 0.5, 1] AS vector, repeat('abcdefg ', ${textBytes / 8}) || range % 4 AS text
      FROM range(${rows})) TO '${path}' (FORMAT parquet, COMPRESSION zstd)`)
  })

  it.runIf(ALL)("is read whole, in order, within the memory limit", async () => {
    expect((await stat(path)).size).toBeLessThan(MIB)
    const memoryLimit = 384 * MIB
    const program = `
      import { openSource } from ${JSON.stringify(new URL("../../../../src/sources/open.js", import.meta.url).href)}
      const read = async (memoryLimit, payloadColumns) => {
        const source = await openSource(${JSON.stringify(path)}, { memoryLimit, payloadColumns })
        const ids = []
        let textBytes = 0
        for await (const batch of source.read({})) {
          ids.push(...batch.ids.values)
          for (const payload of batch.payloads) textBytes += payload?.length ?? 0
        }
        return { rows: ids.length, inOrder: ids.every((id, i) => id === BigInt(i)), textBytes }
      }
      const narrow = await read(${memoryLimit}, [])
      const before = process.resourceUsage().maxRSS
      const wide = await read(${memoryLimit}, undefined)
      console.log(JSON.stringify({ narrow, wide, taken: (process.resourceUsage().maxRSS - before) * 1024 }))`
    const { stdout } = await promisify(execFile)(process.execPath, ["--input-type=module", "-e", program])
    const { narrow, wide, taken } = JSON.parse(stdout)
    expect(narrow).toMatchObject({ rows, inOrder: true, textBytes: 0 })
    expect(wide).toMatchObject({ rows, inOrder: true })
    // 477 MiB of text; a chunk of 2,048 rows alone would have 391.
    expect(wide.textBytes).toBeGreaterThan(rows * textBytes)
    expect(taken).toBeLessThan(memoryLimit)
  })

  it("is read in one piece where the limit allows, with the same rows", async () => {
    const few = dir.path("few.parquet")
    await runSql(`COPY (SELECT range AS id, [1.5, 1] AS vector, repeat('abcdefg ', 250) || range % 4 AS text
      FROM range(5000)) TO '${few}' (FORMAT parquet)`)
    const whole = await readInputs(few, { memoryLimit: 4096 * MIB })
    const inRanges = await readInputs(few, { memoryLimit: 4 * MIB })
    expect(inRanges).toEqual(whole)
    expect(inRanges.ids).toHaveLength(5000)
  })
})
