/**
 * Vectors of other kinds than words, the same for a seed:
 *
 * - `clustered`: overlapping anisotropic clusters. One cluster for 400 rows, of unequal weight; centres are
 *   Gaussian, and a row is its cluster's centre plus noise along five directions of the cluster's own and a
 *   little along all axes.
 * - `smooth`: no clusters. Six coordinates, uniform, pass through 96 slow waves of random direction and
 *   phase, with 2 % noise: a curved sheet of six dimensions.
 */
import { createRandom } from "../src/vectors/random.js"

export const GENERATED = ["clustered", "smooth"] as const
export type Generated = (typeof GENERATED)[number]

const ROWS_PER_CLUSTER = 400
const DIRECTIONS = 5
const STRETCH = 0.9
const SPREAD = 0.45
const COORDINATES = 6
const WAVES_PER_UNIT = 0.6
const NOISE = 0.02

/** `rows × dim` of one kind. */
export function generate(kind: Generated, rows: number, dim: number, seed: number): Float32Array {
  return kind === "clustered" ? clustered(rows, dim, seed) : smooth(rows, dim, seed)
}

function clustered(rows: number, dim: number, seed: number): Float32Array {
  const { gaussian, float: next } = createRandom(seed)
  const clusters = Math.max(1, Math.round(rows / ROWS_PER_CLUSTER))
  const gaussians = (length: number) => Float32Array.from({ length }, gaussian)
  const centres = gaussians(clusters * dim)
  const directions = gaussians(clusters * DIRECTIONS * dim)
  const out = new Float32Array(rows * dim)
  for (let row = 0; row < rows; row++) {
    // The square makes clusters unequal.
    const cluster = Math.floor(clusters * next() ** 2)
    const along = Array.from({ length: DIRECTIONS }, () => STRETCH * gaussian())
    for (let i = 0; i < dim; i++) {
      let value = centres[cluster * dim + i]! + SPREAD * gaussian()
      for (let d = 0; d < DIRECTIONS; d++) {
        value += along[d]! * directions[(cluster * DIRECTIONS + d) * dim + i]!
      }
      out[row * dim + i] = value
    }
  }
  return out
}

function smooth(rows: number, dim: number, seed: number): Float32Array {
  const { gaussian, float: next } = createRandom(seed)
  const frequencies = Float32Array.from({ length: dim * COORDINATES }, () => WAVES_PER_UNIT * gaussian())
  const phases = Float32Array.from({ length: dim }, next)
  const out = new Float32Array(rows * dim)
  for (let row = 0; row < rows; row++) {
    const place = Array.from({ length: COORDINATES }, next)
    for (let i = 0; i < dim; i++) {
      let turns = phases[i]!
      for (let c = 0; c < COORDINATES; c++) turns += frequencies[i * COORDINATES + c]! * place[c]!
      out[row * dim + i] = Math.cos(2 * Math.PI * turns) + NOISE * gaussian()
    }
  }
  return out
}
