import { mkdtemp, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import type { BackendName } from "../../src/index.js"
import { buildSnapshot, openSnapshot, openStore, type StoreOptions } from "../../src/index.js"
import { POINTER_KEY } from "../../src/manifest/keys.js"
import { ALL } from "../support/scope.js"
import { s3Root } from "../support/stores.js"
import { describeReader, type ReaderRoot, SUITE_FIELDS } from "./reader-suite.js"

let roots = 0
const KINDS = {
  "a directory": (dir: string) => ({ url: join(dir, "root"), store: {} }),
  memory: () => ({ url: `memory://readers-${process.pid}-${roots++}`, store: {} }),
  S3: () => s3Root("readers"),
} satisfies Record<string, (dir: string) => { readonly url: string; readonly store: StoreOptions }>

async function makeRoot(backend: BackendName, kind: keyof typeof KINDS): Promise<ReaderRoot> {
  const dir = await mkdtemp(join(tmpdir(), "vecsnap-readers-"))
  const { url, store } = KINDS[kind](dir)
  return {
    async publish(records, sharding) {
      const { run } = await buildSnapshot(records, {
        to: url,
        store,
        backend,
        fields: SUITE_FIELDS,
        sharding,
      })
      return run
    },
    open: (options) => openSnapshot(url, { cacheDir: join(dir, "cache"), workers: 1, store, ...options }),
    async damage() {
      const opened = openStore(url, store)
      await opened.put(POINTER_KEY, Buffer.from("damaged"))
      opened.close()
    },
    remove: () => rm(dir, { recursive: true, force: true }),
  }
}

const EVERY = (["sqlite-vec", "lancedb"] as const).flatMap((backend) =>
  (["a directory", "memory", "S3"] as const).map((kind) => ({ backend, kind })),
)
const FEW = [
  { backend: "sqlite-vec", kind: "a directory" },
  { backend: "lancedb", kind: "memory" },
] as const

for (const { backend, kind } of ALL ? EVERY : FEW)
  describeReader(`${backend} in ${kind}`, { makeRoot: () => makeRoot(backend, kind) })
