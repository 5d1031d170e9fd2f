/**
 * A search service over one snapshot: `POST /search`, `/healthz` for load balancers, `/metrics` for Prometheus.
 *
 *     SNAPSHOT=s3://vectors/words PORT=8080 node dist/examples/service/main.js
 *
 * SIGTERM ends it without a failed request: it stops accepting, answers what it has, then closes the reader.
 */
import fastify from "fastify"
import * as prometheus from "prom-client"
import { type ErrorTag, isVecsnapError, openSnapshot, stringifyJson } from "vecsnap"
import { registerMetrics } from "vecsnap/prometheus"

const { SNAPSHOT, CACHE_DIR, HOST = "127.0.0.1", PORT = "8080", REFRESH_SECONDS = "60" } = process.env
if (SNAPSHOT === undefined) throw new Error("SNAPSHOT must name the root of the snapshots")

const reader = await openSnapshot(SNAPSHOT, {
  ...(CACHE_DIR !== undefined && { cacheDir: CACHE_DIR }),
  autoRefresh: { everySeconds: Number(REFRESH_SECONDS), jitter: 0.1 },
  maxAgeSeconds: 26 * 3600,
  timeoutMs: 2_000,
})
prometheus.collectDefaultMetrics()
const unregisterMetrics = registerMetrics(reader, prometheus)

// Requests that arrive on open connections while it shuts down are answered too; their connections end with the answer.
const app = fastify({ forceCloseConnections: "idle", return503OnClosing: false, bodyLimit: 1024 * 1024 })
let closing = false
app.addHook("preClose", async () => {
  closing = true
})
app.addHook("onSend", async (_request, reply) => {
  if (closing) reply.header("connection", "close")
})
// An answer whose header was on its way before leaves an idle connection, which would hold up the end for a minute.
app.addHook("onResponse", async () => {
  if (closing) setImmediate(() => app.server.closeIdleConnections())
})

interface SearchBody {
  readonly vector: readonly number[]
  readonly k: number
  readonly probes?: number
}

const searchBody = {
  type: "object",
  required: ["vector"],
  additionalProperties: false,
  properties: {
    vector: { type: "array", items: { type: "number" }, minItems: 1, maxItems: 10_000 },
    k: { type: "integer", minimum: 1, maximum: 1000, default: 10 },
    probes: { type: "integer", minimum: 1 },
  },
}

app.post<{ Body: SearchBody }>("/search", { schema: { body: searchBody } }, async (request, reply) => {
  const { vector, ...options } = request.body
  const { snapshot, hits } = await reader.search(vector, options)
  // Not JSON.stringify: ids may be integers of 64 bits.
  return reply.type("application/json").send(stringifyJson({ snapshot, hits }))
})

app.get("/healthz", async (_request, reply) => {
  const { status, snapshot, ageSeconds, reasons } = await reader.health()
  // Reasons name paths and buckets: they are for those who run the service.
  if (status !== "healthy") console.error(`${status}: ${reasons.join("; ")}`)
  // Degraded still answers: to take it out of the load balancer would make an incident of a warning.
  return reply.code(status === "unhealthy" ? 503 : 200).send({ status, snapshot, ageSeconds })
})

app.get("/metrics", async (_request, reply) =>
  reply.type(prometheus.register.contentType).send(await prometheus.register.metrics()),
)

// What the caller is told. Only of a wrong request all that the error says: others name paths, buckets and keys.
const ANSWERS: Partial<Record<ErrorTag, readonly [status: number, said?: string]>> = {
  InvalidInput: [400],
  Unavailable: [503, "not available now"],
  Aborted: [504, "it took too long"],
}

app.setErrorHandler<Error & { statusCode?: number }>((error, _request, reply) => {
  const [status = 500, said = status < 500 ? error.message : "something went wrong"] =
    (isVecsnapError(error) ? ANSWERS[error.tag] : [error.statusCode]) ?? []
  if (status >= 500) console.error(error)
  if (status === 503) reply.header("retry-after", "1")
  return reply.code(status).send({ error: said })
})

async function shutDown(): Promise<void> {
  await app.close()
  unregisterMetrics()
  await reader.close()
  console.log("closed")
}
for (const signal of ["SIGTERM", "SIGINT", "SIGHUP"] as const) process.once(signal, () => void shutDown())
// A terminal that is closed (SIGHUP) takes no more text; that must not end the service halfway.
for (const output of [process.stdout, process.stderr]) output.on("error", () => {})

console.log(`listening at ${await app.listen({ host: HOST, port: Number(PORT) })}`)
