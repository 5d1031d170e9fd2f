import { copyFile, readFile } from "node:fs/promises"
import { describe, expect, it } from "vitest"
import { openSource } from "../../../src/sources/open.js"
import { inputFixture } from "../../support/paths.js"
import { ALL } from "../../support/scope.js"
import { failureOf, readInputs, readSkipping, useDirectory } from "./helpers.js"

const dir = useDirectory()
const fixture = inputFixture

describe("Arrow from pyarrow, pandas and polars", () => {
  it.each([
    ["13-feather-compressed/pandas.feather", "lz4, the default of pandas"],
    ["13-feather-compressed/zstd.feather", "zstd"],
    ["13-feather-compressed/plain.feather", "no compression"],
    ["14-arrow-modern-types/polars.arrow", "large_list and string_view"],
    ["14-arrow-modern-types/polarsarray.arrow", "fixed_size_list and string_view"],
    ["14-arrow-modern-types/polarsold.arrow", "large_string"],
    ["14-arrow-modern-types/ree.arrow", "run_end_encoded"],
    ["14-arrow-modern-types/uuid.arrow", "uuid"],
    ["04-arrow-dictionary-int64/d.arrow", "a dictionary with 64-bit indices"],
  ])("%s is read: %s", async (name) => {
    const { ids, vectors, payloads } = await readInputs(fixture(name))
    const isUuid = name.includes("uuid")
    expect(ids).toEqual(
      isUuid ? ["00000000-0000-0000-0000-000000000001", "00000000-0000-0000-0000-000000000002"] : [1n, 2n],
    )
    expect(vectors).toEqual([
      [1, 0],
      [0, 1],
    ])
    const extra = /polars|ree|04/.exec(name)?.[0]
    const texts: Readonly<Record<string, (string | null)[]>> = {
      polars: ['{"c":"x"}', '{"c":"y"}'],
      ree: ['{"r":"a"}', '{"r":"b"}'],
      "04": ['{"c":"b"}', '{"c":"a"}'],
    }
    expect(payloads).toEqual(extra === undefined ? [null, null] : texts[extra])
  })

  it("Feather of version 1 is named", async () => {
    expect(await failureOf(readInputs(fixture("13-feather-compressed/v1.feather")))).toMatchObject({
      tag: "Unsupported",
      message: expect.stringMatching(/is Feather of version 1.* expected version 2: read it with pandas/),
    })
  })

  it("gives times, intervals and maps as Parquet does", async () => {
    const [arrow] = (await readInputs(fixture("15-arrow-times/t.arrow"))).payloads
    const [parquet] = (await readInputs(fixture("15-arrow-times/t.parquet"))).payloads
    expect(JSON.parse(arrow!)).toEqual({
      ns: "2025-01-01T00:00:00.123456789",
      nsutc: "2025-01-01T00:00:00.123456789Z",
      tm: "01:00:00.000005",
      mi: [{ key: 5, value: "a" }],
      iv: "P1M2DT0.000000003S",
    })
    expect(JSON.parse(parquet!)).toEqual({
      ns: "2025-01-01T00:00:00.123456789",
      // DuckDB reads times of a zone to the microsecond.
      nsutc: "2025-01-01T00:00:00.123456Z",
      tm: "01:00:00.000005",
      mi: [{ key: 5, value: "a" }],
    })
  })

  it("names the row and column of text that is not UTF-8", async () => {
    const path = fixture("08-arrow-invalid-utf8/bad.arrow")
    expect(await failureOf(readInputs(path))).toMatchObject({
      tag: "InvalidInput",
      message: `${path}, row 1: column "id" is not UTF-8`,
    })
    const { ids, bad } = await readSkipping(await openSource(path))
    expect([ids, bad]).toEqual([
      [],
      [`${path}, row 1: column "id" is not UTF-8`, `${path}, row 2: column "id" is not UTF-8`],
    ])
    expect((await failureOf(readInputs(fixture("08-arrow-invalid-utf8/bad.parquet")))).tag).toBe(
      "InvalidInput",
    )
  })

  it.each(["cut_boundary", "cut_marker"])(
    "finds that a stream ends without its end marker: %s",
    async (name) => {
      const path = fixture(`07-arrow-stream-cut/${name}.arrow`)
      expect(await failureOf(readInputs(path))).toMatchObject({
        tag: "Corrupt",
        message: expect.stringMatching(/is cut off/),
      })
    },
  )

  it("finds a stream cut at any byte, and bytes after its end", async () => {
    const whole = await readFile(fixture("07-arrow-stream-cut/whole.arrow"))
    expect((await readInputs(fixture("07-arrow-stream-cut/whole.arrow"))).ids).toHaveLength(10)
    for (let length = 0; length < whole.length; length += ALL ? 1 : 7) {
      const path = await dir.write("cut.arrow", whole.subarray(0, length))
      expect([length, (await failureOf(readInputs(path))).tag]).toEqual([length, "Corrupt"])
    }
    const twice = await dir.write("twice.arrow", Buffer.concat([whole, whole]))
    expect((await failureOf(readInputs(twice))).message).toMatch(
      /has 1416 bytes after the end of its Arrow stream/,
    )
  })

  it.each(["13-feather-compressed/pandas.feather", "13-feather-compressed/zstd.feather"])(
    "says so, whichever byte of %s is damaged, or reads values of the right shape",
    async (name) => {
      const whole = await readFile(fixture(name))
      for (let place = 8; place < whole.length; place += 7) {
        const bytes = Buffer.from(whole)
        bytes[place]! ^= 0xff
        const path = await dir.write("damaged.feather", bytes)
        const result = await readInputs(path).catch((error: unknown) => error)
        if (result instanceof Error) expect(result).toHaveProperty("tag")
      }
    },
  )

  it("is told by its first bytes", async () => {
    await copyFile(fixture("13-feather-compressed/plain.feather"), dir.path("unnamed"))
    expect((await readInputs(dir.path("unnamed"))).ids).toEqual([1n, 2n])
  })
})
