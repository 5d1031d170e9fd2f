/** The formats of input files, and how the one of a file is told: by its name, else by its first bytes. */
import type { Format } from "./format.js"
import { arrow } from "./formats/arrow.js"
import { csv, tsv } from "./formats/csv.js"
import { jsonl } from "./formats/jsonl.js"
import { npy } from "./formats/npy.js"
import { npz } from "./formats/npz.js"
import { parquet } from "./formats/parquet.js"
import { bvecs, fbin, fvecs, i8bin, u8bin } from "./formats/vecs.js"
import { word2vec } from "./formats/word2vec.js"

const FORMATS = [
  parquet,
  csv,
  tsv,
  jsonl,
  arrow,
  npy,
  npz,
  fvecs,
  bvecs,
  fbin,
  u8bin,
  i8bin,
  word2vec,
] as const

/**
 * Names of the formats. JSON Lines and CSV may be compressed by gzip or zstd, which is told by the content.
 */
export type SourceFormat = (typeof FORMATS)[number]["name"]

export const SOURCE_FORMATS: readonly SourceFormat[] = FORMATS.map(({ name }) => name)

export const isSourceFormat = (name: string): name is SourceFormat =>
  SOURCE_FORMATS.some((format) => format === name)

export function formatNamed(name: SourceFormat): Format {
  return FORMATS.find((format) => format.name === name)!
}

/**
 * The format of a file with this name; `undefined` if its extension says nothing, or is shared with other
 * formats.
 */
export function formatByName(fileName: string): Format | undefined {
  const extension = extensionOf(fileName)
  return FORMATS.find(({ extensions }) => extension !== undefined && extensions.includes(extension))
}

/** The format that has this extension beside others. */
export function formatBySharedName(fileName: string): Format | undefined {
  const extension = extensionOf(fileName)
  const formats: readonly Format[] = FORMATS
  return formats.find(
    ({ sharedExtensions = [] }) => extension !== undefined && sharedExtensions.includes(extension),
  )
}

function extensionOf(fileName: string): string | undefined {
  return /\.([a-z0-9]+)(?:\.(?:gz|gzip|zst|zstd))?$/i.exec(fileName)?.[1]?.toLowerCase()
}

/** The format of a file that starts with `head`; `undefined` if that says nothing. */
export function formatByContent(head: Uint8Array): Format | undefined {
  const text = Buffer.from(head).toString("latin1")
  return FORMATS.find(({ magic }) => magic.some((start) => text.startsWith(start)))
}

/**
 * The format that a file is of which starts with `head` though its name says `named`; `undefined` if it may
 * well be what it is called. Text may begin with anything, but not with what no text begins with.
 */
export function formatBegunBy(head: Uint8Array, named: Format): Format | undefined {
  const begun = formatByContent(head)
  if (begun === undefined || begun.name === named.name) return undefined
  return begun.reads === "file" || named.magic.length > 0 ? begun : undefined
}
