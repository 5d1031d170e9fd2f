/**
 * The object store contract: all that vecsnap asks of S3, a directory, or memory.
 *
 * Rules that hold for every implementation, and that the contract suite checks:
 *
 * - Keys are relative to the store's root, use "/" and never start or end with it. A root is a prefix of a
 *   bucket, a directory, or a named space in memory. Only `get`, `getFile`, `head` and `list` also take keys
 *   and prefixes that start with "/", of what other programs have put on S3; elsewhere there are none.
 * - Missing is `undefined` from `get`, `getFile` and `head`, and silence from `delete`; never an exception.
 * - A precondition that does not hold is `Conflict`. A body of another length than announced, or a range that
 *   reaches past the end of the object, is `Corrupt`. A store that cannot be reached, refuses for load (429,
 *   5xx) or ends the connection too early is `Unavailable`, the only error worth a retry; a refusal of
 *   credentials is `InvalidInput`.
 * - Objects appear whole or not at all, and a read that started sees one version.
 * - Every call takes an `AbortSignal`; an aborted call throws `Aborted`.
 */
export interface ObjectStore {
  /** For messages; without secrets. As given by the user, without a trailing slash. */
  readonly url: string

  /** The whole object, or the bytes of `range`. */
  get(key: string, options?: GetOptions): Promise<StoredObject | undefined>

  /**
   * The whole object, unless its ETag is `etag` still: then "unchanged", and no body crosses the network.
   * Counts as a `get` wherever calls are counted.
   */
  getIfChanged(key: string, etag: string, options?: WholeGetOptions): Promise<ChangedObject>

  /**
   * Streams an object into a file that must not exist yet. On any failure no file is left. Returns what was
   * read.
   */
  getFile(key: string, path: string, options?: GetFileOptions): Promise<ObjectInfo | undefined>

  head(key: string, options?: CallOptions): Promise<ObjectInfo | undefined>

  /** Writes an object, whole, from memory or from a file. Returns its new ETag. */
  put(key: string, body: PutBody, options?: PutOptions): Promise<{ readonly etag: string }>

  /** All objects whose key starts with `prefix`, by rising key in byte order of its UTF-8. */
  list(prefix: string, options?: CallOptions): AsyncIterable<ListedObject>

  /**
   * Removes objects. What could not be removed is returned, by key, with the reason; nothing is thrown for
   * it.
   */
  delete(keys: readonly string[], options?: CallOptions): Promise<readonly DeleteFailure[]>

  /**
   * Path of the file that holds an object, or of the directory that holds those below a key, whether they are
   * there or not. Only where objects are files of this machine. Throws `InvalidInput` for what is no key.
   */
  filePath?(key: string): string

  /** Ends connections. Idempotent. */
  close(): void
}

export interface CallOptions {
  readonly signal?: AbortSignal | undefined
}

export interface WholeGetOptions extends CallOptions {
  /** Of a whole object: `Corrupt` if it has more bytes, before they are read. Default: no limit. */
  readonly maxBytes?: number | undefined
}

export interface GetOptions extends WholeGetOptions {
  /** Bytes from `start` up to but not including `end`; `0 <= start < end`. */
  readonly range?: { readonly start: number; readonly end: number } | undefined
}

export interface GetFileOptions extends CallOptions {
  /**
   * Size of the object, if the caller knows it. `Corrupt` if it has another, before more than that is
   * written; and a limit on bytes counts them before they are read.
   */
  readonly expectedBytes?: number | undefined
}

export type PutBody = Uint8Array | { readonly file: string }

export interface PutOptions extends CallOptions {
  /** Create only: `Conflict` if the key exists. */
  readonly ifAbsent?: boolean | undefined
  /**
   * Replace only this version: `Conflict` if the key has another ETag or does not exist. Not with `ifAbsent`.
   */
  readonly ifMatch?: string | undefined
  /** Default "application/octet-stream". */
  readonly contentType?: string | undefined
}

export interface ObjectInfo {
  /** Bytes of the whole object. */
  readonly size: number
  /** Opaque; changes whenever other content is written. (On S3 it may be a hash of the content.) */
  readonly etag: string
  /** By the store's clock. */
  readonly lastModified: Date
}

export interface StoredObject extends ObjectInfo {
  readonly body: Uint8Array
}

/** What a conditional read gives: the object, if it has another ETag than the one that the caller knows. */
export type ChangedObject = StoredObject | "unchanged" | undefined

export interface ListedObject extends ObjectInfo {
  readonly key: string
}

export interface DeleteFailure {
  readonly key: string
  readonly reason: string
}
