/** Lookup of records by id. */
import type { Id } from "../records.js"
import { routeQuery } from "../sharding/route.js"
import type { UseShard } from "./held.js"
import { checkId, type SnapshotState } from "./state.js"
import type { FoundRecord, GetOptions } from "./types.js"

/**
 * Records by id, in order; `undefined` where there is none. Asks the shards that `options` name, else those
 * that the snapshot's locator names for each id.
 */
export async function getRecords(
  state: SnapshotState,
  ids: readonly Id[],
  { signal, ...route }: GetOptions,
  useShard: UseShard,
): Promise<readonly (FoundRecord | undefined)[]> {
  const wanted = ids.map((id) => checkId(state, id))
  const unique = [...new Set(wanted)]
  const candidates =
    route.shards !== undefined || route.context !== undefined
      ? sameForAll(unique, routeQuery(state.routed, undefined, route).shards)
      : await state.locator.locate(unique, signal)

  const idsByShard = new Map<number, Id[]>()
  for (const [i, id] of unique.entries()) {
    for (const shard of candidates[i]!) {
      const asked = idsByShard.get(shard)
      if (asked === undefined) idsByShard.set(shard, [id])
      else asked.push(id)
    }
  }
  const records = new Map<Id, FoundRecord>()
  await Promise.all(
    Array.from(idsByShard, async ([shard, asked]) => {
      const answer = await useShard(shard, (reader) => reader.get(asked), signal)
      for (const record of answer) if (record !== undefined) records.set(record.id, { ...record, shard })
    }),
  )
  return wanted.map((id) => records.get(id))
}

function sameForAll(
  ids: readonly Id[],
  route: readonly { readonly shard: number }[],
): readonly (readonly number[])[] {
  const shards = route.map(({ shard }) => shard)
  return ids.map(() => shards)
}
