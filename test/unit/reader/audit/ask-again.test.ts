import { describe, expect, it } from "vitest"
import { type AskAgain, recallOf } from "../../../../src/reader/audit/ask-again.js"
import type { AuditedQuery } from "../../../../src/reader/audit/audit.js"
import type { SnapshotState } from "../../../../src/reader/state.js"

/** Distances of the rows of each shard, by their ids. */
type Shards = readonly Readonly<Record<string, number>>[]

interface Options {
  readonly open?: readonly number[]
  readonly idle?: () => boolean
  readonly maxOpenShards?: number
}

function given(rows: Shards, { open = [], idle = () => true, maxOpenShards = 100 }: Options = {}) {
  const isOpen = new Set(open)
  const asked: (readonly number[])[] = []
  const closed: number[] = []
  const state = {
    spec: { dim: 1, metric: "l2" },
    shards: new Map(rows.map((_, shard) => [shard, {}])),
  } as unknown as SnapshotState
  const parts: AskAgain = {
    maxOpenShards,
    isIdle: idle,
    moment: () => Promise.resolve(),
    shards: {
      isOpen: (_, shard) => isOpen.has(shard),
      letGo(_, shard) {
        closed.push(shard)
        isOpen.delete(shard)
      },
      async ask(_, questions) {
        for (const question of questions) {
          asked.push(question.shards)
          question.answers = question.shards.map((shard) => {
            isOpen.add(shard)
            const hits = Object.entries(rows[shard]!).map(([id, distance]) => ({
              id,
              distance,
              fields: {},
              payload: null,
            }))
            hits.sort((a, b) => a.distance - b.distance)
            return { hits: hits.slice(0, question.query.k) }
          })
        }
      },
    },
  }
  const ask = (k: number, distances: readonly number[]) => {
    const query: AuditedQuery = { vector: [0], k, distances, snapshot: "run", target: undefined }
    return recallOf(state, query, parts, new AbortController().signal)
  }
  return { ask, asked, closed }
}

const ROWS: Shards = [{ a: 1, b: 5 }, { c: 2, a: 1 }, { d: 2, e: 9 }, {}, { f: 3 }, { g: 4 }]

describe("recall of a query that is asked again", () => {
  it.each([
    [3, [1, 2, 2], 1],
    [3, [1, 2, 3], 2 / 3],
    [3, [], 0],
    // The second nearest is one of two that are equally near: either is as good.
    [2, [1, 2], 1],
    [4, [1, 3, 4, 5], 2 / 4],
    // There are seven records, the first of them in two shards.
    [10, [1, 2, 2, 3, 4, 5, 9], 1],
    [10, [1, 2, 2, 3, 4, 5], 6 / 7],
  ])("at %i with hits at %j is %f", async (k, distances, recall) => {
    expect(await given(ROWS).ask(k, distances)).toBe(recall)
  })

  it("is unknown where there are no rows", async () => {
    expect(await given([{}, {}]).ask(3, [])).toBeUndefined()
  })

  it("takes a few shards at a time, open ones first, and closes those that it has opened", async () => {
    const { ask, asked, closed } = given(ROWS, { open: [4, 1] })
    await ask(3, [1])
    expect(asked).toEqual([
      [1, 4],
      [0, 2, 3, 5],
    ])
    expect(closed).toEqual([0, 2, 3, 5])
  })

  it("takes one at a time where few may be open", async () => {
    const { ask, asked } = given(ROWS, { maxOpenShards: 4 })
    await ask(3, [1])
    expect(asked).toEqual([[0], [1], [2], [3], [4], [5]])
  })

  it("waits for others between the parts, and gives up if they ask all the time", async () => {
    let looks = 0
    const waits = given(ROWS, { idle: () => looks++ > 10, maxOpenShards: 12 })
    expect(await waits.ask(1, [1])).toBe(1)
    const busy = given(ROWS, { idle: () => false })
    await expect(busy.ask(1, [1])).rejects.toThrow("others ask all the time")
    expect(busy.asked).toEqual([])
  })
})
