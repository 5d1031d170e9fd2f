import { describe, expect, it } from "vitest"
import {
  buildMemoryDefault,
  machineLimits,
  memoryOf,
  openFilesOf,
  readerDefaults,
} from "../../src/machine.js"

const MIB = 2 ** 20
const LARGE = { memoryBytes: 64 * 2 ** 30, openFiles: 1_048_576, cores: 32 }

describe("the defaults of a reader", () => {
  it("are what they always were on a machine with room", () => {
    const usual = { memoryBytes: 2 ** 30, workers: 8, maxOpenShards: 256, concurrency: 64 }
    expect(readerDefaults(LARGE)).toEqual(usual)
    expect(readerDefaults({ memoryBytes: 4 * 2 ** 30, openFiles: 1024, cores: 8 })).toEqual(usual)
    expect(readerDefaults({ ...LARGE, openFiles: Number.POSITIVE_INFINITY })).toEqual(usual)
  })

  it("follow the memory of a container", () => {
    const { memoryBytes, workers } = readerDefaults({ ...LARGE, memoryBytes: 512 * MIB })
    expect({ memoryBytes, workers }).toEqual({ memoryBytes: 128 * MIB, workers: 4 })
    expect(readerDefaults({ ...LARGE, memoryBytes: 64 * MIB })).toMatchObject({ workers: 1 })
  })

  it("leave most of the open files to others", () => {
    const { maxOpenShards, concurrency } = readerDefaults({ ...LARGE, openFiles: 256 })
    expect({ maxOpenShards, concurrency }).toEqual({ maxOpenShards: 64, concurrency: 32 })
    expect(readerDefaults({ ...LARGE, openFiles: 3 })).toMatchObject({ maxOpenShards: 1, concurrency: 1 })
  })
})

it("a build takes half of the memory, 1 GiB at most", () => {
  expect(buildMemoryDefault({ memoryBytes: 512 * MIB })).toBe(256 * MIB)
  expect(buildMemoryDefault(LARGE)).toBe(2 ** 30)
})

it("memory is that of the container, where that is bounded and less than the machine's", () => {
  expect(memoryOf(512 * MIB, 2 ** 34)).toBe(512 * MIB)
  for (const unbounded of [undefined, 0, 18446744073709552000])
    expect(memoryOf(unbounded, 2 ** 34)).toBe(2 ** 34)
})

it("the limit of open files is the soft one", () => {
  const text = (soft: string) =>
    `Limit   Soft Limit Hard Limit Units\nMax open files   ${soft}   4096   files\n`
  expect(openFilesOf(text("256"))).toBe(256)
  expect(openFilesOf(text("unlimited"))).toBe(Number.POSITIVE_INFINITY)
  expect(openFilesOf("Max processes 5 6 processes")).toBeUndefined()
  expect(openFilesOf(undefined)).toBeUndefined()
})

it("the limits of this process are numbers above 0", () => {
  for (const limit of Object.values(machineLimits())) expect(limit).toBeGreaterThan(0)
})
