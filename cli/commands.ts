/**
 * The commands, in the order of the help. The file of a command is loaded when that command is asked for, and
 * with it what it needs of the library: loading the whole library takes longer than most commands do. Those
 * that only look at what is stored, such as `info`, therefore import single files of it, the others its main
 * entry.
 */
import type { Command } from "commander"
import type { Io } from "./io.js"

/** `exitWith` sets the exit code of a command that has done its work but has more to say than that. */
type CreateCommand = (io: Io, exitWith: (code: number) => void) => Command

const COMMANDS: Readonly<Record<string, () => Promise<CreateCommand>>> = {
  plan: async () => (await import("./commands/plan.js")).planCommand,
  build: async () => (await import("./commands/build.js")).buildCommand,
  export: async () => (await import("./commands/export.js")).exportCommand,
  import: async () => (await import("./commands/import.js")).importCommand,
  query: async () => (await import("./commands/query.js")).queryCommand,
  get: async () => (await import("./commands/get.js")).getCommand,
  info: async () => (await import("./commands/info.js")).infoCommand,
  shards: async () => (await import("./commands/shards.js")).shardsCommand,
  history: async () => (await import("./commands/history.js")).historyCommand,
  rollback: async () => (await import("./commands/rollback.js")).rollbackCommand,
  publish: async () => (await import("./commands/publish.js")).publishCommand,
  runs: async () => (await import("./commands/runs.js")).runsCommand,
  gc: async () => (await import("./commands/gc.js")).gcCommand,
  pin: async () => (await import("./commands/pin.js")).pinCommand,
  unpin: async () => (await import("./commands/unpin.js")).unpinCommand,
  verify: async () => (await import("./commands/verify.js")).verifyCommand,
  diff: async () => (await import("./commands/diff.js")).diffCommand,
  eval: async () => (await import("./commands/eval.js")).evalCommand,
  warm: async () => (await import("./commands/warm.js")).warmCommand,
  health: async () => (await import("./commands/health.js")).healthCommand,
  keys: async () => (await import("./commands/keys.js")).keysCommand,
  config: async () => (await import("./commands/config.js")).configCommand,
  doctor: async () => (await import("./commands/doctor.js")).doctorCommand,
  demo: async () => (await import("./commands/demo.js")).demoCommand,
}

const VERSION_FLAGS = ["-V", "--version"]

/**
 * The commands that these arguments may be about: one that they name, none for the version alone, else all.
 */
export async function commandsFor(argv: readonly string[]): Promise<readonly CreateCommand[]> {
  const named = argv.find((argument) => !argument.startsWith("-"))
  if (named !== undefined && Object.hasOwn(COMMANDS, named)) return [await COMMANDS[named]!()]
  if (named === undefined && argv.some((argument) => VERSION_FLAGS.includes(argument))) return []
  return Promise.all(Object.values(COMMANDS).map((load) => load()))
}
