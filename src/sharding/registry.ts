/**
 * All strategies. One more is a file of its own and a line in {@link STRATEGIES}: names in manifests, types,
 * the command line, `vecsnap.yaml` and its JSON Schema go by that.
 */
import { corrupt, invalidInput, isVecsnapError, unsupported } from "../errors.js"
import { hyphened } from "../wording.js"
import { celType } from "./cel/options.js"
import { clusterType } from "./cluster/options.js"
import { explicitType } from "./explicit.js"
import { lshType } from "./lsh.js"
import { assertKnownOptions, type OptionDeclaration, wrongOption } from "./options.js"
import type {
  ResolvedOptions,
  RoutingArtifacts,
  ShardingDescription,
  Strategy,
  StrategyContext,
  StrategyMaker,
  StrategyTraining,
  StrategyType,
  TrainedOptions,
} from "./strategy.js"

const STRATEGIES = [clusterType, lshType, explicitType, celType] as const

type KnownType = (typeof STRATEGIES)[number]
export type StrategyName = KnownType["name"]
/** What a user asks for. Defaults are filled in by {@link resolveSharding}. */
export type ShardingOptions = Parameters<KnownType["resolve"]>[0]
/** Options of a strategy: checked, complete and frozen. */
export type ResolvedSharding = ReturnType<KnownType["resolve"]>

export const STRATEGY_NAMES: readonly StrategyName[] = STRATEGIES.map(({ name }) => name)

const types = new Map<string, KnownType>(STRATEGIES.map((type) => [type.name, type]))

/** The strategy of a build that names none. */
export const DEFAULT_STRATEGY = "cluster" satisfies StrategyName

/** All types of strategies, by the order of their registration. */
export const strategyTypes = (): readonly KnownType[] => [...types.values()]

export const isStrategyName = (name: unknown): name is StrategyName => types.has(name as string)

/**
 * What there is to know of the strategies of a name, as options or a manifest have it. Throws `InvalidInput`
 * if there is none of that name.
 */
export function strategyType(name: unknown): KnownType {
  const type = types.get(name as string)
  if (type === undefined) throw wrongOption("strategy", `one of ${[...types.keys()].join(", ")}`, name)
  return type
}

/** Adds a strategy that is not one of the product: for tests. Returns what takes it away again. */
export function registerStrategy<Name extends string, Options, Resolved extends { readonly shards: number }>(
  type: StrategyType<Name, Options, Resolved & { readonly strategy: Name }>,
): () => void {
  if (types.has(type.name)) throw invalidInput(`there is a strategy ${type.name} already`)
  types.set(type.name, type as unknown as KnownType)
  return () => void types.delete(type.name)
}

/**
 * Checks options as a user gave them, from code or a configuration file. Throws `InvalidInput` naming the
 * option, what was expected and what was found; an option that the strategy does not have is refused too,
 * since it is likely a typo.
 */
export function resolveSharding(options: ShardingOptions): ResolvedSharding {
  const given = options as unknown
  if (typeof given !== "object" || given === null)
    throw wrongOption("sharding", "an object with a strategy", given)
  const type = anyType((given as { strategy?: unknown }).strategy)
  assertKnownOptions(type.name, type.options, given as Readonly<Record<string, unknown>>)
  return type.resolve(given) as ResolvedSharding
}

/**
 * The options that a manifest recorded. Options unknown to this version are ignored, as everywhere in a
 * manifest. Throws `Corrupt` if one is missing or wrong.
 */
export function resolveDescription(description: ShardingDescription): ResolvedSharding {
  const { shards } = description
  const resolved = asCorrupt(() => {
    const type = anyType(description.strategy)
    const options = type.described?.(description) ?? { ...description.options, shards }
    return (type.restored ?? type.resolve)(options)
  })
  if (resolved.shards !== shards) {
    throw corrupt(
      `the manifest's sharding has ${resolved.shards} routing values, expected ${shards}, one per shard`,
    )
  }
  return resolved as ResolvedSharding
}

/** Whether a strategy must see a sample of `resolved.sampleRows` rows before it can assign any. */
export const needsTraining = (resolved: ResolvedOptions): resolved is TrainedOptions =>
  strategyType(resolved.strategy).trained

/** A strategy that needs no training. Throws `InvalidInput` if it does not suit the declared fields. */
export async function createStrategy(resolved: ResolvedOptions, context: StrategyContext): Promise<Strategy> {
  return (await makerOf(resolved)).create(resolved, context)
}

