import { describe, expect, it } from "vitest"
import { corrupt, invalidInput } from "../../../src/errors.js"
import { HeldState, HeldStates } from "../../../src/reader/held.js"
import type { OpenShards, Question } from "../../../src/reader/shards/open-shards.js"
import type { SnapshotState } from "../../../src/reader/state.js"
import type { ShardAnswer } from "../../../src/shards/backend.js"
import { prepareQuery } from "../../../src/shards/query.js"

const QUERY = prepareQuery([0], 1, { dim: 1, metric: "l2" })

/** A state as far as holding goes: its run, and the content of each shard. */
const stateOf = (run: string, ...contents: string[]): SnapshotState =>
  ({ info: { run }, contents: new Map(contents.entries()) }) as unknown as SnapshotState

interface Fakes {
  readonly states: HeldStates
  /** Runs forgotten, in order. */
  readonly forgotten: string[]
  /** What was kept open, each time that something was closed. */
  readonly retained: string[][]
}

function createStates(): Fakes {
  const forgotten: string[] = []
  const retained: string[][] = []
  const unused = async () => {
    throw new Error("no shard is used here")
  }
  const shards = {
    use: unused,
    ask: unused,
    retain: (contents: ReadonlySet<string>) => void retained.push([...contents].sort()),
  }
  const states = new HeldStates(shards, ({ info }) => void forgotten.push(info.run))
  return { states, forgotten, retained }
}

/** A call that uses the current state until it is told to end. */
function startCall(states: HeldStates) {
  let end = (): void => {}
  const until = new Promise<void>((resolve) => {
    end = resolve
  })
  const done = states.use(async ({ state }) => {
    await until
    return state.info.run
  })
  return { done, end }
}

describe("states of a reader", () => {
  it("has none before the first is loaded", () => {
    const { states } = createStates()
    expect(states.current).toBeUndefined()
    states.begin(stateOf("one", "a"))
    expect(states.current!.state.info.run).toBe("one")
  })

  it("forgets the old one at the swap, with the shards that the new one has not", async () => {
    const { states, forgotten, retained } = createStates()
    states.begin(stateOf("one", "a", "b"))
    await states.replace(stateOf("two", "b", "c"), async () => {
      expect(states.current!.state.info.run).toBe("one")
      expect({ forgotten, retained }).toEqual({ forgotten: [], retained: [] })
    })
    expect(states.current!.state.info.run).toBe("two")
    expect({ forgotten, retained }).toEqual({ forgotten: ["one"], retained: [["b", "c"]] })
  })

  it("keeps an old one until the last call on it has ended", async () => {
    const { states, forgotten, retained } = createStates()
    states.begin(stateOf("one", "a"))
    const first = startCall(states)
    const second = startCall(states)
    await states.replace(stateOf("two", "b"), async () => {})
    first.end()
    expect(await first.done).toBe("one")
    expect(forgotten).toEqual([])
    const third = startCall(states)
    second.end()
    expect(await second.done).toBe("one")
    expect({ forgotten, retained }).toEqual({ forgotten: ["one"], retained: [["b"]] })
    third.end()
    expect(await third.done).toBe("two")
    expect(forgotten).toEqual(["one"])
  })

  it("stays as it was if the next one cannot be prepared, and closes what was opened for that", async () => {
    const { states, forgotten, retained } = createStates()
    states.begin(stateOf("one", "a"))
    const failure = new Error("no luck")
    await expect(states.replace(stateOf("two", "b"), () => Promise.reject(failure))).rejects.toBe(failure)
    expect(states.current!.state.info.run).toBe("one")
    expect({ forgotten, retained }).toEqual({ forgotten: ["two"], retained: [["a"]] })
  })

  it("lets a state go when a call on it fails", async () => {
    const { states, forgotten } = createStates()
    states.begin(stateOf("one", "a"))
    await expect(states.use(() => Promise.reject(new Error("it fails")))).rejects.toThrow("it fails")
    await states.replace(stateOf("two", "b"), async () => {})
    expect(forgotten).toEqual(["one"])
  })

  it("hands on which shards were used, and nothing else that it has learnt", async () => {
    const { states } = createStates()
    states.begin(stateOf("one", "a", "b"))
    const before = states.current!
    before.recentShards.add(1).add(0)
    before.failingShards.set(1, { reason: "it is damaged", atMs: 0 })
    before.recentQueries.note(true)
    await states.replace(stateOf("two", "c", "d"), async () => {})
    const { recentShards, failingShards, recentQueries } = states.current!
    expect([...recentShards]).toEqual([1, 0])
    expect(failingShards.size).toBe(0)
    expect(recentQueries.unlike()).toBeUndefined()
  })
})

describe("a state in use", () => {
  /** A state whose shards answer with `answers`, in order. */
  function heldWith(...answers: (() => unknown)[]) {
    const use = (async () => answers.shift()!()) as OpenShards["use"]
    // Each shard of a question gets an answer in turn.
    const askAll: OpenShards["ask"] = async (_, questions) => {
      for (const question of questions)
        question.answers = question.shards.map(() => {
          try {
            return answers.shift()!() as ShardAnswer
          } catch (error) {
            return { error }
          }
        })
    }
    return new HeldState(stateOf("one", "a", "b", "c"), { use, ask: askAll })
  }
  const question = (...shards: number[]): Question => ({ query: QUERY, shards, answers: [] })
  const ask = (held: HeldState, shard: number) => held.useShard(shard, async () => "unused", undefined)

  it("remembers shards by their last use", async () => {
    const held = heldWith(...Array(4).fill(() => "found"))
    for (const shard of [2, 0, 1, 2]) expect(await ask(held, shard)).toBe("found")
    expect([...held.recentShards]).toEqual([0, 1, 2])
  })

  it("remembers a shard that fails until it answers again", async () => {
    const fail = () => {
      throw corrupt("shard.db is damaged")
    }
    const held = heldWith(fail, () => "found")
    await expect(ask(held, 1)).rejects.toThrow("shard.db is damaged")
    expect([...held.failingShards]).toEqual([
      [1, { reason: "shard.db is damaged", atMs: expect.any(Number) }],
    ])
    await ask(held, 1)
    expect(held.failingShards.size).toBe(0)
  })

  it("remembers of shards that are asked together each that fails, until it answers again", async () => {
    const found = () => ({ hits: [] })
    const fail = () => {
      throw corrupt("shard.db is damaged")
    }
    const held = heldWith(found, fail, fail, found, fail)
    await held.askShards([question(2, 0), question(1)], undefined, false)
    expect([...held.recentShards]).toEqual([2, 0, 1])
    expect([...held.failingShards.keys()]).toEqual([0, 1])
    await held.askShards([question(0), question(1)], undefined, false)
    expect([...held.recentShards]).toEqual([2, 0, 1])
    expect([...held.failingShards.keys()]).toEqual([1])
  })

  it("does not hold wrong input against a shard", async () => {
    const held = heldWith(() => {
      throw invalidInput("k is 0")
    })
    await expect(ask(held, 1)).rejects.toThrow("k is 0")
    expect(held.failingShards.size).toBe(0)
  })
})
