import { createHash } from "node:crypto"
import { readFile } from "node:fs/promises"
import { join } from "node:path"
import { describe, expect, it } from "vitest"
import { corrupt, unavailable } from "../../../../src/errors.js"
import { openStore } from "../../../../src/index.js"
import { silentLogger } from "../../../../src/logger.js"
import { OpenShards, type Question } from "../../../../src/reader/shards/open-shards.js"
import { contentKey } from "../../../../src/reader/shards/shard-files.js"
import type { SnapshotState } from "../../../../src/reader/state.js"
import type { ShardAnswer, ShardOpener, ShardPool, ShardReader } from "../../../../src/shards/backend.js"
import { prepareQuery } from "../../../../src/shards/query.js"
import type { SnapshotShard } from "../../../../src/snapshot/snapshot.js"
import type { ObjectStore } from "../../../../src/storage/store.js"
import { withTempDir } from "../../../support/stores.js"

const FILE = "rows"
let roots = 0

/** What a test lets the engine do: by default every shard opens and answers with one hit of its name. */
interface Engine {
  open?: (name: string) => Promise<void>
  answer?: (name: string, query: number) => ShardAnswer
}

interface Given {
  readonly shards: OpenShards
  readonly state: SnapshotState
  readonly store: ObjectStore
  /** Names of the shards, as they were asked together, one line a call of the engine. */
  readonly asked: string[]
  readonly opened: string[]
  readonly closed: string[]
}

const hitOf = (id: string): ShardAnswer => ({ hits: [{ id, distance: 0, fields: {}, payload: null }] })

/** Shards whose file has their name, in memory. Several numbers may have one content. */
async function withShards(
  names: readonly string[],
  options: { readonly maxOpenShards?: number; readonly concurrency?: number; readonly engine?: Engine },
  work: (given: Given) => Promise<void>,
): Promise<void> {
  const { maxOpenShards = 100, concurrency = 100, engine = {} } = options
  const store = openStore(`memory://open-shards-${roots++}`)
  const [asked, opened, closed]: string[][] = [[], [], []]
  const nameOf = new Map<ShardReader, string>()
  const pool: ShardPool = {
    async open(source) {
      const name = await readFile(join(await source.localDir(), FILE), "utf8")
      opened!.push(name)
      await engine.open?.(name)
      const reader = { rows: 1, bytes: 0, close: async () => void closed!.push(name) } as ShardReader
      nameOf.set(reader, name)
      return reader
    },
    async search(readers, { vector }) {
      const found = readers.map((reader) => nameOf.get(reader)!)
      asked!.push(`${vector[0]}: ${found.join(" ")}`)
      return found.map((name) => engine.answer?.(name, vector[0]!) ?? hitOf(name))
    },
    close: async () => {},
  }
  const entries = names.map(
    (name, shard): SnapshotShard => ({
      shard,
      rows: 1,
      folder: `shards/${name}`,
      files: [{ name: FILE, size: name.length, sha256: createHash("sha256").update(name).digest("hex") }],
      index: { kind: "fake" },
    }),
  )
  for (const { folder } of entries) await store.put(`${folder}/${FILE}`, Buffer.from(folder.slice(7)))
  const contents = new Map(entries.map((entry) => [entry.shard, contentKey(entry)]))
  const state = {
    snapshot: { opener: { traits: {} } as ShardOpener },
    spec: {},
    shards: new Map(entries.map((entry) => [entry.shard, entry])),
    contents,
    sharesContent: new Set(names).size < names.length,
  } as unknown as SnapshotState
  await withTempDir(async (cacheDir) => {
    const shards = new OpenShards(store, {
      cacheDir,
      maxOpenShards,
      concurrency,
      queueTimeoutMs: 60_000,
      pools: { of: () => pool, leave: async () => {} },
      logger: silentLogger,
      telemetry: { open: (_, open) => open(), download: (_shard, _bytes, download) => download() },
    })
    await work({ shards, state, store, asked: asked!, opened: opened!, closed: closed! })
    await shards.close(new AbortController().signal)
  })
}

/** A question that the engine knows by its number. */
const question = (number: number, ...shards: number[]): Question => ({
  query: prepareQuery([number], 3, { dim: 1, metric: "l2" }),
  shards,
  answers: [],
})

