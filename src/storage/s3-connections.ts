/**
 * The connections to an S3-compatible store: by which way they go, how long one may be silent, and when those
 * at rest are given up.
 */
import { Agent as HttpAgent } from "node:http"
import { type AgentOptions, Agent as HttpsAgent } from "node:https"
import type { HttpHandlerOptions, HttpRequest, HttpResponse } from "@smithy/core/protocols"
import { NodeHttpHandler } from "@smithy/node-http-handler"
import { type ProxySetting, proxyAgents, proxyFor } from "./proxy.js"

/** How long to wait for what, in milliseconds. */
export interface ConnectionTimeouts {
  readonly connectTimeoutMs: number
  readonly firstByteTimeoutMs: number
  readonly idleTimeoutMs: number
  readonly writeTimeoutMs: number
}

export interface ConnectionSettings extends ConnectionTimeouts {
  readonly proxy: ProxySetting
  /** Certificates of the authorities that are trusted; `undefined` for Node's own. */
  readonly authorities: readonly string[] | undefined
}

// More calls than this wait for a connection, and the wait counts as part of the connect timeout.
const MAX_SOCKETS = 256

/** A way to the store, direct or through a proxy. */
interface Way {
  readonly agents: readonly [HttpAgent, HttpsAgent]
  readonly ofObjects: NodeHttpHandler
  readonly ofListings: NodeHttpHandler
  readonly ofWrites: NodeHttpHandler
}

/**
 * Sends the requests of an S3 client. A read that gets no byte is given up soon, as another connection is
 * likely to do better; a write may rightly take its time before it is answered (the parts of an upload become
 * one object then).
 */
export class S3Connections {
  readonly #settings: ConnectionSettings
  /** By the proxy; "" is the direct one. */
  readonly #ways = new Map<string, Promise<Way>>()
  readonly metadata = { handlerProtocol: "http/1.1" }

  constructor(settings: ConnectionSettings) {
    this.#settings = settings
  }

  async handle(
    request: HttpRequest,
    options?: HttpHandlerOptions,
  ): Promise<{ readonly response: HttpResponse }> {
    const { protocol, hostname, port, method, query } = request
    const origin = `${protocol}//${hostname}${port === undefined ? "" : `:${port}`}`
    const way = await this.#way((await proxyFor(origin, this.#settings.proxy)) ?? "")
    if (method !== "GET" && method !== "HEAD") return way.ofWrites.handle(request, options)
    const isListing = query !== undefined && "list-type" in query
    return (isListing ? way.ofListings : way.ofObjects).handle(request, options)
  }

  /**
   * Closes the connections at rest, after one has failed: what swallows one (a gateway that has forgotten it,
   * a server that is gone) has likely swallowed those beside it, and a retry is to get a fresh one.
   */
  closeIdle(): void {
    this.#eachAgent(({ freeSockets }) => {
      for (const sockets of Object.values(freeSockets)) for (const socket of sockets ?? []) socket.destroy()
    })
  }

  destroy(): void {
    this.#eachAgent((agent) => agent.destroy())
  }

  // What the SDK asks of a handler that it may configure; this one is configured already.
  updateHttpClientConfig(): void {}
  httpHandlerConfigs(): Record<string, never> {
    return {}
  }

  #eachAgent(use: (agent: HttpAgent | HttpsAgent) => void): void {
    for (const way of this.#ways.values())
      void way.then(
        ({ agents }) => agents.forEach(use),
        () => undefined,
      )
  }

  #way(proxy: string): Promise<Way> {
    const known = this.#ways.get(proxy)
    if (known !== undefined) return known
    const way = openWay(proxy, this.#settings)
    this.#ways.set(proxy, way)
    return way
  }
}

async function openWay(proxy: string, settings: ConnectionSettings): Promise<Way> {
  const { connectTimeoutMs, firstByteTimeoutMs, idleTimeoutMs, writeTimeoutMs, authorities } = settings
  const options: AgentOptions = {
    keepAlive: true,
    maxSockets: MAX_SOCKETS,
    ...(authorities !== undefined && { ca: [...authorities] }),
  }
  const agents =
    proxy === ""
      ? ([new HttpAgent(options), new HttpsAgent(options)] as const)
      : await proxyAgents(proxy, options)
  const [httpAgent, httpsAgent] = agents
  const handler = (firstByteMs: number, idleMs: number): NodeHttpHandler =>
    new NodeHttpHandler({
      httpAgent,
      httpsAgent,
      connectionTimeout: connectTimeoutMs,
      requestTimeout: firstByteMs,
      throwOnRequestTimeout: true,
      socketTimeout: idleMs,
    })
  return {
    agents,
    ofObjects: handler(Math.min(firstByteTimeoutMs, idleTimeoutMs), idleTimeoutMs),
    ofListings: handler(idleTimeoutMs, idleTimeoutMs),
    // Sending a body may take longer than any answer; what counts is that something moves.
    ofWrites: handler(0, writeTimeoutMs),
  }
}
