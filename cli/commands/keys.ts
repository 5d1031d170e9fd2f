import { access } from "node:fs/promises"
import { resolve } from "node:path"
import { Command } from "commander"
import { isVecsnapError } from "../../src/errors.js"
import { createKeyPair, loadSigningKeys, loadTrustedKeys } from "../../src/snapshot/signatures/keys.js"
import { createFile, OWNER_ONLY } from "../../src/storage/files.js"
import { type Io, printJson } from "../io.js"
import { addOutputOptions, type OutputFlags } from "../options.js"
import { paintFor, renderFacts } from "../render.js"
import { usageError } from "../usage-error.js"

const EXAMPLES = `
Examples:
  vecsnap keys create words
  vecsnap keys show words.pub`

const CREATE_NOTES = `
Writes <name>.key, the private key, readable by its owner alone, and <name>.pub, the public one; replaces no file. Both are
PEM, as OpenSSL has them. Use one pair for each root: whoever can write to two roots that are signed by one key can put
the snapshots of one in place of the other's.

Examples:
  vecsnap keys create words
  vecsnap keys create /etc/vecsnap/words --json`

const SHOW_NOTES = `
A file may hold several keys, one after another. The id is the beginning of the SHA-256 of the public key.

Examples:
  vecsnap keys show words.pub
  vecsnap keys show words.key --json`

/** `vecsnap keys`: makes keys that sign snapshots, and shows them. */
export function keysCommand(io: Io): Command {
  return new Command("keys")
    .description("make keys to sign snapshots with, or show what a file of keys holds")
    .addHelpText("after", EXAMPLES)
    .addCommand(createCommand(io))
    .addCommand(showCommand(io))
}

function createCommand(io: Io): Command {
  const command = new Command("create")
    .description("make a pair of ed25519 keys: one that signs, one that readers trust")
    .argument("<name>", "name of the files, or a path, without ending")
    .addHelpText("after", CREATE_NOTES)
  return addOutputOptions(command).action(async (name: string, flags: OutputFlags) => {
    const privateFile = `${name}.key`
    const publicFile = `${name}.pub`
    const { id, privatePem, publicPem } = createKeyPair()
    // A pair of two halves that do not belong together would be worse than none.
    if (await isThere(resolve(io.cwd, publicFile)))
      throw usageError(`${publicFile} is there already, and no key is replaced: choose another name`, {
        path: publicFile,
      })
    await createFile(resolve(io.cwd, privateFile), (handle) => handle.writeFile(privatePem), OWNER_ONLY)
    await createFile(resolve(io.cwd, publicFile), (handle) => handle.writeFile(publicPem))
    if (flags.json) {
      printJson(io, { id, privateKey: privateFile, publicKey: publicFile })
      return
    }
    const paint = paintFor(io.stdout, io.env)
    io.stdout.write(
      `${paint.bold(`key ${id}`)}\n${renderFacts(
        [
          ["private", `${privateFile}: for who publishes alone; keep it as a secret`],
          ["public", `${publicFile}: for every reader`],
          ["sign", `vecsnap build … --sign-key ${privateFile}`],
          [
            "then trust",
            `vecsnap query … --trusted-key ${publicFile}, or openSnapshot(url, { trustedKeys })`,
          ],
        ],
        paint,
      )}`,
    )
  })
}

const isThere = (path: string): Promise<boolean> =>
  access(path).then(
    () => true,
    () => false,
  )

function showCommand(io: Io): Command {
  const command = new Command("show")
    .description("say which keys a file holds")
    .argument("<file>", "a private or public key in PEM")
    .addHelpText("after", SHOW_NOTES)
  return addOutputOptions(command).action(async (file: string, flags: OutputFlags) => {
    const keys = await keysOf(resolve(io.cwd, file))
    if (flags.json) printJson(io, { file, keys })
    else io.stdout.write(keys.map(({ id, kind }) => `key ${id}, ${kind}\n`).join(""))
  })
}

interface ShownKey {
  readonly id: string
  readonly kind: "private" | "public"
}

/** Public keys, or else private ones. */
async function keysOf(path: string): Promise<readonly ShownKey[]> {
  try {
    return (await loadTrustedKeys("file", [path])).map(({ id }) => ({ id, kind: "public" }))
  } catch (error) {
    if (!isVecsnapError(error, "InvalidInput") || error.details.found !== "private") throw error
    return (await loadSigningKeys("file", path)).map(({ id }) => ({ id, kind: "private" }))
  }
}
