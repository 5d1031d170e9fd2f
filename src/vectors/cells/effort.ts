/**
 * How much of some shards a query looks at, by their cells: those whose centres are best, over all shards of
 * the query together. Either `rows` or `cells` is given.
 */
export interface CellEffort {
  /** As many cells as hold so many rows on average. */
  readonly rows?: number | undefined
  readonly cells?: number | undefined
  /** Groups whose cells are looked at. Default: all. */
  readonly groups?: number | undefined
  /** About so many rows of the best estimates get their exact distances. */
  readonly best: number
  /** Of these, only rows whose estimate is at most `slack` behind that of the `near`-th. */
  readonly near?: number | undefined
  /** In units of the estimate: under `cosine` of the distance. Default: Infinity. */
  readonly slack?: number | undefined
}

/**
 * How many cells an effort looks at in shards that have so many rows and cells together. All without rows and
 * cells.
 */
export const cellsFor = (
  { rows, cells }: Pick<CellEffort, "rows" | "cells">,
  all: { readonly rows: number; readonly cells: number },
): number => cells ?? Math.ceil(((rows ?? all.rows) * all.cells) / all.rows)
