/**
 * A backend whose shards do what native parsers do with hostile files: end the process, never return, take
 * all memory. A shard is a file that says when and how.
 */
import { appendFile, readFile, writeFile } from "node:fs/promises"
import { join } from "node:path"
import { invalidInput } from "../../src/errors.js"
import type { ShardBackend, ShardReader } from "../../src/shards/backend.js"
import { searchAlone } from "../../src/shards/search-each.js"
import { backend as memoryArray } from "./memory-array.js"

const FILE = "trouble.json"
const OPENED_BY = "opened-by"

/** What a shard does instead of opening, or of answering a search; nothing: it answers. */
export interface Script {
  readonly open?: Trouble
  readonly search?: Trouble
}

type Trouble = "hang" | "abort" | "exit" | "fill memory" | "refuse"

/** Found under this name by `registerBackend`. */
export const backend: ShardBackend<"trouble"> = {
  ...memoryArray,
  name: "trouble",
  /** The shard's script is in the payload of its first row. */
  async build(rows, dir) {
    const { trouble } = JSON.parse(rows.payloads[0]!) as { readonly trouble: Script }
    await writeTrouble(dir, trouble)
    return { kind: "array" }
  },
  createPool: () => ({
    async open(source) {
      const dir = await source.localDir()
      await appendFile(join(dir, OPENED_BY), `${process.pid}\n`)
      const script = JSON.parse(await readFile(join(dir, FILE), "utf8")) as Script
      make(script.open)
      return readerOf(script)
    },
    search: (shards, query) => Promise.all(shards.map((shard) => searchAlone(shard, query))),
    async close() {},
  }),
}

function readerOf(script: Script): ShardReader {
  return {
    rows: 1,
    bytes: 0,
    async search() {
      make(script.search)
      const payload = { pid: process.pid, environment: Object.keys(process.env) }
      return [{ id: "a", distance: 0, fields: {}, payload }]
    },
    get: async (ids) => ids.map(() => undefined),
    async *records() {
      make(script.search)
      yield [{ id: "a", vector: Float32Array.of(1), fields: {}, payload: null }]
    },
    async close() {},
  }
}

function make(trouble: Trouble | undefined): void {
  switch (trouble) {
    case "hang":
      for (;;);
    case "abort":
      process.abort()
      break
    case "exit":
      process.exit(3)
      break
    case "fill memory":
      for (const held: Buffer[] = []; ; ) held.push(Buffer.alloc(2 ** 24, 1))
    case "refuse":
      throw invalidInput("this shard answers with an error")
  }
}

/** Writes such a shard. */
export const writeTrouble = (dir: string, script: Script): Promise<void> =>
  writeFile(join(dir, FILE), JSON.stringify(script))

/** The processes that have opened the shard, one after the other. */
export async function openedBy(dir: string): Promise<readonly number[]> {
  const text = await readFile(join(dir, OPENED_BY), "utf8").catch(() => "")
  return text.split("\n").filter(Boolean).map(Number)
}
