import { mkdtemp, rm, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, beforeAll, describe, expect, test } from "vitest"
import { readQueryVector } from "../../../cli/query-vector.js"

let dir: string
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), "vecsnap-query-vector-"))
  await writeFile(join(dir, "vector.json"), " [1, 2.5]\n")
  await writeFile(join(dir, "vector.npy"), npy("(2,)", [0.1, -2]))
  await writeFile(join(dir, "one.npy"), npy("(1, 2)", [3, 4]))
  await writeFile(join(dir, "many.npy"), npy("(2, 2)", [1, 2, 3, 4]))
})
afterAll(() => rm(dir, { recursive: true }))

/** A float32 array as numpy 1.0 writes it. */
function npy(shape: string, values: readonly number[]): Buffer {
  const dict = `{'descr': '<f4', 'fortran_order': False, 'shape': ${shape}, }`
  const header = `${dict.padEnd(117)}\n`
  const start = Buffer.from([0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59, 1, 0, header.length, 0])
  return Buffer.concat([start, Buffer.from(header, "latin1"), Buffer.from(Float32Array.from(values).buffer)])
}

test.each([
  ["[0.1, -2]", [0.1, -2]],
  ["@vector.json", [1, 2.5]],
  ["vector.json", [1, 2.5]],
  ["@vector.npy", [0.1, -2]],
  ["one.npy", [3, 4]],
])("%s", async (argument, values) => {
  expect(await readQueryVector(argument, dir)).toEqual(Float32Array.from(values))
})

describe("what is no vector", () => {
  test.each([
    ["[1,2", "--vector is not valid JSON"],
    ["[]", "--vector: expected a JSON list of numbers that is not empty"],
    ['[1,"2"]', '--vector: expected a JSON list of numbers, found "2" at position 1'],
    ["[[1,2]]", "--vector: expected a JSON list of numbers, found a list or map at position 0"],
    ["many.npy", "many.npy: expected one vector, found an array of shape (2, 2)"],
    ["absent.json", "--vector: expected JSON such as [0.1,0.2] or a file, but there is no file absent.json"],
  ])("%s", async (argument, message) => {
    await expect(readQueryVector(argument, dir)).rejects.toThrow(message)
    await expect(readQueryVector(argument, dir)).rejects.toMatchObject({ tag: "InvalidInput" })
  })
})
