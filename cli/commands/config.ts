import { Command } from "commander"
import { stringify } from "yaml"
import type { VecsnapError } from "../../src/index.js"
import { resolveBuild } from "../build-request.js"
import { type CheckedConfig, checkConfig } from "../config/check.js"
import { configJsonSchema } from "../config/json-schema.js"
import { CONFIG_FILE, type Config, readConfig } from "../config.js"
import { EXIT_CODES } from "../exit-codes.js"
import { type Io, printJson } from "../io.js"
import { addOutputOptions, type OutputFlags } from "../options.js"
import { paintFor } from "../render.js"

const EXAMPLES = `
Examples:
  vecsnap config check
  vecsnap config check nightly.yaml --json
  vecsnap config schema > vecsnap.schema.json`

const CHECK_NOTES = `
Prints the settings with aliases replaced; a value from an environment variable shows as \${NAME}. Exits with 2 if there
are faults, and lists all of them.

Examples:
  vecsnap config check
  vecsnap config check nightly.yaml --json`

const SCHEMA_NOTES = `
The package has it too, as vecsnap.schema.json. First line of a vecsnap.yaml that an editor then checks:
  # yaml-language-server: $schema=./node_modules/vecsnap/vecsnap.schema.json

Examples:
  vecsnap config schema > vecsnap.schema.json`

/** `vecsnap config`: looks at `vecsnap.yaml` before a nightly job does. */
export function configCommand(io: Io, exitWith: (code: number) => void): Command {
  return new Command("config")
    .description("check vecsnap.yaml, or print its JSON Schema")
    .addHelpText("after", EXAMPLES)
    .addCommand(checkCommand(io, exitWith))
    .addCommand(schemaCommand(io))
}

function checkCommand(io: Io, exitWith: (code: number) => void): Command {
  const command = new Command("check")
    .description("check a configuration: its YAML, variables, keys and values")
    .argument("[file]", "the configuration", CONFIG_FILE)
    .addHelpText("after", CHECK_NOTES)
  return addOutputOptions(command).action(async (file: string, flags: OutputFlags) => {
    const content = await readConfig(file, io.cwd)
    const checked = checkConfig(content!, file, io.env)
    const missing = checked.config && missingForBuild(checked.config)
    if (flags.json) printJson(io, checkDocument(file, checked, missing))
    else if (checked.config !== undefined) io.stdout.write(renderSettings(file, checked.settings, missing))
    if (checked.config !== undefined) return
    if (!flags.json) io.stderr.write(renderFaults(checked.faults, io))
    exitWith(EXIT_CODES.InvalidInput)
  })
}

/**
 * What keeps `vecsnap build` from running without any flag. No fault: other commands need less, and flags may
 * follow.
 */
function missingForBuild(config: Config): string | undefined {
  try {
    resolveBuild([], {}, config)
    return undefined
  } catch (error) {
    return (error as Error).message
  }
}

const checkDocument = (
  file: string,
  { settings, config, faults }: CheckedConfig,
  missing?: string,
): object => ({
  file,
  valid: config !== undefined,
  faults: faults.map(({ message, details }) => ({ key: details.key ?? null, message })),
  settings: config === undefined ? null : settings,
  missingForBuild: missing ?? null,
})

function renderSettings(file: string, settings: unknown, missing: string | undefined): string {
  const incomplete = missing === undefined ? "" : `# vecsnap build needs flags with it: ${missing}\n`
  return `# ${file} is valid\n${incomplete}${stringify(settings, { lineWidth: 0, aliasDuplicateObjects: false })}`
}

function renderFaults(faults: readonly VecsnapError[], io: Io): string {
  const label = paintFor(io.stderr, io.env).red("error")
  return faults.map(({ message }) => `${label}: ${message.replaceAll("\n", " ")}\n`).join("")
}

function schemaCommand(io: Io): Command {
  return new Command("schema")
    .description("print the JSON Schema of vecsnap.yaml, for editors")
    .addHelpText("after", SCHEMA_NOTES)
    .action(() => void io.stdout.write(`${JSON.stringify(configJsonSchema(), null, 2)}\n`))
}
