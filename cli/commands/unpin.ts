import { Command } from "commander"
import { unpin } from "../../src/maintenance/pins.js"
import { type Io, printJson } from "../io.js"
import { withStore } from "../open.js"
import { addOutputOptions, addStorageOptions, type OutputFlags, type StorageFlags } from "../options.js"

const EXAMPLES = `
Examples:
  vecsnap unpin ./.demo 2kd03j1m4x9a --json
  vecsnap unpin s3://vectors/words 2kd03j1m4x9a`

interface UnpinFlags extends StorageFlags, OutputFlags {}

/** `vecsnap unpin`: ends what `vecsnap pin` began. */
export function unpinCommand(io: Io): Command {
  const command = new Command("unpin")
    .description("no longer protect a snapshot from gc")
    .argument("<url>", "root of the snapshots")
    .argument("<run>", "run id of the snapshot")
    .addHelpText("after", EXAMPLES)
  addStorageOptions(command)
  addOutputOptions(command)
  return command.action((url: string, run: string, flags: UnpinFlags) =>
    withStore(io, url, flags, async (store) => {
      const wasPinned = await unpin(store, run, { signal: io.signal })
      if (flags.json) printJson(io, { url: store.url, run, wasPinned })
      else io.stdout.write(`snapshot ${run} ${wasPinned ? "is no longer pinned" : "was not pinned"}\n`)
    }),
  )
}
