import { describe, expect, it } from "vitest"
import type { RecordBatch } from "../../../../src/records.js"
import type { ReadOptions, Source } from "../../../../src/sources/source.js"
import { remembered, spooled } from "../../../../src/writer/rows/spool.js"
import { openScratch } from "../../../../src/writer/scratch.js"
import { withTempDir } from "../../../support/stores.js"

const batch = (id: string): RecordBatch => ({
  rows: 1,
  dim: 2,
  ids: { type: "string", values: [id] },
  vectors: Float32Array.of(1, 2),
  fields: { year: [2n ** 60n] },
  payloads: [`{"id":"${id}"}`],
  origin: { file: "a.jsonl", unit: "line", rows: Float64Array.of(1) },
})

/** Two batches, with bad rows between them if there are any; counts its readings. */
function counted(repeatable: boolean, badRows = 0): Source & { readings: number } {
  return {
    name: "a.jsonl",
    repeatable,
    fields: [{ name: "year", type: "int64" }],
    readings: 0,
    async *read({ onBadRow }: ReadOptions) {
      this.readings++
      yield batch("a")
      for (let i = 0; i < badRows; i++) onBadRow!(new Error("bad"))
      yield batch("b")
    },
  }
}

async function read(source: Source, options: ReadOptions = {}): Promise<RecordBatch[]> {
  const batches: RecordBatch[] = []
  for await (const each of source.read(options)) batches.push(each)
  return batches
}

describe("a spooled source", () => {
  it("is read once and yields the same again and again", () =>
    withTempDir(async (dir) => {
      const source = counted(false)
      const twice = spooled(source, openScratch({ directory: dir }), "spool")
      for (let i = 0; i < 3; i++) expect(await read(twice)).toEqual([batch("a"), batch("b")])
      expect(source.readings).toBe(1)
    }))

  it("reports its bad rows in each reading", () =>
    withTempDir(async (dir) => {
      const twice = spooled(counted(false, 2), openScratch({ directory: dir }), "spool")
      for (let i = 0; i < 2; i++) {
        const errors: Error[] = []
        expect(await read(twice, { onBadRow: (error) => errors.push(error) })).toHaveLength(2)
        expect(errors).toHaveLength(2)
      }
    }))
})

describe("a remembered source", () => {
  it("hands out once what it has kept, and then reads again", async () => {
    const source = counted(true)
    const twice = remembered(source, 10_000)
    for (const readings of [1, 1, 2, 3]) {
      expect(await read(twice)).toEqual([batch("a"), batch("b")])
      expect(source.readings).toBe(readings)
    }
  })

  it("keeps nothing that is larger than it may be", async () => {
    for (const [most, readings] of [
      [200, 2],
      [2000, 1],
    ] as const) {
      const source = counted(true)
      const twice = remembered(source, most)
      await read(twice)
      expect(await read(twice)).toEqual([batch("a"), batch("b")])
      expect(source.readings).toBe(readings)
    }
  })

  it("keeps nothing of an input that says that it is too large", async () => {
    for (const [rows, readings] of [
      [100, 2],
      [2, 1],
      [undefined, 1],
    ] as const) {
      const source = Object.assign(counted(true), { countRows: async () => rows })
      const twice = remembered(source, 2000)
      await read(twice)
      expect(await read(twice)).toEqual([batch("a"), batch("b")])
      expect(source.readings).toBe(readings)
    }
  })

  it("is read again if rows are bad, so that each reading reports them", async () => {
    const source = counted(true, 2)
    const twice = remembered(source, 10_000)
    for (const readings of [1, 2]) {
      const errors: Error[] = []
      expect(await read(twice, { onBadRow: (error) => errors.push(error) })).toHaveLength(2)
      expect(errors).toHaveLength(2)
      expect(source.readings).toBe(readings)
    }
    await expect(read(twice)).rejects.toThrow("bad")
  })

  it("is read again if a reading ended early", async () => {
    const source = counted(true)
    const twice = remembered(source, 10_000)
    for await (const _ of twice.read({})) break
    expect(await read(twice)).toEqual([batch("a"), batch("b")])
    expect(source.readings).toBe(2)
  })
})
