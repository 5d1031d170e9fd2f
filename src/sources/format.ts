/**
 * What a format of input files is. Each has one file in formats/ and one line in registry.ts; nothing else
 * knows which formats there are.
 */
import type { FileReader } from "./columns.js"
import type { RowIds } from "./ids.js"

export type Format<Name extends string = string> = BytesFormat<Name> | FileFormat<Name>

interface FormatFacts<Name extends string> {
  /** As users write it: `--format parquet`. */
  readonly name: Name
  /** Endings of its files, without the dot, in lower case. */
  readonly extensions: readonly string[]
  /** Endings that its files share with others: they count only where the first bytes say nothing. */
  readonly sharedExtensions?: readonly string[]
  /**
   * What its files may begin with, one character per byte (Latin-1), {@link MAGIC_BYTES} at most; empty if
   * anything.
   */
  readonly magic: readonly string[]
  /**
   * Loads the package that it needs. Throws `Unsupported`, which names the package, if it is not installed.
   */
  load?(): Promise<unknown>
}

/** Is read from its beginning to its end, so also from a pipe; may be compressed by gzip or zstd. */
export interface BytesFormat<Name extends string = string> extends FormatFacts<Name> {
  readonly reads: "bytes"
  open(file: ByteFile): FileReader
}

/** Is read at any place, so what is not in a local file is put into one first. */
export interface FileFormat<Name extends string = string> extends FormatFacts<Name> {
  readonly reads: "file"
  /**
   * Whether a file holds vectors alone, whose ids come from a file beside it, else are the places of the
   * rows.
   */
  readonly idsBeside?: boolean
  open(file: LocalFile): Promise<FileReader>
  /**
   * How many rows a file has, bad ones included, without a reading of them; absent where its files do not
   * say.
   */
  countRows?(file: Pick<LocalFile, "name" | "path" | "tempDir">): Promise<number>
}

export interface ByteFile {
  /** For messages. */
  readonly name: string
  /** Starts to read the file. */
  openBytes(): AsyncIterable<Uint8Array>
}

export interface LocalFile extends ByteFile {
  readonly path: string
  /** For what a reader spills. */
  readonly tempDir: string
  /** Ids of the rows, for formats with `idsBeside`. */
  readonly ids: RowIds
}

/** As many bytes from the start of a file tell its format, if it has any. */
export const MAGIC_BYTES = 8
