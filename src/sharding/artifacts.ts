/** Checks arrays that strategies are made of. */
import { corrupt } from "../errors.js"
import { type AnyNpyArray, hasFloats, type NpyArray } from "../vectors/npy.js"
import type { RoutingArtifacts } from "./strategy.js"

/** Throws `Corrupt` unless there is an artifact of that name: finite numbers of this shape. */
export function checkedArtifact(
  artifacts: RoutingArtifacts,
  name: string,
  shape: readonly number[],
): NpyArray {
  const array = artifacts[name]
  if (array === undefined) throw corrupt(`the routing artifact ${name} is missing`, { artifact: name })
  return checkedArray(array, shape, (problem) =>
    corrupt(`the routing artifact ${name} has ${problem}`, { artifact: name }),
  )
}

/** Finite floating-point numbers of a shape. What is not so is told in words that follow "has". */
export function checkedArray(
  array: AnyNpyArray,
  shape: readonly number[],
  error: (problem: string) => Error,
): NpyArray {
  if (!hasFloats(array)) throw error("integers, expected floating-point numbers")
  const problem = arrayProblem(array, shape)
  if (problem !== undefined) throw error(problem)
  return array
}

function arrayProblem(array: NpyArray, shape: readonly number[]): string | undefined {
  if (array.shape.length !== shape.length || shape.some((length, axis) => array.shape[axis] !== length)) {
    return `shape (${array.shape.join(", ")}), expected (${shape.join(", ")})`
  }
  const bad = array.data.findIndex((value) => !Number.isFinite(value))
  return bad < 0 ? undefined : `${array.data[bad]} at position ${bad}, expected finite values`
}
