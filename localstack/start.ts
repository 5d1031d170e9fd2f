/**
 * `node dist/localstack/start.js <minio|localstack|versitygw>`: runs a real S3 server until Ctrl-C and prints its
 * endpoint and credentials as shell exports. Nothing it stores is kept.
 */
import { parseServerName, startServer } from "./servers.js"

async function main(): Promise<void> {
  const server = await startServer(parseServerName(process.argv[2] ?? "minio"))
  const variables: Record<string, string> = {
    AWS_ENDPOINT_URL_S3: server.endpoint,
    AWS_REGION: server.region,
    AWS_ACCESS_KEY_ID: server.accessKeyId,
    AWS_SECRET_ACCESS_KEY: server.secretAccessKey,
    AWS_EC2_METADATA_DISABLED: "true",
    TEST_S3_ENDPOINT: server.endpoint,
    TEST_S3_LACKS: server.lacks.join(","),
  }
  for (const [name, value] of Object.entries(variables)) console.log(`export ${name}=${value}`)
  console.error(`${server.name} is running, with an empty store; Ctrl-C ends it`)
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
    process.once(signal, () => void server.stop())
  }
}

await main().catch((error) => {
  console.error(error.message)
  process.exitCode = 1
})
