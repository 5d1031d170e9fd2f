/** The runs at a root: what they do, or how they ended. */
import { readPointer } from "../manifest/current.js"
import {
  listRunRecords,
  type RunRecord,
  type RunState,
  type StoredRunRecord,
} from "../manifest/run-record.js"
import { storeTime } from "../manifest/store-time.js"
import { type Root, type RootCallOptions, withRoot } from "../storage/root.js"
import { isDead } from "./gc/rules.js"

export interface RunInfo {
  readonly run: string
  /**
   * By the record, but `abandoned` if it says `running` and its lease is over; `unknown` if it can't be read.
   */
  readonly state: RunState | "unknown"
  readonly live: boolean
  /** By the store's clock: when the record was last written. */
  readonly renewedAt: Date
  /** Absent if the record can't be read, as `problem` tells. */
  readonly record?: RunRecord
  readonly problem?: string
}

/** All runs whose records are there, those that started last first. */
export async function listRuns(root: Root, options: RootCallOptions = {}): Promise<readonly RunInfo[]> {
  return withRoot(root, options, async (store) => {
    const live = await readPointer(store, options)
    // Who may only read is told by this machine's clock.
    const now = await storeTime(store, options).catch(() => new Date())
    const runs: RunInfo[] = []
    for await (const found of listRunRecords(store, options)) {
      const { run, record, problem, lastModified } = found
      runs.push({
        run,
        state: stateOf(found, now),
        live: live?.run === run,
        renewedAt: lastModified,
        ...(record && { record }),
        ...(problem !== undefined && { problem }),
      })
    }
    return runs.sort((a, b) => startOf(b) - startOf(a))
  })
}

const startOf = ({ record, renewedAt }: RunInfo): number => (record?.startedAt ?? renewedAt).getTime()

const stateOf = (found: StoredRunRecord, now: Date): RunInfo["state"] =>
  isDead(found, now, 0) ? "abandoned" : (found.record?.state ?? "unknown")
