/** Lookup of records by id. */
import type { Id } from "../records.js"
import type { UseShard } from "./search.js"
import { checkId, routeQuery, type SnapshotState } from "./state.js"
import type { FoundRecord, GetOptions } from "./types.js"

/** Records by id, in order, from the shards that `options` name, else from all; `undefined` where there is none. */
export async function getRecords(
  state: SnapshotState,
  ids: readonly Id[],
  { signal, ...route }: GetOptions,
  useShard: UseShard,
): Promise<readonly (FoundRecord | undefined)[]> {
  const wanted = ids.map((id) => checkId(state, id))
  const narrowed = route.shards !== undefined || route.context !== undefined
  const shards = routeQuery(state, undefined, narrowed ? route : { shards: "all" })
  const found = await Promise.all(
    shards.map(({ shard }) =>
      useShard(
        state,
        shard,
        async (reader) => (await reader.get(wanted)).map((record) => record && { ...record, shard }),
        signal,
      ),
    ),
  )
  return wanted.map((_, index) => found.find((records) => records[index] !== undefined)?.[index])
}
