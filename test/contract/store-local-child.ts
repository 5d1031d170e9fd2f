// A process of its own for store-local.test.ts. Sends its result to its parent and ends.
import { isVecsnapError } from "../../src/errors.js"
import { openLocalStore } from "../../src/storage/local.js"

const [task, root, count, name = ""] = process.argv.slice(2)
if (root === undefined || count === undefined) throw new Error("usage: task root count [name]")
const store = openLocalStore(root)
const encode = (content: string) => new TextEncoder().encode(content)

/** Whether a conditional write won. */
async function won(write: Promise<unknown>): Promise<boolean> {
  try {
    await write
    return true
  } catch (error) {
    if (isVecsnapError(error, "Conflict")) return false
    throw error
  }
}

/** Creates `round-0`, `round-1` ... and tells which ones it was first to create. */
async function create(rounds: number): Promise<string> {
  const wins: number[] = []
  for (let round = 0; round < rounds; round++) {
    if (await won(store.put(`round-${round}`, encode(name), { ifAbsent: true }))) wins.push(round)
  }
  return JSON.stringify(wins)
}

/** Adds 1 to `counter` by compare-and-set, `times` times. */
async function increment(times: number): Promise<string> {
  for (let done = 0; done < times; ) {
    const current = await store.get("counter")
    if (current === undefined) throw new Error("no counter")
    const next = String(Number(new TextDecoder().decode(current.body)) + 1)
    if (await won(store.put("counter", encode(next), { ifMatch: current.etag }))) done++
  }
  return "done"
}

const result = await (task === "create" ? create : increment)(Number(count))
process.send?.(result, () => process.disconnect())
