/** From what the user names to files: paths, directories, globs, URLs of objects, standard input. */
import { readdir, stat } from "node:fs/promises"
import { dirname, join } from "node:path"
import { fileURLToPath } from "node:url"
import { invalidInput, notFound } from "../errors.js"
import { errorCode, fileError } from "../storage/files.js"
import type { ObjectStore } from "../storage/store.js"
import { listOf, shortened } from "../wording.js"

/** A file to read; `name` is what the user would recognise. */
export type Input =
  | { readonly kind: "file"; readonly name: string; readonly path: string }
  | { readonly kind: "object"; readonly name: string; readonly store: string; readonly key: string }
  | { readonly kind: "stdin"; readonly name: string }
  /** A pipe that has a path, as shells make them for `<(zcat rows.jsonl.gz)`; it gives its bytes once. */
  | { readonly kind: "pipe"; readonly name: string; readonly path: string }

export interface Expanded {
  readonly inputs: readonly Input[]
  /**
   * Names of files and folders in the directories that are no input: hidden ones, markers like "_SUCCESS".
   */
  readonly leftOut: readonly string[]
}

/**
 * The files that `inputs` name, each once, in the order given; those of one glob or directory by name. A
 * directory stands for all files in it and in its folders, but for those that are hidden or begin with "_".
 * Hidden files are matched by no wildcard.
 *
 * Throws `NotFound` for a name that matches nothing, `InvalidInput` for one that can be no input, such as a
 * table whose log says which of its files hold rows (Delta Lake, Iceberg, Hudi), `Unavailable` for a folder
 * that may not be listed: its files must not be left out without a word.
 */
export async function expandInputs(
  inputs: readonly string[],
  openStore: (url: string) => ObjectStore,
): Promise<Expanded> {
  const found = new Map<string, Input>()
  const leftOut: string[] = []
  for (const text of inputs) {
    const expanded = await expandInput(text, openStore)
    leftOut.push(...expanded.leftOut)
    if (expanded.inputs.length === 0) {
      const others =
        expanded.leftOut.length === 0
          ? ""
          : `; left out are ${listOf(expanded.leftOut, (name) => shortened(name, 200))}`
      throw notFound(`${text} matches no files${others}`, { input: text })
    }
    for (const input of expanded.inputs) found.set(input.name, input)
  }
  if (found.size > 1 && found.has(STDIN.name))
    throw invalidInput("standard input cannot be read together with other inputs", { inputs })
  return { inputs: [...found.values()], leftOut }
}

const STDIN: Input = { kind: "stdin", name: "standard input" }

