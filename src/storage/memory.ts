/**
 * A store in the memory of this process, for tests and trials. Each name is one space: whoever opens the name
 * sees the same objects.
 */
import { conflict, corrupt, throwIfAborted } from "../errors.js"
import { createFile, OWNER_ONLY, withBody } from "./files.js"
import {
  assertFits,
  assertKey,
  assertOnePrecondition,
  assertRange,
  assertReadKey,
  assertReadPrefix,
  compareKeys,
} from "./rules.js"
import type {
  CallOptions,
  ChangedObject,
  GetOptions,
  ListedObject,
  ObjectInfo,
  ObjectStore,
  PutBody,
  PutOptions,
  StoredObject,
  WholeGetOptions,
} from "./store.js"

// The bytes of a stored object are never changed nor handed out, only copied.
type Space = Map<string, StoredObject>

const spaces = new Map<string, Space>()
let writes = 0

/** Opens the space `name` of this process. It lives until the process ends. */
export function openMemoryStore(name: string): ObjectStore {
  return new MemoryStore(name)
}

class MemoryStore implements ObjectStore {
  readonly url: string
  readonly #objects: Space

  constructor(name: string) {
    this.url = `memory://${name}`
    this.#objects = spaces.get(name) ?? new Map()
    spaces.set(name, this.#objects)
  }

  async get(key: string, options: GetOptions = {}): Promise<StoredObject | undefined> {
    const { range, signal } = options
    assertReadKey(key)
    if (range !== undefined) assertRange(range)
    throwIfAborted(signal)
    const object = this.#objects.get(key)
    if (object === undefined) return undefined
    if (range !== undefined && range.end > object.size) {
      throw corrupt(`${this.url}/${key} has ${object.size} bytes, expected at least ${range.end}`, {
        key,
        expected: range.end,
        got: object.size,
      })
    }
    assertFits(options, object.size, `${this.url}/${key}`, key)
    return { ...object, body: object.body.slice(range?.start, range?.end) }
  }

  async getIfChanged(key: string, etag: string, options?: WholeGetOptions): Promise<ChangedObject> {
    const object = await this.get(key, options)
    return object?.etag === etag ? "unchanged" : object
  }

  async getFile(key: string, path: string, { signal }: CallOptions = {}): Promise<ObjectInfo | undefined> {
    assertReadKey(key)
    throwIfAborted(signal)
    const object = this.#objects.get(key)
    if (object === undefined) return undefined
    await createFile(path, (handle) => handle.writeFile(object.body), OWNER_ONLY)
    return infoOf(object)
  }

  async head(key: string, { signal }: CallOptions = {}): Promise<ObjectInfo | undefined> {
    assertReadKey(key)
    throwIfAborted(signal)
    const object = this.#objects.get(key)
    return object === undefined ? undefined : infoOf(object)
  }

  async put(key: string, body: PutBody, options: PutOptions = {}): Promise<{ readonly etag: string }> {
    assertKey(key)
    assertOnePrecondition(options)
    throwIfAborted(options.signal)
    const bytes = await withBody(
      body,
      async (source) => new Uint8Array(await source.read(0, source.sizeBytes)),
    )
    throwIfAborted(options.signal)
    // From here to the end nothing waits: the check and the write are one step.
    const existing = this.#objects.get(key)
    if (options.ifAbsent && existing !== undefined) {
      throw conflict(`${this.url}/${key} exists already`, { key, got: existing.etag })
    }
    if (options.ifMatch !== undefined && existing?.etag !== options.ifMatch) {
      throw conflict(`${this.url}/${key} has another version than expected`, {
        key,
        expected: options.ifMatch,
        got: existing?.etag,
      })
    }
    const etag = `"${++writes}"`
    this.#objects.set(key, { body: bytes, size: bytes.length, etag, lastModified: new Date() })
    return { etag }
  }

  async *list(prefix: string, { signal }: CallOptions = {}): AsyncGenerator<ListedObject> {
    assertReadPrefix(prefix)
    const keys = [...this.#objects.keys()].filter((key) => key.startsWith(prefix)).sort(compareKeys)
    for (const key of keys) {
      throwIfAborted(signal)
      const object = this.#objects.get(key)
      if (object !== undefined) yield { key, ...infoOf(object) }
    }
  }

  async delete(keys: readonly string[], { signal }: CallOptions = {}): Promise<readonly never[]> {
    for (const key of keys) assertKey(key)
    throwIfAborted(signal)
    for (const key of keys) this.#objects.delete(key)
    return []
  }

  close(): void {}
}

function infoOf({ size, etag, lastModified }: ObjectInfo): ObjectInfo {
  return { size, etag, lastModified }
}
