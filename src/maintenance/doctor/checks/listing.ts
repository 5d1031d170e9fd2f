/** Whether all keys are listed, once and in order. */
import { inLanes } from "../../../async/lanes.js"
import { compareKeys } from "../../../storage/rules.js"
import type { ObjectStore } from "../../../storage/store.js"
import type { Judgement } from "../diagnosis.js"
import type { Trial } from "../trial.js"
import type { StoreCheck } from "./check.js"
import { bytesOf } from "./contents.js"
import { count, failed, ok } from "./judgements.js"

export interface ListingSeen {
  /** In the order that is right. */
  readonly expected: readonly string[]
  /** In the order that came. */
  readonly listed: readonly string[]
}

export const WRITES_IN_FLIGHT = 16

// The order of UTF-8 differs here from that of folders ("/" after "-" and "."), of languages (capitals first,
// "é" last) and of UTF-16 (the last two).
const LISTED_NAMES = ["a", "B", "a-b", "a.b", "a0b", "dir/b", "dir-b", "é", "\uff5e", "😀"]

/** Lists keys on which common orders differ, beside one that only looks as if it had the prefix. */
async function observeListing({ store, key }: Trial, signal: AbortSignal): Promise<ListingSeen> {
  const expected = LISTED_NAMES.map((name) => key(`list/${name}`)).sort(compareKeys)
  const put = (each: string, signal: AbortSignal) => store.put(each, bytesOf("listed"), { signal })
  await inLanes([...expected, key("list-beside")], WRITES_IN_FLIGHT, put, signal)
  return { expected, listed: await keysOf(store, key("list/"), signal) }
}

export async function keysOf(store: ObjectStore, prefix: string, signal: AbortSignal): Promise<string[]> {
  const keys: string[] = []
  for await (const { key } of store.list(prefix, { signal })) keys.push(key)
  return keys
}

const UNSEEN =
  "gc would take what it does not see for deleted, and keep or remove the wrong files; do not run it; history is incomplete"

export function judgeListing({ expected, listed }: ListingSeen): Judgement {
  const wanted = new Set(expected)
  const seen = new Set(listed)
  const missing = count(expected, (key) => !seen.has(key))
  const extra = count([...seen], (key) => !wanted.has(key))
  const faults = [
    missing > 0 ? `${missing} of ${expected.length} keys are missing` : "",
    listed.length > seen.size ? `${listed.length - seen.size} keys come twice` : "",
    extra > 0 ? `${extra} keys come that do not start with the prefix, or were never written` : "",
  ].filter(Boolean)
  if (faults.length > 0) return failed(faults.join("; "), UNSEEN)
  if (listed.some((key, i) => key !== expected[i]))
    return failed(
      "all keys, but not in the order of their bytes in UTF-8",
      "a listing that is resumed after a lost connection goes on behind its last key, and would leave out others: gc and history cannot rely on it",
    )
  return ok(`${listed.length.toLocaleString("en-US")} keys, each once, in the order of their bytes in UTF-8`)
}

export const listing: StoreCheck = {
  name: "listing",
  dispensable: true,
  withoutIt: "history shows nothing, and gc finds nothing; readers and builds do not list",
  make: async (...at) => judgeListing(await observeListing(...at)),
}
