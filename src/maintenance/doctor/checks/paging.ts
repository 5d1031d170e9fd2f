/** Whether more keys than fit into one answer are listed. */
import { inLanes } from "../../../async/lanes.js"
import type { Trial } from "../trial.js"
import type { StoreCheck } from "./check.js"
import { judgeListing, keysOf, type ListingSeen, WRITES_IN_FLIGHT } from "./listing.js"

/** More than a page of S3, which is 1,000 keys. */
const PAGED_OBJECTS = 1050

/** Lists more keys than fit into one answer. */
async function observePaging({ store, key }: Trial, signal: AbortSignal): Promise<ListingSeen> {
  const expected = Array.from({ length: PAGED_OBJECTS }, (_, i) => key(`pages/${String(i).padStart(5, "0")}`))
  const put = (each: string, signal: AbortSignal) => store.put(each, new Uint8Array(1), { signal })
  await inLanes(expected, WRITES_IN_FLIGHT, put, signal)
  return { expected, listed: await keysOf(store, key("pages/"), signal) }
}

export const paging: StoreCheck = {
  name: "paging",
  lavish: true,
  withoutIt: "history and gc may not see all",
  make: async (...at) => judgeListing(await observePaging(...at)),
}
