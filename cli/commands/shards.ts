import { Command } from "commander"
import { emptyShards, shardBytes, shardRun, snapshotBytes } from "../../src/manifest/figures.js"
import type { Snapshot, SnapshotShard } from "../../src/snapshot/snapshot.js"
import { type Io, printJson } from "../io.js"
import { readShown, withStore } from "../open.js"
import {
  addOutputOptions,
  addSnapshotOption,
  addStorageOptions,
  type OutputFlags,
  type SnapshotFlags,
  type StorageFlags,
} from "../options.js"
import {
  type Column,
  countOf,
  formatBytes,
  formatCount,
  formatValue,
  paintFor,
  renderTable,
  widthOf,
} from "../render.js"

const EXAMPLES = `
Examples:
  vecsnap shards s3://vectors/words
  vecsnap shards ./.demo --json | jq '.shards | max_by(.rows)'`

/** `vecsnap shards`: the shards of a snapshot, by default the live one. Reads pointer and manifest only. */
export function shardsCommand(io: Io): Command {
  const command = new Command("shards")
    .description("list the shards of a snapshot: rows, size, index, run that built them")
    .argument("[url]", "root of the snapshots; default: `to` of vecsnap.yaml")
    .addHelpText("after", EXAMPLES)
  addSnapshotOption(command)
  addStorageOptions(command)
  addOutputOptions(command)
  return command.action((url: string | undefined, flags: StorageFlags & OutputFlags & SnapshotFlags) =>
    withStore(io, url, flags, async (store) => {
      const { snapshot } = await readShown(store, flags, io.signal)
      if (flags.json) printJson(io, shardsDocument(snapshot))
      else io.stdout.write(renderShards(snapshot, io))
    }),
  )
}

function shardsDocument(snapshot: Snapshot): object {
  const shards = snapshot.shards.map((entry) => ({
    shard: entry.shard,
    rows: entry.rows,
    bytes: shardBytes(entry),
    files: entry.files.length,
    index: entry.index,
    run: shardRun(entry) ?? null,
    folder: entry.folder,
  }))
  return { snapshot: snapshot.run, shards, empty: emptyShards(snapshot) }
}

const COLUMNS: readonly Column[] = [
  { title: "shard", align: "right" },
  { title: "rows", align: "right" },
  { title: "size", align: "right" },
  { title: "files", align: "right" },
  { title: "index", flexible: true },
  { title: "built by" },
]

function renderShards(snapshot: Snapshot, io: Io): string {
  const row = (entry: SnapshotShard): readonly string[] => [
    String(entry.shard),
    formatCount(entry.rows),
    formatBytes(shardBytes(entry)),
    formatCount(entry.files.length),
    describeIndex(entry),
    (shardRun(entry) ?? snapshot.run) === snapshot.run ? "this run" : `run ${shardRun(entry)}`,
  ]
  const table = renderTable(COLUMNS, snapshot.shards.map(row), {
    width: widthOf(io.stdout),
    paint: paintFor(io.stdout, io.env),
  })
  const empty = emptyShards(snapshot)
  const note = empty.length === 0 ? "" : `; empty: ${listShards(empty)}`
  const sum = `${countOf(snapshot.rows, "row")} in ${countOf(snapshot.shards.length, "shard")}, ${formatBytes(snapshotBytes(snapshot))}`
  return `${table}\n${sum}${note}\n`
}

function describeIndex({ index: { kind, ...parameters } }: SnapshotShard): string {
  const details = Object.entries(parameters).map(([name, value]) => `${name} ${value}`)
  // "cells 41", not "cells, cells 41".
  return formatValue((kind in parameters ? details : [kind, ...details]).join(", "))
}

const LISTED_SHARDS = 16

/** "1, 5, 9", cut after some. */
export function listShards(shards: readonly number[]): string {
  const more = shards.length - LISTED_SHARDS
  return shards.slice(0, LISTED_SHARDS).join(", ") + (more > 0 ? ` and ${formatCount(more)} more` : "")
}
