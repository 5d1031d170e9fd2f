/** Which format a file has, told by its name, else by its first bytes. */

export const SOURCE_FORMATS = ["parquet", "csv", "tsv", "jsonl", "arrow", "npy"] as const

/** JSON Lines and CSV may be compressed by gzip or zstd, which is told by the content. */
export type SourceFormat = (typeof SOURCE_FORMATS)[number]

export type Compression = "gzip" | "zstd"

const FORMAT_OF_EXTENSION: Readonly<Record<string, SourceFormat>> = {
  parquet: "parquet",
  pq: "parquet",
  csv: "csv",
  tsv: "tsv",
  jsonl: "jsonl",
  ndjson: "jsonl",
  json: "jsonl",
  arrow: "arrow",
  arrows: "arrow",
  feather: "arrow",
  ipc: "arrow",
  npy: "npy",
}

/** The format of a file with this name; `undefined` if its extension says nothing. */
export function formatByName(name: string): SourceFormat | undefined {
  const extension = /\.([a-z]+)(?:\.(?:gz|zst))?$/i.exec(name)?.[1]?.toLowerCase()
  return extension !== undefined && Object.hasOwn(FORMAT_OF_EXTENSION, extension)
    ? FORMAT_OF_EXTENSION[extension]
    : undefined
}

/** As many bytes from the start of a file tell its format, if it has any. */
export const MAGIC_BYTES = 8

const FORMAT_OF_MAGIC: readonly (readonly [string, SourceFormat])[] = [
  ["PAR1", "parquet"],
  ["ARROW1", "arrow"],
  // An Arrow stream starts with a continuation marker.
  ["\xff\xff\xff\xff", "arrow"],
  ["\x93NUMPY", "npy"],
  ["{", "jsonl"],
]

/** The format of a file that starts with `head`; `undefined` if that says nothing. */
export function formatByContent(head: Uint8Array): SourceFormat | undefined {
  const text = Buffer.from(head).toString("latin1")
  return FORMAT_OF_MAGIC.find(([magic]) => text.startsWith(magic))?.[1]
}

/** How a file that starts with `head` is compressed, if it is. */
export function compressionOf(head: Uint8Array): Compression | undefined {
  if (head[0] === 0x1f && head[1] === 0x8b) return "gzip"
  const start = head.length >= 4 ? Buffer.from(head).readUInt32LE(0) : 0
  // A zstd file may also start with a frame to skip, as parallel compressors write it.
  const isZstd = start === 0xfd2fb528 || (start >= 0x184d2a50 && start <= 0x184d2a5f)
  return isZstd ? "zstd" : undefined
}
