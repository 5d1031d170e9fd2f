import { mkdtemp, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { inject } from "vitest"
import type { StoreOptions } from "../../src/index.js"

export interface TestRoot {
  readonly url: string
  readonly store: StoreOptions
}

let roots = 0

/** Store options for the S3 server of this run. */
export function s3Options(): StoreOptions {
  const { endpoint, region, accessKeyId, secretAccessKey } = inject("s3")
  return { s3: { endpoint, region, credentials: { accessKeyId, secretAccessKey } } }
}

/** A fresh, empty root on the S3 server of this run. */
export function s3Root(name: string): TestRoot {
  return { url: `s3://${inject("s3").bucket}/${name}-${process.pid}-${roots++}`, store: s3Options() }
}

/** A fresh temporary directory for the duration of `work`. */
export async function withTempDir<T>(work: (dir: string) => Promise<T>): Promise<T> {
  const dir = await mkdtemp(join(tmpdir(), "vecsnap-test-"))
  try {
    return await work(dir)
  } finally {
    await rm(dir, { recursive: true, force: true })
  }
}
