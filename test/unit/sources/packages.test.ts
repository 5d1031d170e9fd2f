import { describe, expect, it, vi } from "vitest"
import { openSource } from "../../../src/sources/open.js"
import { failureOf, useDirectory } from "./helpers.js"

vi.mock("@duckdb/node-api", () => {
  throw new Error("not installed")
})

const dir = useDirectory()

describe("a package that is not installed", () => {
  it("is named where a format needs it, and only there", async () => {
    const parquet = await dir.write("a.parquet", "PAR1")
    expect(await failureOf(openSource(parquet))).toMatchObject({
      tag: "Unsupported",
      message:
        'Parquet and SQL input needs the package "@duckdb/node-api", which could not be loaded: npm install @duckdb/node-api',
    })
    expect((await failureOf(openSource([], { sql: "SELECT 1" }))).tag).toBe("Unsupported")
    for (const name of ["a.jsonl", "a.csv", "a.npy", "a.arrow"])
      expect((await openSource(await dir.write(name, ""))).name).toBe(dir.path(name))
  })
})