async function expandInput(text: string, openStore: (url: string) => ObjectStore): Promise<Expanded> {
  if (text === "") throw invalidInput("an input has an empty name", { input: text })
  if (text === "-") return only(STDIN)
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

const only = (input: Input): Expanded => ({ inputs: [input], leftOut: [] })

const fileInput = (path: string): Input => ({ kind: "file", name: path, path })

async function expandPath(path: string): Promise<Expanded> {
  const found = await lookAt(path)
  // A file whose name looks like a glob is that file.
  if (found?.isDirectory()) {
    const { files, leftOut } = filesOfDirectory(await collect(walk(path, "")), path)
    return {
      inputs: files.map((file) => fileInput(join(path, file))),
      leftOut: leftOut.map((name) => join(path, name)),
    }
  }
  if (found?.isFIFO() || found?.isSocket() || found?.isCharacterDevice())
    return only({ kind: "pipe", name: path, path })
  if (found !== undefined) return only(fileInput(path))
  if (!isGlob(path)) throw notFound(`there is no file ${path}`, { input: path })
  const matched = await collect(matchFiles(path.startsWith("/") ? "/" : "", path.split("/").filter(Boolean)))
  const base = path.slice(0, path.slice(0, firstWildcard(path)).lastIndexOf("/") + 1)
  await assertNoTables(base, matched)
  return { inputs: matched.map(fileInput), leftOut: [] }
}

/** A glob may match the files of a table as well as its directory does. */
async function assertNoTables(base: string, files: readonly string[]): Promise<void> {
  const folders = new Set<string>()
  for (const file of files) {
    let folder = dirname(file)
    while (!folders.has(folder) && folder.length >= base.length - 1) {
      folders.add(folder)
      if (folder === dirname(folder)) break
      folder = dirname(folder)
    }
  }
  for (const folder of folders) {
    const entries = (await entriesOf(folder)).map(({ name }) => name)
    const metadata = entries.includes("metadata") ? await entriesOf(join(folder, "metadata")) : []
    filesOfDirectory([...entries, ...metadata.map(({ name }) => `metadata/${name}`)], folder)
  }
}

/**
 * Paths in a directory, relative to it: of files, and of folders that are left out, which are not looked
 * into.
 */
async function* walk(dir: string, prefix: string): AsyncGenerator<string> {
  for (const entry of await entriesOf(dir)) {
    const path = join(dir, entry.name)
    // Links to files are files; those to folders are not followed: they may lead in circles.
    const isFile = entry.isFile() || (entry.isSymbolicLink() && (await lookAt(path))?.isFile())
    const isFolder = entry.isDirectory()
    if (isFolder && !isLeftOut(entry.name)) yield* walk(path, `${prefix}${entry.name}/`)
    else if (isFile || isFolder) yield `${prefix}${entry.name}`
  }
}

const isLeftOut = (name: string): boolean => name.startsWith(".") || name.startsWith("_")

/** Directories that are more than their files, by what tells them, and what reads them in DuckDB. */
const TABLES: readonly (readonly [RegExp, string, string | undefined])[] = [
  [/^(.*\/)?_delta_log(?:\/|$)/, "Delta Lake", "delta_scan"],
  [/^(.*\/)?metadata\/[^/]*\.metadata\.json$/, "Iceberg", "iceberg_scan"],
  [/^(.*\/)?\.hoodie(?:\/|$)/, "Hudi", undefined],
]

/**
 * Which of the paths in a directory are its files. Throws `InvalidInput` if it is, or holds, a table of which
 * only a log says what its rows are: rows that were deleted are still in its files.
 */
function filesOfDirectory(
  paths: readonly string[],
  directory: string,
): { readonly files: readonly string[]; readonly leftOut: readonly string[] } {
  for (const [pattern, kind, scan] of TABLES) {
    const match = paths.map((path) => pattern.exec(path)).find((found) => found !== null)
    if (match === undefined || match === null) continue
    const table = `${directory.replace(/\/$/, "")}/${match[1] ?? ""}`.replace(/\/$/, "")
    const how =
      scan === undefined ? "" : `, for example in DuckDB: COPY (FROM ${scan}('${table}')) TO 'rows.parquet'`
    throw invalidInput(
      `${table} is a table of ${kind}, whose log says which of its files hold rows that are not deleted; expected plain files: export the table${how}`,
      { directory: table, kind },
    )
  }
  const leftOut = new Set<string>()
  const folders = new Map<string, Set<string>>()
  const files = paths.filter((path) => {
    const segments = path.split("/")
    const hidden = segments.findIndex(isLeftOut)
    if (hidden !== -1) leftOut.add(segments.slice(0, hidden + 1).join("/"))
    else {
      const folder = path.slice(0, path.lastIndexOf("/") + 1)
      folders.set(folder, (folders.get(folder) ?? new Set()).add(segments.at(-1)!))
    }
    return hidden === -1
  })
  // What Hugging Face's `save_to_disk` puts beside its .arrow files.
  for (const [folder, names] of folders)
    if (DATASET_MARKERS.every((name) => names.has(name)))
      for (const name of DATASET_MARKERS) leftOut.add(`${folder}${name}`)
  return { files: files.filter((file) => !leftOut.has(file)), leftOut: [...leftOut] }
}

const DATASET_MARKERS = ["dataset_info.json", "state.json"]

async function expandObject(
  url: string,
  storeUrl: string,
  key: string,
  openStore: (url: string) => ObjectStore,
): Promise<Expanded> {
  const nameOf = (found: string) => `${storeUrl}/${found}`
  const toInput = (found: string): Input => ({
    kind: "object",
    name: nameOf(found),
    store: storeUrl,
    key: found,
  })
  const store = openStore(storeUrl)
  try {
    const isDirectory = key === "" || key.endsWith("/")
    if (!isDirectory && !isGlob(key)) {
      if ((await store.head(key)) !== undefined) return only(toInput(key))
      throw notFound(`there is no object ${url}; the name of a folder ends with "/"`, { input: url })
    }
    const fixed = isDirectory ? key : key.slice(0, firstWildcard(key))
    const base = fixed.slice(0, fixed.lastIndexOf("/") + 1)
    const keys: string[] = []
    for await (const listed of store.list(fixed)) keys.push(listed.key)
    // A store may have objects that stand for folders.
    const paths = keys
      .map((found) => found.slice(base.length))
      .filter((path) => path !== "" && !path.endsWith("/"))
    const { files, leftOut } = filesOfDirectory(paths, nameOf(base))
    if (isDirectory)
      return {
        inputs: files.map((file) => toInput(base + file)),
        leftOut: leftOut.map((name) => nameOf(base + name)),
      }
    const pattern = globPattern(key)
    return { inputs: keys.filter((found) => pattern.test(found)).map(toInput), leftOut: [] }
  } finally {
    store.close()
  }
}

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
    const found = await lookAt(path)
    if (rest.length === 0 ? found?.isFile() : found?.isDirectory()) {
      if (rest.length === 0) yield path
      else yield* matchFiles(path, rest)
    }
  }
}

/** None of a directory that is not there; what cannot be listed may hold inputs, and must not be left out. */
const entriesOf = (dir: string) =>
  readdir(dir === "" ? "." : dir, { withFileTypes: true }).catch((error) => {
    if (isAbsent(error)) return []
    throw fileError("list", dir, error)
  })

/** What there is at a path, if anything. */
const lookAt = (path: string) =>
  stat(path).catch((error) => {
    if (isAbsent(error)) return undefined
    throw fileError("look at", path, error)
  })

// A link that leads to itself leads nowhere, and no path has a NUL.
const ABSENT: readonly (string | undefined)[] = ["ENOENT", "ENOTDIR", "ELOOP", "ERR_INVALID_ARG_VALUE"]
const isAbsent = (error: unknown): boolean => ABSENT.includes(errorCode(error))

async function collect(paths: AsyncIterable<string>): Promise<readonly string[]> {
  const found = new Set<string>()
  for await (const path of paths) found.add(path)
  return [...found].sort()
}
