import fc from "fast-check"
import { describe, expect, test } from "vitest"
import { isVecsnapError } from "../../../src/errors.js"
import {
  decodeAnyNpy,
  decodeNpy,
  decodeNpyItems,
  encodeNpy,
  NPY_HEADER_BYTES,
  parseNpyHeader,
} from "../../../src/vectors/npy.js"
import { NUMPY_FILES } from "./npy-fixtures.js"

const numpyFile = (name: keyof typeof NUMPY_FILES): Uint8Array => Buffer.from(NUMPY_FILES[name], "base64")

/** A version 1.0 file with this header text. */
function npyFile(header: string, values: Uint8Array): Uint8Array {
  const head = Buffer.from(`\x93NUMPY\x01\x00\x00\x00${header}`, "latin1")
  head.writeUInt16LE(header.length, 8)
  return Buffer.concat([head, values])
}

function corruptMessage(bytes: Uint8Array): string {
  try {
    decodeNpy(bytes, "x.npy")
  } catch (error) {
    if (isVecsnapError(error, "Corrupt")) return error.message
    throw error
  }
  throw new Error("nothing was thrown")
}

describe("reading what NumPy wrote", () => {
  for (const type of ["<f4", ">f4", "<f8", ">f8", "<f2", ">f2"] as const) {
    for (const order of ["C", "F"] as const) {
      test(`${type} in ${order} order`, () => {
        const { shape, data } = decodeNpy(numpyFile(`${type} ${order}`), "a.npy")
        expect(shape).toEqual([2, 3])
        expect([...data]).toEqual([1, 2.5, -3, 0.125, -0, 65504])
        expect(data).toBeInstanceOf(type.endsWith("f8") ? Float64Array : Float32Array)
      })
    }
  }

  test("integers, without loss", () => {
    for (const type of ["<i4", ">i4"] as const) {
      expect(decodeAnyNpy(numpyFile(type), "a.npy").data).toEqual(Int32Array.of(1, -2, 2 ** 31 - 1))
    }
    for (const type of ["<i8", ">i8"] as const) {
      expect(decodeAnyNpy(numpyFile(type), "a.npy").data).toEqual(BigInt64Array.of(1n, -2n, 2n ** 63n - 1n))
    }
    expect(() => decodeNpy(numpyFile("<i4"), "a.npy")).toThrow(
      "a.npy holds integers, expected floating-point numbers",
    )
  })

  test("versions 2.0 and 3.0", () => {
    for (const name of ["version 2.0", "version 3.0"] as const) {
      expect([...decodeNpy(numpyFile(name), "a.npy").data]).toEqual([1, 2.5, -3, 0.125, -0, 65504])
    }
  })

  test("no, one and three dimensions, and no rows", () => {
    expect(decodeNpy(numpyFile("no dimension"), "a.npy")).toEqual({ shape: [], data: Float64Array.of(1.5) })
    expect(decodeNpy(numpyFile("one dimension"), "a.npy")).toEqual({
      shape: [2],
      data: Float32Array.of(1.5, 2),
    })
    const numbers = Float32Array.from({ length: 24 }, (_, i) => i)
    for (const name of ["three dimensions", "three dimensions, Fortran order"] as const) {
      expect(decodeNpy(numpyFile(name), "a.npy")).toEqual({ shape: [2, 3, 4], data: numbers })
    }
    expect(decodeNpy(numpyFile("empty"), "a.npy")).toEqual({ shape: [0, 5], data: new Float32Array(0) })
  })

  test("the special values of float16", () => {
    const { data } = decodeNpy(numpyFile("special f2"), "a.npy")
    expect([...data]).toEqual([Infinity, -Infinity, Number.NaN, 2 ** -24, 2 ** -14, 65504, -2])
  })

  test("a file inside a larger buffer, at an odd offset", () => {
    const bytes = numpyFile("<f8 C")
    const larger = new Uint8Array(bytes.length + 8)
    larger.set(bytes, 3)
    const { data } = decodeNpy(larger.subarray(3, 3 + bytes.length), "a.npy")
    expect([...data]).toEqual([1, 2.5, -3, 0.125, -0, 65504])
  })
})

describe("writing", () => {
  test("gives the bytes that numpy.save gives", () => {
    const names = [
      "zeros 3x8",
      "<f4 C",
      "<f8 C",
      "no dimension",
      "one dimension",
      "three dimensions",
      "empty",
    ] as const
    for (const name of names) {
      const bytes = numpyFile(name)
      expect(Buffer.from(encodeNpy(decodeNpy(bytes, name))).equals(bytes), name).toBe(true)
    }
  })

  test("the header of a 3×8 array is 128 bytes with the text that shardyfusion documents", () => {
    const bytes = encodeNpy({ shape: [3, 8], data: new Float32Array(24) })
    const text = "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 8), }"
    expect(Buffer.from(bytes.subarray(10, 10 + text.length)).toString()).toBe(text)
    expect(bytes[127]).toBe(0x0a)
    expect(bytes.length).toBe(128 + 24 * 4)
  })

  test("comes back as it was, whatever the shape", () => {
    const shapes = fc.array(fc.integer({ min: 0, max: 5 }), { maxLength: 4 })
    fc.assert(
      fc.property(shapes, fc.boolean(), fc.infiniteStream(fc.float()), (shape, wide, stream) => {
        const length = shape.reduce((a, b) => a * b, 1)
        const values = [...stream.take(length)]
        const array = { shape, data: wide ? Float64Array.from(values) : Float32Array.from(values) }
        const bytes = encodeNpy(array)
        expect((bytes.length - array.data.byteLength) % 64).toBe(0)
        expect(decodeNpy(bytes, "a.npy")).toEqual(array)
      }),
    )
  })

  test("refuses a shape that does not fit the values", () => {
    expect(() => encodeNpy({ shape: [2, 2], data: new Float32Array(3) })).toThrow(
      "an array of shape (2, 2) has 4 values, got 3",
    )
  })
})

