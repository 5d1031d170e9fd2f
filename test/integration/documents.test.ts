/** A reader meets pointers and manifests of every wrong kind: a specific error for each, and no memory spent on them. */
import { mkdtemp, open, rm, writeFile } from "node:fs/promises"
import { createServer } from "node:http"
import type { AddressInfo } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import {
  buildSnapshot,
  openSnapshot,
  openStore,
  readLive,
  readManifest,
  readPointer,
} from "../../src/index.js"
import { seal } from "../../src/manifest/seal.js"
import { s3Root } from "../support/stores.js"

const MIB = 2 ** 20
let dir: string
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), "vecsnap-test-"))
})
afterAll(() => rm(dir, { recursive: true, force: true }))

// biome-ignore lint/suspicious/noExplicitAny: what is changed is wrong on purpose, at any depth
type Change = (document: any) => void

const MANIFESTS: [string, (bytes: Buffer) => Buffer, "Corrupt" | "Unsupported" | "reads", RegExp][] = [
  [
    "unknown keys",
    sealed((wire) => Object.assign(wire, { later: 1 }, { schema: { ...wire.schema, later: {} } })),
    "reads",
    /^/,
  ],
  ["a wrong type", sealed((wire) => (wire.rows = "12")), "Corrupt", /rows/],
  ["a missing key", sealed((wire) => delete wire.backend), "Corrupt", /backend/],
  [
    "a later version",
    sealed((wire) => (wire.version = 99)),
    "Unsupported",
    /has version 99; this vecsnap reads/,
  ],
  ["another format", sealed((wire) => (wire.format = "else")), "Corrupt", /has the format "else"/],
  ["its end missing", (bytes) => bytes.subarray(0, -100), "Corrupt", /do not end in their own SHA-256/],
  [
    "a wrong checksum",
    (bytes) => Buffer.from(bytes.toString().replace(/[0-9a-f]("\n\}\n)$/, "x$1")),
    "Corrupt",
    /SHA-256/,
  ],
  ["nothing", () => Buffer.alloc(0), "Corrupt", /its 0 bytes do not end/],
  ["JSON that is no object", () => Buffer.from("[]"), "Corrupt", /SHA-256/],
]

/** A change of the document, with its checksum put right. */
function sealed(change: Change): (bytes: Buffer) => Buffer {
  return (bytes) => {
    const { sha256: _, ...wire } = JSON.parse(bytes.toString())
    change(wire)
    return seal(wire)
  }
}

describe("a manifest", () => {
  it.each(MANIFESTS)("with %s", async (_, change, outcome, message) => {
    const { url, store: options } = s3Root("documents")
    const records = Array.from({ length: 12 }, (_, id) => ({ id, vector: [id, 1] }))
    const { manifest } = await buildSnapshot(records, {
      to: url,
      store: options,
      sharding: { strategy: "lsh", shards: 2 },
    })
    const store = openStore(url, options)
    const bytes = Buffer.from((await store.get(manifest))!.body)
    await store.put(manifest, change(bytes))
    const opened = openSnapshot(url, { store: options, cacheDir: join(dir, "cache") })
    if (outcome === "reads") {
      await using reader = await opened
      expect(reader.snapshot.rows).toBe(12)
    } else {
      const error = await opened.catch((error: unknown) => error)
      expect(error).toMatchObject({ tag: outcome })
      expect((error as Error).message).toContain(manifest)
      expect((error as Error).message).toMatch(message)
    }
    store.close()
  })
})

describe("160 MB of garbage", () => {
  it("in place of pointer or manifest of a directory is refused before it is read", async () => {
    const to = join(dir, "root")
    const { manifest } = await buildSnapshot([{ id: 1, vector: [1, 2] }], {
      to,
      sharding: { strategy: "lsh", shards: 1 },
    })
    for (const [key, limit] of [
      [manifest, 128 * MIB],
      ["_CURRENT", 64 * 1024],
    ] as const) {
      // Sparse: it takes no place on the disk.
      const file = await open(join(to, key), "w")
      await file.truncate(160 * MIB)
      await file.close()
      const error = await openSnapshot(to, { cacheDir: join(dir, "cache") }).catch((error: unknown) => error)
      expect(error).toMatchObject({ tag: "Corrupt", details: { expected: limit, got: 160 * MIB } })
      expect((error as Error).message).toContain(`${key} has ${160 * MIB} bytes, expected at most ${limit}`)
    }
  })

  it.each([
    ["announced", { "content-length": String(160 * MIB) }],
    ["not announced", {}],
  ])("from a server, its length %s, is refused before much of it is read", async (_, headers) => {
    let sentBytes = 0
    const piece = Buffer.alloc(64 * 1024, "x")
    const server = createServer((_, response) => {
      response.writeHead(200, { etag: '"e"', ...headers })
      const send = (): void => {
        while (!response.destroyed && sentBytes < 160 * MIB) {
          sentBytes += piece.length
          if (!response.write(piece)) return void response.once("drain", send)
        }
        response.end()
      }
      send()
    })
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
    const endpoint = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
    const credentials = { accessKeyId: "any", secretAccessKey: "any" }
    const store = openStore("s3://bucket/root", { s3: { endpoint, region: "us-east-1", credentials } })
    try {
      const refused = await readPointer(store).catch((error: unknown) => error)
      expect(refused).toMatchObject({ tag: "Corrupt", details: { key: "_CURRENT", expected: 64 * 1024 } })
      // What fits into the buffers on the way, and no more.
      expect(sentBytes).toBeLessThan(20 * MIB)
      sentBytes = 0
      const key = "manifests/20261121T030000.000Z-k3v9x2m4q7ab.json"
      const manifest = await readManifest(store, key).catch((error: unknown) => error)
      expect(manifest).toMatchObject({ tag: "Corrupt", details: { key, expected: 128 * MIB } })
      expect(sentBytes).toBeLessThan(150 * MIB)
    } finally {
      store.close()
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    }
  })

  it("in place of an artifact is refused for its size, before it is read", async () => {
    const to = join(dir, "artifact")
    const options = { to, sharding: { strategy: "lsh", shards: 2 } } as const
    await buildSnapshot([{ id: 1, vector: [1, 2] }], options)
    const [artifact] = (await readLive(openStore(to))).manifest.artifacts
    await writeFile(join(to, artifact!.key), Buffer.alloc(artifact!.size + 1))
    const error = await openSnapshot(to, { cacheDir: join(dir, "cache") }).catch((error: unknown) => error)
    expect(error).toMatchObject({
      tag: "Corrupt",
      details: { expected: artifact!.size, got: artifact!.size + 1 },
    })
  })
})
