/**
 * Records by which the kernels find the cells of a shard whose file of cells lies in their memory, wherever
 * that is. kernel/assembly/cells.ts says what is in them.
 */
import { GROUP_CELLS } from "./cells.js"
import { blockLength, blocksOf } from "./codes.js"
import { type Directions, paddedToEights } from "./directions.js"
import type { CellsFile, CodedCells } from "./file.js"
import type { CellSpace } from "./space.js"

const SHARD_BYTES = 32
const GROUP_BYTES = 32
const CELL_BYTES = 32

/** Bytes that {@link writeRecords} takes, a multiple of 16. */
export function recordBytes(cells: number): number {
  const groups = Math.ceil(cells / GROUP_CELLS)
  // Groups are looked at in eights, whose records' addresses are taken whether they are there or not.
  const ranking = 8 * (paddedToEights(cells) + paddedToEights(groups))
  return SHARD_BYTES + groups * GROUP_BYTES + cells * CELL_BYTES + ranking
}

/** A shard as the kernels know it. */
export interface ShardRecord {
  /** Address of its record. */
  readonly address: number
  readonly cells: number
  readonly groups: number
}

/**
 * Writes the records of a shard at `at` (a multiple of 16). `file`: views of the same memory, which must not
 * move. `firstRow`: number of the row at position 0, by which scans tell of rows.
 */
export function writeRecords(
  memory: ArrayBufferLike,
  at: number,
  { comparison }: CellSpace,
  { starts }: Pick<CellsFile, "starts">,
  coded: CodedCells,
  firstRow: number,
): ShardRecord {
  const cells = starts.length - 1
  const groups = Math.ceil(cells / GROUP_CELLS)
  const view = new DataView(memory)
  const groupsAt = at + SHARD_BYTES
  const cellsAt = groupsAt + groups * GROUP_BYTES
  const ofCells = cellsAt + cells * CELL_BYTES
  const ofGroups = ofCells + 8 * paddedToEights(cells)
  const biases = comparison === "distances"
  const setFields = (address: number, fields: readonly number[]) => {
    for (const [i, field] of fields.entries()) view.setUint32(address + 4 * i, field, true)
  }
  const rank = (address: number, { weights }: Directions, lengths: Float32Array) => {
    const ranking = new Float32Array(memory, address, 2 * weights.length)
    for (let i = 0; i < weights.length; i++) {
      const length = lengths[i] ?? 0
      ranking[i] = comparison === "directions" ? weights[i]! : weights[i]! * length
      ranking[weights.length + i] = biases ? (length * length) / 2 : 0
    }
  }
  rank(ofCells, coded.directions, coded.lengths)
  rank(ofGroups, coded.groups, coded.groupLengths)
  const biasesOf = (address: number, count: number) => (biases ? address + 4 * paddedToEights(count) : 0)
  setFields(at, [coded.groups.codes.byteOffset, ofGroups, biasesOf(ofGroups, groups), groupsAt, groups])
  const bytesPerCell = coded.directions.codes.length / paddedToEights(cells)
  for (let group = 0; group < groups; group++) {
    const first = group * GROUP_CELLS
    const ranking = ofCells + 4 * first
    setFields(groupsAt + group * GROUP_BYTES, [
      coded.directions.codes.byteOffset + first * bytesPerCell,
      ranking,
      biases ? ranking + 4 * paddedToEights(cells) : 0,
      cellsAt + first * CELL_BYTES,
      Math.min(GROUP_CELLS, cells - first),
    ])
  }
  const length = blockLength(coded.subspaces, coded.hasOffsets)
  let block = coded.blocks.byteOffset
  for (let cell = 0; cell < cells; cell++) {
    const address = cellsAt + cell * CELL_BYTES
    const rows = starts[cell + 1]! - starts[cell]!
    setFields(address, [block, rows, firstRow + starts[cell]!])
    view.setFloat32(address + 12, comparison === "directions" ? coded.lengths[cell]! : 1, true)
    view.setFloat32(address + 16, coded.factorScales[cell]!, true)
    view.setFloat32(address + 20, coded.hasOffsets ? coded.offsetScales[cell]! : 0, true)
    block += blocksOf(rows) * length
  }
  return { address: at, cells, groups }
}
