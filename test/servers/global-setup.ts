/**
 * Gives every test run one S3 server, which tests read by `inject("s3")`. It is the first of these:
 *
 * 1. the one that `TEST_S3_SERVER` names: minio, localstack, versitygw or in-process. If it can't start, the run fails;
 * 2. the one at `TEST_S3_ENDPOINT`, with the usual `AWS_*` credentials; with the bucket `TEST_S3_BUCKET` if that
 *    is set, and without asking for what `TEST_S3_LACKS` names, separated by commas;
 * 3. MinIO, if it is in the cache or on the PATH;
 * 4. our own server, in this process.
 *
 * The environment of the test processes is set so that even a test that names no endpoint talks to this server, never
 * to AWS.
 */
import { randomUUID } from "node:crypto"
import { readdirSync, readFileSync } from "node:fs"
import { basename } from "node:path"
import { CreateBucketCommand, S3Client } from "@aws-sdk/client-s3"
import type { TestProject } from "vitest/node"
import { findServer, parseServerName, type ServerName, startServer } from "../../localstack/servers.js"
import { fromRoot } from "../support/paths.js"
import { ALL } from "../support/scope.js"
import type { TestS3 } from "./provided.js"
import { startS3Server } from "./s3-server.js"

/** Called by vitest before the tests; what it returns is called after them. */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const { stop, reason, ...server } = await chooseServer(process.env)
  try {
    isolateEnvironment(process.env, server)
    const bucket = process.env.TEST_S3_BUCKET ?? (await createBucket(server))
    project.provide("s3", { ...server, bucket })
    console.log(`S3 for tests: ${server.name} at ${server.endpoint} (${reason})`)
    if (!ALL) console.log(describeLeftOut())
    return stop
  } catch (error) {
    await stop()
    throw error
  }
}

/** What is left to `npm run test:all`, as the names and imports of the test files tell it. */
function describeLeftOut(): string {
  const names = readdirSync(fromRoot("test"), { recursive: true, encoding: "utf8" }).sort()
  const title = (name: string): string => basename(name).replace(/(\.slow)?(\.test)?\.ts$/, "")
  const slow = names.filter((name) => name.endsWith(".slow.test.ts"))
  const fewer = names.filter(
    (name) =>
      name.endsWith(".ts") && /import \{[^}]*\bALL\b/.test(readFileSync(fromRoot("test", name), "utf8")),
  )
  return (
    `Left out: ${slow.map(title).join(", ")}, and cases of ` +
    `${fewer
      .filter((name) => !name.startsWith("servers/"))
      .map(title)
      .join(", ")}. \`npm run test:all\` runs everything.`
  )
}

type Server = Omit<TestS3, "bucket">

interface ChosenServer extends Server {
  /** Why this one, for people. */
  readonly reason: string
  readonly stop: () => Promise<void>
}

async function chooseServer(env: NodeJS.ProcessEnv): Promise<ChosenServer> {
  const forced = env.TEST_S3_SERVER
  if (forced === "in-process") return startInProcess("by TEST_S3_SERVER")
  if (forced) return startReal(parseServerName(forced), "by TEST_S3_SERVER")
  if (env.TEST_S3_ENDPOINT) return external(env.TEST_S3_ENDPOINT, env)
  if ((await findServer("minio")) !== undefined) return startReal("minio", "found installed")
  return startInProcess("no MinIO found; `npm run servers:install` gets real servers")
}

async function startReal(name: ServerName, reason: string): Promise<ChosenServer> {
  return { ...(await startServer(name)), reason }
}

async function startInProcess(reason: string): Promise<ChosenServer> {
  const credentials = { accessKeyId: "vecsnap-test", secretAccessKey: "vecsnap-test-secret" }
  const server = await startS3Server({ accessKeyId: credentials.accessKeyId })
  return {
    name: "in-process",
    endpoint: server.endpoint,
    region: "us-east-1",
    ...credentials,
    lacks: [],
    reason,
    stop: server.close,
  }
}

function external(endpoint: string, env: NodeJS.ProcessEnv): ChosenServer {
  const { AWS_ACCESS_KEY_ID: accessKeyId, AWS_SECRET_ACCESS_KEY: secretAccessKey } = env
  if (!accessKeyId || !secretAccessKey) {
    throw new Error("TEST_S3_ENDPOINT needs AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY beside it")
  }
  return {
    name: "external",
    endpoint,
    region: env.AWS_REGION ?? env.AWS_DEFAULT_REGION ?? "us-east-1",
    accessKeyId,
    secretAccessKey,
    lacks: env.TEST_S3_LACKS?.split(",") ?? [],
    reason: "by TEST_S3_ENDPOINT",
    stop: async () => {},
  }
}

/** Makes `server` the only S3 that this process and its children find. */
function isolateEnvironment(env: NodeJS.ProcessEnv, server: Server): void {
  env.AWS_EC2_METADATA_DISABLED = "true"
  env.AWS_ENDPOINT_URL_S3 = server.endpoint
  env.AWS_REGION = server.region
  env.AWS_ACCESS_KEY_ID = server.accessKeyId
  env.AWS_SECRET_ACCESS_KEY = server.secretAccessKey
  // A profile would go before these, and a session token belongs to other keys.
  delete env.AWS_PROFILE
  if (server.name !== "external") delete env.AWS_SESSION_TOKEN
  const direct = [env.NO_PROXY ?? env.no_proxy, "127.0.0.1", "localhost"].filter(Boolean).join(",")
  env.NO_PROXY = direct
  env.no_proxy = direct
}

async function createBucket({ endpoint, region, accessKeyId, secretAccessKey }: Server): Promise<string> {
  const bucket = `vecsnap-test-${randomUUID().slice(0, 8)}`
  const client = new S3Client({
    endpoint,
    region,
    credentials: { accessKeyId, secretAccessKey },
    forcePathStyle: true,
  })
  try {
    await client.send(new CreateBucketCommand({ Bucket: bucket }))
  } finally {
    client.destroy()
  }
  return bucket
}