describe("reading in pieces", () => {
  test("the header says where the values start, and pieces decode alone", () => {
    const bytes = numpyFile(">f4 C")
    const header = parseNpyHeader(bytes.subarray(0, NPY_HEADER_BYTES), "a.npy")
    expect(header).toEqual({
      type: "f4",
      bigEndian: true,
      fortranOrder: false,
      shape: [2, 3],
      itemBytes: 4,
      items: 6,
      dataStart: 128,
    })
    expect([...decodeNpyItems(bytes.subarray(128 + 12), header)]).toEqual([0.125, -0, 65504])
  })
})

describe("what is not a whole array of numbers is Corrupt, and the message tells why", () => {
  const values = new Uint8Array(24)
  const header = (text: string) => corruptMessage(npyFile(text, values))

  test("wrong magic or version", () => {
    expect(corruptMessage(Buffer.from("PK\x03\x04 and more text"))).toBe(
      "x.npy is not an .npy file: it does not start with \\x93NUMPY",
    )
    const newer = Uint8Array.from(numpyFile("<f4 C"))
    newer[6] = 4
    expect(corruptMessage(newer)).toBe("x.npy has .npy version 4.0, expected 1.0, 2.0 or 3.0")
  })

  test("too few or too many bytes", () => {
    const bytes = numpyFile("<f4 C")
    expect(corruptMessage(bytes.subarray(0, -1))).toBe(
      "x.npy has 23 bytes of values, expected 24 for shape (2, 3)",
    )
    expect(corruptMessage(Buffer.concat([bytes, values]))).toBe(
      "x.npy has 48 bytes of values, expected 24 for shape (2, 3)",
    )
    expect(corruptMessage(bytes.subarray(0, 100))).toBe(
      "x.npy ends within its header: expected 128 bytes or more, got 100",
    )
  })

  test("every way to cut a file short", () => {
    const bytes = numpyFile("version 2.0")
    for (let length = 0; length < bytes.length; length++) {
      expect(corruptMessage(bytes.subarray(0, length))).toMatch(/^x\.npy /)
    }
  })

  test("a header longer than any array needs", () => {
    const bytes = Uint8Array.from(numpyFile("version 2.0"))
    new DataView(bytes.buffer).setUint32(8, 2 ** 31, true)
    expect(corruptMessage(bytes)).toBe("x.npy has a header of 2147483648 bytes, expected 65536 at most")
  })

  test("a dict with other literals, keys or types", () => {
    expect(header("{'descr': '<f4', 'fortran_order': False, 'shape': __import__('os')}")).toContain(
      "cannot read",
    )
    expect(header("{'descr': '<f4', 'fortran_order': False, 'shape': (6)}")).toContain(
      "'shape' is not a tuple",
    )
    expect(header("{'descr': '<f4', 'fortran_order': False, 'shape': (-6,)}")).toContain("cannot read")
    expect(header("{'descr': '<f4', 'fortran_order': False, 'shape': (2,,3)}")).toContain(
      "'shape' is not a tuple",
    )
    expect(header("{'descr': '<f4', 'fortran_order': 'no', 'shape': (6,)}")).toContain(
      "'fortran_order' is neither",
    )
    expect(header("{'descr': '<f4', 'shape': (6,)}")).toContain(
      "expected the keys descr, fortran_order and shape",
    )
    expect(header("{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (6,)}")).toContain(
      "given twice",
    )
    expect(header("[]")).toContain("expected a dict")
    expect(corruptMessage(numpyFile("bool"))).toBe(
      "x.npy holds values of type '|b1', expected < or > followed by one of f2, f4, f8, i4, i8",
    )
    expect(corruptMessage(numpyFile("struct"))).toContain("holds values of type '[(")
  })

  test("a shape whose size overflows", () => {
    const shape = "(4294967296, 4294967296)"
    expect(header(`{'descr': '<f4', 'fortran_order': False, 'shape': ${shape}}`)).toBe(
      `x.npy has shape ${shape}, which is more than a file can hold`,
    )
  })
})

test("headers in other spellings that Python accepts are read", () => {
  const values = Buffer.from(Float32Array.of(1, 2, 3, 4, 5, 6).buffer)
  for (const text of [
    '{"shape": (2, 3), "fortran_order": False, "descr": "<f4"}',
    "{'descr':'<f4','fortran_order':False,'shape':(2L,3L),}  \n",
  ]) {
    expect([...decodeNpy(npyFile(text, values), "a.npy").data]).toEqual([1, 2, 3, 4, 5, 6])
  }
})
