/**
 * The options that commands share.
 *
 * Flags have no defaults here: an absent flag is `undefined`, so that `vecsnap.yaml` and then the library
 * decide.
 */
import { type Command, Option } from "commander"
import { withoutUndefined } from "../src/defined.js"
import {
  type RouteOptions,
  type SnapshotInfo,
  type StoreOptions,
  TRUSTS,
  type Trust,
  type TrustOptions,
} from "../src/index.js"
import type { Config } from "./config.js"
import { collectPair, parseContext, parseSeconds, parseShards } from "./parse.js"
import { addTrustedKeyOption } from "./signing.js"
import { usageError } from "./usage-error.js"

export interface OutputFlags {
  readonly json?: boolean
  readonly debug?: boolean
}

export interface StorageFlags {
  readonly config?: string
  readonly endpoint?: string
  readonly region?: string
  readonly pathStyle?: boolean
}

export function addOutputOptions(command: Command): Command {
  return command
    .option("--json", "print JSON for scripts")
    .option("--debug", "print the stack of an error, and everything that is logged")
}

export function addStorageOptions(command: Command): Command {
  return command
    .option("--config <file>", "settings; default: vecsnap.yaml in the working directory, if there is one")
    .option("--endpoint <url>", "S3: address of the server; default: AWS_ENDPOINT_URL_S3, else AWS")
    .option("--region <name>", "S3: region; default: from the environment or the AWS profile")
    .option("--path-style", "S3: bucket in the path; default with an endpoint of its own")
    .option("--no-path-style", "S3: bucket in the host name")
}

export interface TimeoutFlags {
  readonly timeout?: number
}

export function addTimeoutOption(command: Command): Command {
  return command.option(
    "--timeout <seconds>",
    "give up after this, opening included; exit code 7; default: none",
    parseSeconds,
  )
}

export interface RouteFlags {
  readonly probes?: number | "all"
  readonly shards?: readonly number[] | "all"
  readonly context?: Readonly<Record<string, string>>
}

export function addRouteOptions(command: Command): Command {
  return command
    .option("--shards <1,2|all>", "search these shards and no others", parseShards)
    .option("--context <field=value>", "cel: what the expression is evaluated on; repeatable", collectPair)
}

/** How a query is routed, with the context typed by the snapshot's fields. */
export const routeOptions = (flags: RouteFlags, fields: SnapshotInfo["context"]): RouteOptions =>
  withoutUndefined({
    probes: flags.probes,
    shards: flags.shards,
    context: flags.context && parseContext(flags.context, fields),
  })

export interface SnapshotFlags {
  readonly snapshot?: string
}

export function addSnapshotOption(command: Command): Command {
  return command.option(
    "--snapshot <run>",
    "the snapshot of this run, whether live or not; default: the live one",
  )
}

export function addReaderOptions(command: Command): Command {
  addTrustOption(command)
    .option("--cache-dir <dir>", "where downloaded shards are kept; default: vecsnap in the user's cache")
    .addOption(
      new Option(
        "--fetch <how>",
        "auto (default): shards of a local directory are read where they lie; ranges: never whole shards " +
          "before all of one is needed; whole: whole shards, through the cache always",
      ).choices(["auto", "ranges", "whole"]),
    )
  return addTrustedKeyOption(command)
}

export interface TrustFlags {
  readonly trust?: Trust
}

export function addTrustOption(command: Command): Command {
  const about = "untrusted: shards are read in a process of their own; default: trusted"
  return command.addOption(new Option("--trust <who>", about).choices(TRUSTS))
}

/** How much those who can write to the root are trusted, by the flag, then the configuration. */
export const trustOptions = ({ trust }: TrustFlags, config: Config): TrustOptions =>
  withoutUndefined({ trust: trust ?? config.trust })

/**
 * The variable that holds a key of one's own (SSE-C), in base64; there is no flag and no key of a file for
 * it.
 */
const CUSTOMER_KEY = "VECSNAP_SSE_C_KEY"

/**
 * Store settings from flags, then the configuration. Credentials come from the environment or the AWS
 * profile.
 */
export function storeOptions(
  flags: StorageFlags,
  config: Config,
  env: Readonly<Record<string, string | undefined>> = process.env,
): StoreOptions {
  const { storage = {} } = config
  const s3 = withoutUndefined({
    endpoint: flags.endpoint ?? storage.endpoint,
    region: flags.region ?? storage.region,
    forcePathStyle: flags.pathStyle ?? storage["path-style"],
    proxy: storage.proxy,
    caFile: storage["ca-file"],
    encryption: encryptionOf(storage, env[CUSTOMER_KEY]),
    storageClass: storage["storage-class"],
    acl: storage.acl,
    requesterPays: storage["requester-pays"],
    headers: storage.headers,
  })
  return Object.keys(s3).length === 0 ? {} : { s3 }
}

type Encryption = NonNullable<StoreOptions["s3"]>["encryption"]

function encryptionOf(
  { encryption, "kms-key": keyId }: NonNullable<Config["storage"]>,
  customerKey: string | undefined,
): Encryption {
  if (customerKey) {
    if (encryption !== undefined || keyId !== undefined)
      throw usageError(`${CUSTOMER_KEY} does not go with storage.encryption and storage.kms-key`)
    return { type: "customer-key", key: Buffer.from(customerKey, "base64") }
  }
  if (keyId === undefined) return encryption && { type: encryption }
  if (encryption === "AES256") throw usageError("storage.kms-key does not go with storage.encryption: AES256")
  return { type: encryption ?? "aws:kms", keyId }
}

/** Root of the snapshots: the argument, else `to` of the configuration. */
export function rootUrl(argument: string | undefined, config: Config): string {
  const url = argument ?? config.to
  if (url !== undefined) return url
  throw usageError("no snapshot is named: give its URL, or `to` in vecsnap.yaml")
}
