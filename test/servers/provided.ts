import type {} from "vitest"

/**
 * The S3 server of this test run, chosen by `global-setup.ts` and read in tests by `inject("s3")`.
 */
export interface TestS3 {
  /** "minio", "localstack", "versitygw", "in-process" or "external". */
  readonly name: string
  readonly endpoint: string
  readonly region: string
  readonly accessKeyId: string
  readonly secretAccessKey: string
  /** An existing, empty bucket. Tests use fresh prefixes in it. */
  readonly bucket: string
  /** What this server cannot do, by capability name; tests state these in the report instead of asserting them. */
  readonly lacks: readonly string[]
}

declare module "vitest" {
  interface ProvidedContext {
    s3: TestS3
  }
}