/** Of each shard what it has found, or why it has failed. */
const told = ({ answers }: Question): string[] =>
  answers.map((answer) =>
    answer === undefined
      ? "nothing"
      : "error" in answer
        ? (answer.error as Error).message
        : answer.hits.map(({ id }) => id).join(),
  )

/** Something that is waited for until the test lets go. */
function holding() {
  let release = (): void => {}
  const held = new Promise<void>((resolve) => {
    release = resolve
  })
  return { held, release }
}

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))

const NAMES = ["a", "b", "c", "d", "e"]
const damaged = () => corrupt("it is damaged")

describe("shards of a reader, asked together", () => {
  it("are asked at once, in the order of the question, and opened once", () =>
    withShards(NAMES, {}, async ({ shards, state, asked, opened }) => {
      const one = question(1, 3, 0, 2)
      await shards.ask(state, [one], undefined, true)
      expect(told(one)).toEqual(["d", "a", "c"])
      const next = question(2, 2, 3)
      await shards.ask(state, [next], undefined, true)
      expect(told(next)).toEqual(["c", "d"])
      expect(asked).toEqual(["1: d a c", "2: c d"])
      expect(opened.sort()).toEqual(["a", "c", "d"])
    }))

  it("are opened once for many questions, of which each asks its own shards at once", () =>
    withShards(NAMES, {}, async ({ shards, state, asked, opened }) => {
      const questions = [question(1, 0, 1), question(2), question(3, 4, 1, 0)]
      await shards.ask(state, questions, undefined, true)
      expect(questions.map(told)).toEqual([["a", "b"], [], ["e", "b", "a"]])
      expect(asked).toEqual(["1: a b", "3: e b a"])
      expect(opened.sort()).toEqual(["a", "b", "e"])
    }))

  it("are asked in parts where not all may be open, each opened once, whatever the questions", () =>
    withShards(NAMES, { maxOpenShards: 2 }, async ({ shards, state, asked, opened }) => {
      const questions = [question(1, 0, 1, 2, 3, 4), question(2, 3, 0)]
      await shards.ask(state, questions, undefined, true)
      expect(questions.map(told)).toEqual([NAMES, ["d", "a"]])
      expect(asked).toEqual(["1: a b", "2: a", "1: c d", "2: d", "1: e"])
      expect(opened.sort()).toEqual(NAMES)
    }))

  it("of equal content are open once and answer for each number", () =>
    withShards(["a", "b", "a"], {}, async ({ shards, state, asked, opened }) => {
      const one = question(1, 0, 1, 2)
      await shards.ask(state, [one], undefined, true)
      await shards.ask(state, [question(2, 2)], undefined, true)
      expect(told(one)).toEqual(["a", "b", "a"])
      expect(asked).toEqual(["1: a b", "2: a"])
      expect(opened.sort()).toEqual(["a", "b"])
    }))

  it("are fetched again if their copy is damaged, and alone asked once more", async () => {
    let bad = ["b", "d"]
    const answer = (name: string) => {
      if (!bad.includes(name)) return hitOf(name)
      bad = bad.filter((other) => other !== name)
      return { error: damaged() }
    }
    await withShards(NAMES, { engine: { answer } }, async ({ shards, state, asked, opened, closed }) => {
      const one = question(1, 0, 1, 2, 3)
      await shards.ask(state, [one], undefined, true)
      expect(told(one)).toEqual(["a", "b", "c", "d"])
      expect(asked).toEqual(["1: a b c d", "1: b d"])
      expect(opened.slice(4).sort()).toEqual(["b", "d"])
      expect(closed.sort()).toEqual(["b", "d"])
    })
  })

  it("are dropped once for all who met the same damaged copy", async () => {
    let opens = 0
    const engine: Engine = {
      open: async () => void opens++,
      answer: (name) => (opens === 1 ? { error: damaged() } : hitOf(name)),
    }
    await withShards(["a"], { engine }, async ({ shards, state, opened }) => {
      const questions = [1, 2, 3].map((number) => question(number, 0))
      await Promise.all(questions.map((one) => shards.ask(state, [one], undefined, true)))
      expect(questions.map(told)).toEqual([["a"], ["a"], ["a"]])
      expect(opened).toEqual(["a", "a"])
    })
  })

  it("stay damaged after one more try: an answer of theirs, or the end where all must answer", async () => {
    const engine: Engine = { answer: (name) => (name === "b" ? { error: damaged() } : hitOf(name)) }
    await withShards(NAMES, { engine }, async ({ shards, state, asked }) => {
      const one = question(1, 0, 1, 2)
      await shards.ask(state, [one], undefined, false)
      expect(told(one)).toEqual(["a", "it is damaged", "c"])
      expect(asked).toEqual(["1: a b c", "1: b"])
      await expect(shards.ask(state, [question(2, 1, 2)], undefined, true)).rejects.toThrow("it is damaged")
    })
  })

  it("fail one question and not another", async () => {
    const answer = (name: string, query: number): ShardAnswer =>
      name === "b" && query === 2 ? { error: unavailable("not now") } : hitOf(`${name}${query}`)
    await withShards(NAMES, { engine: { answer } }, async ({ shards, state, asked }) => {
      const questions = [question(1, 0, 1), question(2, 0, 1)]
      await shards.ask(state, questions, undefined, false)
      expect(questions.map(told)).toEqual([
        ["a1", "b1"],
        ["a2", "not now"],
      ])
      expect(asked).toEqual(["1: a b", "2: a b"])
    })
  })

  it("of which one cannot be opened end a call that needs all, at once, and the others answer one that does not", async () => {
    const { held, release } = holding()
    const engine: Engine = { open: async (name) => (name === "c" ? held : undefined) }
    await withShards(NAMES, { engine }, async ({ shards, state, store }) => {
      await store.delete([`shards/b/${FILE}`])
      const strict = question(1, 0, 1, 2)
      await expect(shards.ask(state, [strict], undefined, true)).rejects.toMatchObject({ tag: "NotFound" })
      // Whoever looks for the reason of a failure finds it.
      expect(told(strict)[1]).toContain("has no shards/b/rows")
      const lenient = question(2, 0, 1, 2)
      const answered = shards.ask(state, [lenient], undefined, false)
      release()
      await answered
      expect(told(lenient)).toEqual(["a", expect.stringContaining("has no shards/b/rows"), "c"])
    })
  })

  it("make way for those for which there is no room on the disk, which are tried once more", async () => {
    const open = async (name: string): Promise<void> => {
      const isFull = name === "b" && !closedBefore.includes("a")
      if (isFull) throw unavailable("the disk is full", { code: "ENOSPC" })
    }
    let closedBefore: readonly string[] = []
    await withShards(NAMES, { engine: { open } }, async ({ shards, state, closed, opened, asked }) => {
      closedBefore = closed
      await shards.ask(state, [question(1, 0)], undefined, true)
      const one = question(2, 1, 2)
      await shards.ask(state, [one], undefined, true)
      expect(told(one)).toEqual(["b", "c"])
      expect(closed.slice(0, 1)).toEqual(["a"])
      expect(opened.filter((name) => name === "b")).toHaveLength(2)
      expect(asked).toEqual(["1: a", "2: c", "2: b"])
    })
  })

  it("are opened so many at a time", async () => {
    const { held, release } = holding()
    const engine: Engine = { open: () => held }
    await withShards(NAMES, { concurrency: 2, engine }, async ({ shards, state, opened }) => {
      const one = question(1, 0, 1, 2, 3, 4)
      const asking = shards.ask(state, [one], undefined, true)
      while (opened.length < 2) await turn()
      for (let i = 0; i < 20; i++) await turn()
      expect(opened).toHaveLength(2)
      release()
      await asking
      expect(told(one)).toEqual(NAMES)
    })
  })

  it("are given back at once by a call that is aborted while they are opened", async () => {
    const { held, release } = holding()
    const engine: Engine = { open: async (name) => (name === "b" ? held : undefined) }
    await withShards(["a", "b"], { engine, maxOpenShards: 2 }, async ({ shards, state, opened }) => {
      const controller = new AbortController()
      const asking = shards.ask(state, [question(1, 0, 1)], controller.signal, true)
      while (!opened.includes("b") || !opened.includes("a")) await turn()
      controller.abort()
      await expect(asking).rejects.toMatchObject({ tag: "Aborted" })
      expect(shards.stats().open).toBe(1)
      const aborted = AbortSignal.abort()
      await expect(shards.ask(state, [question(2, 0)], aborted, true)).rejects.toMatchObject({
        tag: "Aborted",
      })
      release()
    })
  })
})