/**
 * Trains a strategy on a uniform sample of the rows. Takes seconds to minutes of this thread. Throws
 * `InvalidInput` if the sample has fewer rows than there are shards.
 */
export async function trainStrategy(
  resolved: TrainedOptions,
  context: StrategyContext,
  training: StrategyTraining,
): Promise<Strategy> {
  return (await makerOf(resolved)).create(resolved, context, training)
}

/**
 * A trained strategy with the routing of another snapshot, whose artifacts these are, so that shards keep
 * their meaning. Throws `InvalidInput` if they do not fit, `Unsupported` if this strategy cannot take over
 * any.
 */
export async function adoptStrategy(
  resolved: TrainedOptions,
  context: StrategyContext,
  artifacts: RoutingArtifacts,
): Promise<Strategy> {
  const { adopt } = await makerOf(resolved)
  if (adopt === undefined)
    throw unsupported(`the strategy ${resolved.strategy} cannot take over the routing of another snapshot`)
  return adopt(resolved, context, artifacts)
}

/**
 * The strategy that a manifest describes. Its `artifacts()` are the arrays given, by file name. Throws
 * `Corrupt` if options or artifacts are missing or do not fit the snapshot.
 */
export async function restoreStrategy(
  description: ShardingDescription,
  artifacts: RoutingArtifacts,
  context: StrategyContext,
): Promise<Strategy> {
  const resolved = resolveDescription(description)
  const maker = await makerOf(resolved)
  return asCorrupt(() => maker.restore(resolved, context, artifacts))
}

/** Loads the modules that {@link restoreStrategy} needs, which may then be called at once. */
export async function loadStrategyCode({ strategy }: Pick<ShardingDescription, "strategy">): Promise<void> {
  await anyType(strategy).load()
}

/** A type whose options nobody has checked yet. */
const anyType = (name: unknown): StrategyType => strategyType(name) as unknown as StrategyType

const makerOf = ({ strategy }: ResolvedOptions): Promise<StrategyMaker<ResolvedOptions>> =>
  anyType(strategy).load()

/** Runs `step`; what would be the user's fault in an option is damage in a manifest. */
function asCorrupt<T>(step: () => T): T {
  try {
    return step()
  } catch (error) {
    if (!isVecsnapError(error, "InvalidInput")) throw error
    throw corrupt(`the manifest's sharding is damaged: ${error.message}`, error.details, error)
  }
}

type OptionOf<Options> = Options extends unknown ? keyof Options : never
/** Keys of all settings: those of the options, save that "cel" is the expression. */
export type SettingKey = Exclude<OptionOf<ShardingOptions>, "expression" | "strategy"> | "cel"

/** An option of one or more strategies, as the command line (`--sample-rows`) and `vecsnap.yaml` have it. */
export interface ShardingSetting {
  /** "sample-rows" */
  readonly name: string
  /** In camel case, as flags are read: "sampleRows". */
  readonly key: string
  /** Strategies that have it. */
  readonly strategies: readonly StrategyName[]
  /** The option in code: "sampleRows". */
  readonly option: string
  readonly declaration: OptionDeclaration
}

/** The options of all strategies, each once. */
export function shardingSettings(): readonly ShardingSetting[] {
  const settings = new Map<string, ShardingSetting>()
  for (const { name: strategy, options } of types.values()) {
    for (const [option, declaration] of Object.entries<OptionDeclaration>(options)) {
      const name = declaration.setting.name ?? hyphened(option)
      const key = name.replace(/-([a-z])/g, (_, letter: string) => letter.toUpperCase())
      const known = settings.get(name)?.strategies ?? []
      settings.set(name, { name, key, strategies: [...known, strategy], option, declaration })
    }
  }
  return [...settings.values()]
}

/** What a setting is, for people: the strategies that have it, unless all do, and its default. */
export function aboutSetting({ strategies, declaration }: ShardingSetting): {
  readonly about: string
  readonly default: string | undefined
} {
  const whose = strategies.length === types.size ? "" : `${strategies.join(", ")}: `
  const { setting, about, default: value } = declaration
  const example = setting.type.kind === "text" ? `, for example '${setting.type.example}'` : ""
  return { about: `${whose}${about}${example}`, default: value === undefined ? undefined : String(value) }
}
