import { Command } from "commander"
import { withoutUndefined } from "../../src/defined.js"
import { rollback } from "../../src/maintenance/rollback.js"
import { type Io, printJson } from "../io.js"
import { withStore } from "../open.js"
import { addOutputOptions, addStorageOptions, type OutputFlags, type StorageFlags } from "../options.js"
import { wholeNumber } from "../parse.js"
import { publishedDocument, renderPublished } from "../published.js"
import { addSigningOptions, type SigningFlags, signingOptions } from "../signing.js"

const NOTES = `
Readers that follow the live snapshot swap to it at their next refresh. A build that is going on can't publish over a
rollback unless it is forced. What was rolled back from stays where it is: --to <run> goes forward again.

Examples:
  vecsnap rollback s3://vectors/words
  vecsnap rollback s3://vectors/words --steps 2
  vecsnap rollback s3://vectors/words --to k3v9x2m4q7ab --json`

interface RollbackFlags extends StorageFlags, OutputFlags, SigningFlags {
  readonly to?: string
  readonly steps?: number
}

/** `vecsnap rollback`: makes an earlier snapshot live again. */
export function rollbackCommand(io: Io): Command {
  const command = new Command("rollback")
    .description("make an earlier snapshot live again")
    .argument("[url]", "root of the snapshots; default: `to` of vecsnap.yaml")
    .option("--to <run>", "the run to go back to, see `vecsnap history`")
    .option("--steps <n>", "snapshots to go back by; default: 1", wholeNumber(1))
    .addHelpText("after", NOTES)
  addSigningOptions(command)
  addStorageOptions(command)
  addOutputOptions(command)
  return command.action((url: string | undefined, flags: RollbackFlags) =>
    withStore(io, url, flags, async (store, config) => {
      const { to, steps } = flags
      const published = await rollback(store, {
        ...withoutUndefined({ to, steps, signal: io.signal }),
        ...signingOptions(flags, config),
      })
      if (flags.json) printJson(io, publishedDocument(store.url, published))
      else io.stdout.write(renderPublished("rolled back to", store.url, published, io))
    }),
  )
}
