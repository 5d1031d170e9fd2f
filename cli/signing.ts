/**
 * Keys from flags, the environment and the configuration: those that sign what is published, and those that
 * readers trust.
 */
import type { Command } from "commander"
import { withoutUndefined } from "../src/defined.js"
import type { OpenOptions, SigningOptions } from "../src/index.js"
import type { Config } from "./config.js"
import { usageError } from "./usage-error.js"

/** A private key, for jobs that get their secrets by the environment: PEM, or the path of a file. */
const SIGN_KEY = "VECSNAP_SIGN_KEY"
/** Public keys: PEM, one after another, or the path of a file with them. */
const TRUSTED_KEYS = "VECSNAP_TRUSTED_KEYS"

type Env = Readonly<Record<string, string | undefined>>

export interface TrustedKeyFlags {
  readonly trustedKey?: readonly string[]
}

export interface SigningFlags extends TrustedKeyFlags {
  readonly signKey?: readonly string[]
  readonly unsigned?: boolean
}

const collect = (path: string, earlier: readonly string[] = []): readonly string[] => [...earlier, path]

export function addTrustedKeyOption(
  command: Command,
  about = "open only what this public key has signed",
): Command {
  return command.option(
    "--trusted-key <file>",
    `${about}; repeatable; default: ${TRUSTED_KEYS}, else trusted-keys of vecsnap.yaml`,
    collect,
  )
}

/** @param about what `--trusted-key` is for */
export function addSigningOptions(
  command: Command,
  about = "sign again what this public key has signed",
): Command {
  command
    .option(
      "--sign-key <file>",
      `sign with this private key; repeatable; default: ${SIGN_KEY}, else sign-key of vecsnap.yaml`,
      collect,
    )
    .option("--unsigned", "publish without a signature, also in place of what is signed")
  return addTrustedKeyOption(command, about)
}

/** How a publication is signed. The keys of `--unsigned` are those of nobody, whatever is configured. */
export function signingOptions(
  flags: SigningFlags,
  config: Config,
  env: Env = process.env,
): Pick<SigningOptions, "signKey" | "trustedKeys" | "unsigned"> {
  if (flags.unsigned) {
    if (flags.signKey !== undefined) throw usageError("--unsigned and --sign-key exclude each other")
    return { unsigned: true }
  }
  const signKey = flags.signKey ?? textOf(env[SIGN_KEY]) ?? config["sign-key"]
  if (signKey === undefined) return {}
  return withoutUndefined({ signKey, trustedKeys: trustedKeys(flags, config, env) })
}

/** Keys that readers trust; undefined to believe all. */
export function trustedKeys(
  flags: TrustedKeyFlags,
  config: Config,
  env: Env = process.env,
): OpenOptions["trustedKeys"] {
  const fromEnv = textOf(env[TRUSTED_KEYS])
  return flags.trustedKey ?? (fromEnv === undefined ? config["trusted-keys"] : [fromEnv])
}

/** A variable that is empty is as one that is not set. */
const textOf = (value: string | undefined): string | undefined => value || undefined
