import { Command } from "commander"
import { pin } from "../../src/maintenance/pins.js"
import { type Io, printJson } from "../io.js"
import { withStore } from "../open.js"
import { addOutputOptions, addStorageOptions, type OutputFlags, type StorageFlags } from "../options.js"

const EXAMPLES = `
Examples:
  vecsnap pin s3://vectors/words 2kd03j1m4x9a --note "before the new model"
  vecsnap history s3://vectors/words`

interface PinFlags extends StorageFlags, OutputFlags {
  readonly note?: string
}

/** `vecsnap pin`: protects a snapshot from collection. */
export function pinCommand(io: Io): Command {
  const command = new Command("pin")
    .description("protect a snapshot from gc until it is unpinned")
    .argument("<url>", "root of the snapshots")
    .argument("<run>", "run id of the snapshot, see history")
    .option("--note <text>", "why, for those who find the pin")
    .addHelpText("after", EXAMPLES)
  addStorageOptions(command)
  addOutputOptions(command)
  return command.action((url: string, run: string, { note, ...flags }: PinFlags) =>
    withStore(io, url, flags, async (store) => {
      const pinned = await pin(store, run, { note, signal: io.signal })
      if (flags.json)
        printJson(io, {
          url: store.url,
          run,
          pinnedAt: pinned.pinnedAt.toISOString(),
          note: pinned.note ?? null,
        })
      else io.stdout.write(`snapshot ${run} is pinned: gc keeps it until vecsnap unpin\n`)
    }),
  )
}
