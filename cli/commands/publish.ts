import { Command } from "commander"
import { withoutUndefined } from "../../src/defined.js"
import { GATE_NAMES, type GateName, publishRun } from "../../src/index.js"
import { resolveAllow, resolveGates } from "../build-request.js"
import { printRefusal } from "../gates-table.js"
import { type Io, printJson } from "../io.js"
import { withStore } from "../open.js"
import { addOutputOptions, addStorageOptions, type OutputFlags, type StorageFlags } from "../options.js"
import { parseGates } from "../parse.js"
import { stderrLogger } from "../progress.js"
import { publishedDocument, renderPublished } from "../published.js"
import { addSigningOptions, type SigningFlags, signingOptions } from "../signing.js"

const NOTES = `
As a build does, it checks the gates of vecsnap.yaml, and replaces only what was live when the run started; --force
replaces whatever is live.

Examples:
  vecsnap publish s3://vectors/words k3v9x2m4q7ab

After a build that was left to be looked at:
  vecsnap build words.parquet --to s3://vectors/words --strategy cluster --shards 64 --no-publish
  vecsnap query s3://vectors/words --snapshot k3v9x2m4q7ab --like dog
  vecsnap publish s3://vectors/words k3v9x2m4q7ab`

interface PublishFlags extends StorageFlags, OutputFlags, SigningFlags {
  readonly allow?: readonly GateName[]
  readonly force?: boolean
}

/** `vecsnap publish`: makes the snapshot of a run live that was built without. */
export function publishCommand(io: Io): Command {
  const command = new Command("publish")
    .description("make a snapshot live that was built with --no-publish")
    .argument("<url>", "root of the snapshots")
    .argument("<run>", "the run that built it, see `vecsnap runs`")
    .option("--allow <gates>", `gates that may fail: ${GATE_NAMES.join(", ")}`, parseGates)
    .option("--force", "publish even if another run was published since this one started")
    .addHelpText("after", NOTES)
  addSigningOptions(command)
  addStorageOptions(command)
  addOutputOptions(command)
  return command.action((url: string, run: string, flags: PublishFlags) =>
    withStore(io, url, flags, async (store, config) => {
      const options = withoutUndefined({
        gates: resolveGates(config),
        allow: resolveAllow(flags.allow, config),
        force: flags.force,
        ...signingOptions(flags, config),
        trust: config.trust,
        tempDir: config["temp-dir"],
        logger: stderrLogger(io, flags.debug),
        signal: io.signal,
      })
      const published = await publishRun(store, run, options).catch((error) => {
        if (!flags.json) printRefusal(error, io)
        throw error
      })
      if (flags.json) printJson(io, { ...publishedDocument(store.url, published), gates: published.gates })
      else io.stdout.write(renderPublished("published", store.url, published, io))
    }),
  )
}
