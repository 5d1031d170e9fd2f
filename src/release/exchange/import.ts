/** A snapshot of another format as one of ours, so that gates, verification and collection apply to it. */
import { join } from "node:path"
import { invalidInput } from "../../errors.js"
import { findSnapshot, readLiveSnapshot } from "../../manifest/formats.js"
import type {
  FieldSpec,
  FieldType,
  FieldValue,
  IdType,
  Json,
  StoredRecord,
  VectorRecord,
} from "../../records.js"
import type { TrustOptions } from "../../shards/pools.js"
import { type Snapshot, strategyContextOf } from "../../snapshot/snapshot.js"
import { recordsSource } from "../../sources/records.js"
import { type Root, withRoot } from "../../storage/root.js"
import { withTempDir } from "../../storage/temp-dir.js"
import { quoted } from "../../wording.js"
import { buildSnapshot } from "../build-snapshot.js"
import type { BuildOptions, BuildReport } from "../options.js"
import { openShardRecords } from "./records.js"

export interface ImportOptions
  extends TrustOptions,
    Omit<BuildOptions, "sharding" | "metric" | "routingFrom" | "reuse" | "fields"> {
  /** Run to import; default: what is live. */
  readonly snapshot?: string | undefined
  /** Fields to take out of the payloads, by name; default none, but those that queries are routed by. */
  readonly fields?: Readonly<Record<string, FieldType>> | undefined
  /** Type of the ids, where those of the snapshot are mixed or not known; default: that of the first. */
  readonly ids?: IdType | undefined
}

export interface ImportReport extends BuildReport {
  /** The snapshot that was imported. */
  readonly source: { readonly url: string; readonly format: string; readonly run: string }
  /** Payloads that held NaN or an infinity, for which JSON has no form; null is in their place. */
  readonly changedPayloads: number
}

/**
 * Makes a snapshot of ours of one of another format and makes it live: the same rows in the same shards,
 * which queries find by the same routing. Rows are streamed; ids must be unique, vectors usable.
 *
 * Throws `InvalidInput`, naming the record, for rows that ours cannot hold, and whatever a build throws.
 */
export async function importSnapshot(from: Root, options: ImportOptions): Promise<ImportReport> {
  const { snapshot: named, fields: asked = {}, ids, trust, isolation, ...build } = options
  const { signal } = options
  return withRoot(from, options, async (store) => {
    const { snapshot, format } =
      named === undefined
        ? await readLiveSnapshot(store, { signal })
        : await findSnapshot(store, named, { signal })
    const artifacts = await format.readArtifacts(store, snapshot, { signal })
    const fields = { ...routedFields(snapshot), ...asked }
    let changedPayloads = 0
    const report = await withTempDir(options.tempDir, "vecsnap-import", async (dir) => {
      const records = openShardRecords(store, snapshot, join(dir, "shards"), { signal, trust, isolation })
      const toRecord = recordMaker(Object.keys(fields), ids, () => changedPayloads++)
      async function* rows(): AsyncGenerator<VectorRecord> {
        for (const entry of snapshot.shards) {
          for await (const batch of records.read(entry))
            for (const record of batch) yield toRecord(record, entry.shard)
        }
      }
      try {
        const name = `snapshot ${snapshot.run} at ${store.url}`
        return await buildSnapshot(recordsSource(rows(), { fields, idType: ids, name }), {
          backend: snapshot.backend,
          ...(snapshot.custom && { custom: snapshot.custom }),
          ...build,
          metric: snapshot.schema.metric,
          placedBy: { sharding: snapshot.sharding, artifacts },
        })
      } finally {
        await records.close()
      }
    })
    return { ...report, source: { url: store.url, format: format.name, run: snapshot.run }, changedPayloads }
  })
}

/** Fields that an expression goes by, which queries bring: rows need not have them. */
function routedFields(snapshot: Snapshot): Readonly<Record<string, FieldType>> {
  const own = new Set(snapshot.schema.fields.map(({ name }) => name))
  const fields: readonly Pick<FieldSpec, "name" | "type">[] = strategyContextOf(snapshot).fields.map(
    ({ name, type }) => {
      if (type === "uint64" || type === "bytes") {
        throw invalidInput(
          `queries of the snapshot are routed by ${quoted(name)} of type ${type}, which fields cannot have`,
          { field: name, type },
        )
      }
      return { name, type }
    },
  )
  const all = [...snapshot.schema.fields, ...fields.filter(({ name }) => !own.has(name))]
  return Object.fromEntries(all.map(({ name, type }) => [name, type]))
}

function recordMaker(fields: readonly string[], ids: IdType | undefined, onChanged: () => void) {
  return ({ id, vector, fields: own, payload }: StoredRecord, shard: number): VectorRecord => {
    const { values, rest } = takeOut(payload, fields)
    const finite = withoutNonFinite(rest)
    if (finite !== rest) onChanged()
    return {
      id: ids === "string" ? String(id) : id,
      vector,
      fields: { ...values, ...own },
      payload: finite,
      shard,
    }
  }
}

/** Fields out of a payload, and what is left of it. */
function takeOut(
  payload: Json,
  names: readonly string[],
): { readonly values: Readonly<Record<string, FieldValue>>; readonly rest: Json } {
  if (payload === null || typeof payload !== "object" || Array.isArray(payload))
    return { values: {}, rest: payload }
  const entries = Object.entries(payload)
  const taken = entries.filter(([name]) => names.includes(name))
  if (taken.length === 0) return { values: {}, rest: payload }
  return {
    // What is no value of a field is told by the build, with the record.
    values: Object.fromEntries(taken) as Readonly<Record<string, FieldValue>>,
    rest: Object.fromEntries(entries.filter(([name]) => !names.includes(name))),
  }
}

/** The same value if all of it is finite, else one with null in place of what is not. */
function withoutNonFinite(value: Json): Json {
  if (typeof value === "number") return Number.isFinite(value) ? value : null
  if (typeof value !== "object" || value === null) return value
  if (Array.isArray(value)) {
    const items = value.map(withoutNonFinite)
    return items.some((item, i) => item !== value[i]) ? items : value
  }
  const entries = Object.entries(value).map(([key, each]) => [key, each, withoutNonFinite(each)] as const)
  if (entries.every(([, before, after]) => before === after)) return value
  return Object.fromEntries(entries.map(([key, , after]) => [key, after]))
}
