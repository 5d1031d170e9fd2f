/** Shards with codes: what a builder makes of rows and a codebook, whichever kernel it has. */
import { mkdir, readdir, readFile } from "node:fs/promises"
import { join } from "node:path"
import { afterEach, describe, expect, it, vi } from "vitest"
import type { ShardRows, ShardSpec } from "../../../../src/shards/backend.js"
import { trainCodebook } from "../../../../src/vectors/cells/codebook.js"
import { decodeCells } from "../../../../src/vectors/cells/file.js"
import type { Metric } from "../../../../src/vectors/metric.js"
import { noiseRows, rowsOf, specOf } from "../../../contract/shard-rows.js"
import { withTempDir } from "../../../support/stores.js"

const [ROWS, DIM] = [1100, 9]

afterEach(() => {
  vi.unstubAllEnvs()
  vi.resetModules()
})

function codedSpec(metric: Metric, rows: ShardRows): ShardSpec {
  const codebook = trainCodebook(metric, rows.vectors, DIM, { width: 2 })
  return { ...specOf(DIM, { metric }), codes: { codebook, sha256: new Uint8Array(32).fill(7) } }
}

/** The files by name. */
async function filesOf(dir: string, rows: ShardRows, spec: ShardSpec, kernel: string) {
  vi.stubEnv("VECSNAP_KERNEL", kernel)
  vi.resetModules()
  const { buildShard } = await import("../../../../src/shards/sqlite-vec/build.js")
  await mkdir(dir)
  const index = await buildShard(rows, dir, spec)
  const names = await readdir(dir)
  const files = await Promise.all(names.map((name) => readFile(join(dir, name))))
  return { index, files: new Map(names.map((name, i) => [name, files[i]!])) }
}

describe("a shard with codes", () => {
  it.each(["cosine", "l2", "dot"] as const)("under %s has the same bytes by every kernel", (metric) =>
    withTempDir(async (dir) => {
      const rows = rowsOf(noiseRows(ROWS, DIM), specOf(DIM, { metric }))
      const spec = codedSpec(metric, rows)
      const compiled = await filesOf(join(dir, "compiled"), rows, spec, "")
      const plain = await filesOf(join(dir, "plain"), rows, spec, "plain")
      expect(plain).toEqual(compiled)
      const cells = decodeCells(compiled.files.get("cells.bin")!, "cells.bin")
      expect(compiled.index).toEqual({ kind: "cells", cells: cells.starts.length - 1 })
      expect(cells.coded).toBeDefined()
      expect([...cells.codebook]).toEqual(Array(32).fill(7))
    }),
  )

  it("has the home of a row where its cell is", () =>
    withTempDir(async (dir) => {
      const plain = rowsOf(noiseRows(ROWS, DIM), specOf(DIM, { metric: "l2" }))
      const home = new Uint8Array(Math.ceil(ROWS / 8)).fill(255)
      for (let row = 0; row < ROWS; row += 5) home[row >> 3]! &= ~(1 << (row & 7))
      const { files } = await filesOf(join(dir, "shard"), { ...plain, home }, codedSpec("l2", plain), "")
      const cells = decodeCells(files.get("cells.bin")!, "cells.bin")
      expect(cells.ranks).not.toEqual(Uint32Array.from({ length: ROWS }, (_, row) => row))
      for (const [position, row] of cells.ranks.entries()) {
        expect((cells.home[position >> 3]! >> (position & 7)) & 1).toBe(row % 5 === 0 ? 0 : 1)
      }
    }))
})
