/** From what the user names to files: paths, directories, globs, URLs of objects, standard input. */
import { readdir, stat } from "node:fs/promises"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { invalidInput, notFound } from "../errors.js"
import type { ObjectStore } from "../storage/store.js"

/** A file to read; `name` is what the user would recognise. */
export type Input =
  | { readonly kind: "file"; readonly name: string; readonly path: string }
  | { readonly kind: "object"; readonly name: string; readonly store: string; readonly key: string }
  | { readonly kind: "stdin"; readonly name: string }

/**
 * The files that `inputs` name, each once, in the order given; those of one glob or directory by name. Hidden files are
 * matched by no wildcard, and a directory also leaves out files like "_SUCCESS".
 *
 * Throws `NotFound` for a name that matches nothing, `InvalidInput` for one that can be no input.
 */
export async function expandInputs(
  inputs: readonly string[],
  openStore: (url: string) => ObjectStore,
): Promise<readonly Input[]> {
  const found = new Map<string, Input>()
  for (const text of inputs) {
    const expanded = await expandInput(text, openStore)
    if (expanded.length === 0) throw notFound(`${text} matches no files`, { input: text })
    for (const input of expanded) found.set(input.name, input)
  }
  if (found.size > 1 && found.has(STDIN.name))
    throw invalidInput("standard input cannot be read together with other inputs", { inputs })
  return [...found.values()]
}

const STDIN: Input = { kind: "stdin", name: "standard input" }

async function expandInput(text: string, openStore: (url: string) => ObjectStore): Promise<readonly Input[]> {
  if (text === "") throw invalidInput("an input has an empty name", { input: text })
  if (text === "-") return [STDIN]
  const [, scheme, authority, key] = /^([a-z][a-z0-9+.-]*):\/\/([^/]*)\/?(.*)$/is.exec(text) ?? []
  switch (scheme?.toLowerCase()) {
    case undefined:
      return expandPath(text)
    case "file":
      return expandPath(fileURLToPath(text))
    case "s3":
    case "memory":
      return expandObject(text, `${scheme}://${authority}`, key!, openStore)
    default:
      throw invalidInput(`${text} cannot be read: inputs are paths, file:// and s3:// URLs`, { input: text })
  }
}

async function expandPath(path: string): Promise<readonly Input[]> {
  const found = await stat(path).catch(() => undefined)
  // A file whose name looks like a glob is that file.
  if (found === undefined && !isGlob(path)) throw notFound(`there is no file ${path}`, { input: path })
  const paths = found?.isDirectory()
    ? (await collect(matchFiles(path, ["*"]))).filter((file) => !isMarker(file))
    : found !== undefined
      ? [path]
      : await collect(matchFiles(path.startsWith("/") ? "/" : "", path.split("/").filter(Boolean)))
  return paths.map((file) => ({ kind: "file", name: file, path: file }))
}

async function expandObject(
  url: string,
  storeUrl: string,
  key: string,
  openStore: (url: string) => ObjectStore,
): Promise<readonly Input[]> {
  const toInput = (found: string): Input => ({
    kind: "object",
    name: `${storeUrl}/${found}`,
    store: storeUrl,
    key: found,
  })
  const store = openStore(storeUrl)
  try {
    const isDirectory = key === "" || key.endsWith("/")
    if (!isDirectory && !isGlob(key)) {
      if ((await store.head(key)) === undefined) throw notFound(`there is no object ${url}`, { input: url })
      return [toInput(key)]
    }
    const pattern = globPattern(isDirectory ? `${key}*` : key)
    const keys: string[] = []
    for await (const listed of store.list(key.slice(0, firstWildcard(key))))
      if (pattern.test(listed.key) && !(isDirectory && isMarker(listed.key))) keys.push(listed.key)
    return keys.map(toInput)
  } finally {
    store.close()
  }
}

const isMarker = (path: string): boolean => /(?:^|\/)_[^/]*$/.test(path)

const WILDCARD = /[*?[]/

const isGlob = (text: string): boolean => WILDCARD.test(text)

function firstWildcard(text: string): number {
  const at = text.search(WILDCARD)
  return at === -1 ? text.length : at
}

/** `**` for any folders, `*` and `?` within a name, `[abc]`. */
export function globPattern(glob: string): RegExp {
  const segments = glob.split("/")
  const sources = segments.map((segment, i) => {
    const isLast = i === segments.length - 1
    if (segment !== "**") return `${namePattern(segment)}${isLast ? "" : "/"}`
    return isLast ? `(?:${namePattern("*")}/)*${namePattern("*")}` : `(?:${namePattern("*")}/)*`
  })
  return new RegExp(`^${sources.join("")}$`, "su")
}

function namePattern(name: string): string {
  const source = name.replace(
    /\*+|\?|\[([!^]?)([^\]]+)\]|[\\^$.|()[\]{}+/]/g,
    (token, negation, characters) => {
      if (token.startsWith("*")) return "[^/]*"
      if (token === "?") return "[^/]"
      if (characters === undefined) return `\\${token}`
      return `[${negation === "" ? "" : "^"}${characters.replace(/[\\\]^[]/g, "\\$&")}]`
    },
  )
  return WILDCARD.test(name[0] ?? "") ? `(?!\\.)${source}` : source
}

/** The files under `dir` (empty for the working directory) whose path matches the segments. */
async function* matchFiles(dir: string, segments: readonly string[]): AsyncGenerator<string> {
  const [segment, ...rest] = segments
  if (segment === undefined) return
  if (segment === "**") {
    yield* matchFiles(dir, rest.length === 0 ? ["*"] : rest)
    for (const entry of await entriesOf(dir)) {
      // Links are not followed here: they may lead in circles.
      if (entry.isDirectory() && !entry.name.startsWith("."))
        yield* matchFiles(join(dir, entry.name), segments)
    }
    return
  }
  const pattern = globPattern(segment)
  const names = isGlob(segment)
    ? (await entriesOf(dir)).map(({ name }) => name).filter((name) => pattern.test(name))
    : [segment]
  for (const name of names) {
    const path = join(dir, name)
    const found = await stat(path).catch(() => undefined)
    if (rest.length === 0 ? found?.isFile() : found?.isDirectory()) {
      if (rest.length === 0) yield path
      else yield* matchFiles(path, rest)
    }
  }
}

const entriesOf = (dir: string) => readdir(dir === "" ? "." : dir, { withFileTypes: true }).catch(() => [])

async function collect(paths: AsyncIterable<string>): Promise<readonly string[]> {
  const found = new Set<string>()
  for await (const path of paths) found.add(path)
  return [...found].sort()
}
