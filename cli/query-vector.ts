/**
 * The vector of a query, as `--vector` gives it: JSON, or a file of JSON or NumPy.
 */
import { readFile } from "node:fs/promises"
import { resolve } from "node:path"
import { decodeNpy, parseJson } from "../src/index.js"
import { fileError } from "../src/storage/files.js"
import { usageError } from "./usage-error.js"

/**
 * Reads `[0.1, …]`, `@file` or `file`; `.npy` files hold one vector, all others JSON. Throws `InvalidInput`.
 */
export async function readQueryVector(argument: string, cwd: string): Promise<Float32Array> {
  if (argument.trimStart().startsWith("[")) return vectorFromJson(argument, "--vector")
  const file = argument.replace(/^@/, "")
  const bytes = await readFile(resolve(cwd, file)).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== "ENOENT") throw fileError("read the vector", file, error)
    throw usageError(
      `--vector: expected JSON such as [0.1,0.2] or a file, but there is no file ${file}`,
      { file },
      error,
    )
  })
  return file.endsWith(".npy") ? vectorFromNpy(bytes, file) : vectorFromJson(bytes.toString(), file)
}

function vectorFromJson(text: string, name: string): Float32Array {
  let value: unknown
  try {
    value = parseJson(text)
  } catch (error) {
    throw usageError(`${name} is not valid JSON: ${(error as Error).message}`, { name }, error)
  }
  if (!Array.isArray(value) || value.length === 0)
    throw usageError(`${name}: expected a JSON list of numbers that is not empty`, { name })
  const wrong = value.findIndex((item) => typeof item !== "number" && typeof item !== "bigint")
  if (wrong !== -1) {
    const found =
      value[wrong] === null || typeof value[wrong] !== "object"
        ? JSON.stringify(value[wrong])
        : "a list or map"
    throw usageError(`${name}: expected a JSON list of numbers, found ${found} at position ${wrong}`, {
      name,
      position: wrong,
    })
  }
  return Float32Array.from(value, Number)
}

function vectorFromNpy(bytes: Uint8Array, file: string): Float32Array {
  const { shape, data } = decodeNpy(bytes, file)
  const isOneVector = shape.length === 1 || (shape.length === 2 && shape[0] === 1)
  if (!isOneVector || data.length === 0)
    throw usageError(`${file}: expected one vector, found an array of shape (${shape.join(", ")})`, {
      file,
      shape,
    })
  return Float32Array.from(data)
}
