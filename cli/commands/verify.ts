import { Command } from "commander"
import { withoutUndefined } from "../../src/defined.js"
import {
  type RepairPlan,
  type RepairReport,
  repairPointer,
  type VerifyReport,
  verifyRoot,
} from "../../src/index.js"
import { EXIT_CODES } from "../exit-codes.js"
import { type Io, printJson } from "../io.js"
import { withStore } from "../open.js"
import {
  addOutputOptions,
  addStorageOptions,
  addTrustOption,
  type OutputFlags,
  type StorageFlags,
  type TrustFlags,
  trustOptions,
} from "../options.js"
import { countOf, formatBytes, paintFor } from "../render.js"
import { addSigningOptions, type SigningFlags, signingOptions, trustedKeys } from "../signing.js"
import { usageError } from "../usage-error.js"

const NOTES = `
Without --deep: the pointer and the manifest are sealed and readable, every file is there with its size, the routing
can be restored and the index of the id locator read. With --deep also: every byte by its SHA-256, every row of every
shard, no id twice, every id in the locator, sample queries. That downloads the snapshot, a few shards at a time.

Exit code 6 if anything is missing or damaged. --repair-pointer makes the newest intact snapshot live if the live one is
not intact, and does nothing if it is.

Examples:
  vecsnap verify s3://vectors/words
  vecsnap verify s3://vectors/words --all --deep --json
  vecsnap verify s3://vectors/words --repair-pointer`

interface VerifyFlags extends StorageFlags, OutputFlags, TrustFlags, SigningFlags {
  readonly snapshot?: string
  readonly all?: boolean
  readonly deep?: boolean
  readonly repairPointer?: boolean
  readonly tempDir?: string
}

/** `vecsnap verify`: whether what is stored is what the manifests say. */
export function verifyCommand(io: Io, exitWith: (code: number) => void): Command {
  const command = new Command("verify")
    .description("check that nothing of the live snapshot is missing or damaged")
    .argument("[url]", "root of the snapshots; default: `to` of vecsnap.yaml")
    .option("--snapshot <run>", "check the snapshot of this run; with --repair-pointer: make it live")
    .option("--all", "check all snapshots at the root")
    .option("--deep", "read all contents")
    .option("--repair-pointer", "make the newest intact snapshot live if the live one is not intact")
    .option("--temp-dir <dir>", "with --deep: where the temporary directory is made; default: the system's")
    .addHelpText("after", NOTES)
  addTrustOption(command)
  addSigningOptions(
    command,
    "a fault is what this public key has not signed; with --sign-key: sign that again",
  )
  addStorageOptions(command)
  addOutputOptions(command)
  return command.action((url: string | undefined, flags: VerifyFlags) => {
    if (flags.all && flags.snapshot !== undefined)
      throw usageError("--all and --snapshot exclude each other: give one of them")
    if (flags.all && flags.repairPointer)
      throw usageError(
        "--all and --repair-pointer exclude each other: a repair chooses by itself what it checks",
      )
    return withStore(io, url, flags, async (store, config) => {
      const { deep, tempDir, snapshot } = flags
      const depth = withoutUndefined({ deep, tempDir, ...trustOptions(flags, config), signal: io.signal })
      if (flags.repairPointer) {
        const onPlan = (plan: RepairPlan): void => void io.stderr.write(renderPlan(plan))
        const report = await repairPointer(store, {
          ...depth,
          ...signingOptions(flags, config),
          snapshot,
          onPlan,
        })
        if (flags.json) printJson(io, repairDocument(report))
        else io.stdout.write(renderRepair(report))
        return
      }
      const report = await verifyRoot(store, {
        ...depth,
        trustedKeys: trustedKeys(flags, config),
        snapshot: flags.all ? "all" : snapshot,
      })
      if (flags.json) printJson(io, verifyDocument(report))
      else io.stdout.write(renderVerify(report, io))
      if (!report.intact) exitWith(EXIT_CODES.Corrupt)
    })
  })
}

const verifyDocument = (report: VerifyReport): object => ({
  ...report,
  live: report.live ?? null,
  signedBy: report.signedBy ?? [],
  snapshots: report.snapshots.map((snapshot) => ({ ...snapshot, rows: snapshot.rows ?? null })),
})

const repairDocument = ({ url, before, now, plan }: RepairReport): object => ({
  url,
  repaired: plan !== undefined,
  before: before ?? null,
  now,
  plan: plan === undefined ? null : { ...plan, from: plan.from ?? null },
})

function renderVerify({ deep, snapshots, faults, checked, signedBy }: VerifyReport, io: Io): string {
  const paint = paintFor(io.stdout, io.env)
  const lines = faults.map(({ message, advice, runs }) => {
    const whose = runs.length === 0 ? "" : ` (snapshot${runs.length === 1 ? "" : "s"} ${runs.join(", ")})`
    return `${paint.red("fault")}: ${message}${whose}; ${advice}\n`
  })
  const { objects, bytes, shards, rows } = checked
  const extent = `${countOf(objects, "object")} of ${formatBytes(bytes)}, ${countOf(shards, "shard")}, ${countOf(rows, "row")}`
  const how = deep ? "read and compared" : "looked for; --deep reads them too"
  const verdict = faults.length === 0 ? paint.green("intact") : paint.red(countOf(faults.length, "fault"))
  const signed = signedBy === undefined ? "" : `; what is live is signed by key ${signedBy.join(", ")}`
  return `${lines.join("")}${verdict}: ${countOf(snapshots.length, "snapshot")}, ${extent} ${how}${signed}\n`
}

function renderPlan({ problem, from, to, knownPublished, rejected }: RepairPlan): string {
  const passed = rejected.map(({ run, reason }) => `not ${run}: ${reason}\n`).join("")
  const doubt = knownPublished ? "" : ", which is not known to have been published"
  return `${problem}\n${passed}making ${to} live in place of ${from ?? "what can't be told"}${doubt}\n`
}

const renderRepair = ({ before, now, plan }: RepairReport): string =>
  plan === undefined
    ? `nothing to repair: the live snapshot ${now} is intact\n`
    : `live was ${before ?? "nothing that can be read"}, live is ${now} now\n`
