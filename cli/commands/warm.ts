import { Command } from "commander"
import { type Io, printJson } from "../io.js"
import { type ReaderFlags, withReader } from "../open-reader.js"
import {
  addOutputOptions,
  addReaderOptions,
  addStorageOptions,
  addTimeoutOption,
  type TimeoutFlags,
} from "../options.js"
import { parseShards } from "../parse.js"
import { countOf, formatBytes } from "../render.js"
import { withTimeout } from "../timeout.js"

const NOTES = `
For images and init containers: what is in the cache directory is not downloaded when the service starts.

Examples:
  vecsnap warm s3://vectors/words --cache-dir /var/cache/vecsnap
  vecsnap warm s3://vectors/words --cache-dir ./cache --shards 0,1,2
  vecsnap warm s3://vectors/words --timeout 600 --json`

interface WarmFlags extends ReaderFlags, TimeoutFlags {
  readonly shards?: readonly number[] | "all"
}

/** `vecsnap warm`: downloads shards into the cache directory. */
export function warmCommand(io: Io): Command {
  const command = new Command("warm")
    .description("fill a cache directory with the shards of the live snapshot")
    .argument("[url]", "root of the snapshots; default: `to` of vecsnap.yaml")
    .option("--shards <1,2|all>", "these shards and no others; default: all", parseShards)
    .addHelpText("after", NOTES)
  addTimeoutOption(command)
  addReaderOptions(command)
  addStorageOptions(command)
  addOutputOptions(command)
  return command.action((url: string | undefined, flags: WarmFlags) =>
    withTimeout(io, flags.timeout, (limited) =>
      withReader(limited, url, flags, async (reader) => {
        const { shards = "all" } = flags
        const { shards: warm, downloads, bytes } = await reader.warm({ shards, signal: limited.signal })
        const snapshot = reader.snapshot.run
        if (flags.json) return printJson(io, { snapshot, shards: warm, downloads, bytes })
        const downloaded = downloads === 0 ? "nothing to download" : `downloaded ${formatBytes(bytes)}`
        io.stdout.write(
          `${countOf(warm, "shard")} of snapshot ${snapshot} in the cache; ${downloaded}, ` +
            `${countOf(warm - downloads, "shard")} had been there\n`,
        )
      }),
    ),
  )
}
