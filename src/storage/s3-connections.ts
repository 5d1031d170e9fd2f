/**
 * The connections to an S3-compatible store: how long one may be silent, and when those at rest are given up.
 */
import { Agent as HttpAgent } from "node:http"
import { Agent as HttpsAgent } from "node:https"
import type { HttpHandlerOptions, HttpRequest, HttpResponse } from "@smithy/core/protocols"
import { NodeHttpHandler } from "@smithy/node-http-handler"

/** How long to wait for what, in milliseconds. */
export interface ConnectionTimeouts {
  readonly connectTimeoutMs: number
  readonly firstByteTimeoutMs: number
  readonly idleTimeoutMs: number
  readonly writeTimeoutMs: number
}

// More calls than this wait for a connection, and the wait counts as part of the connect timeout.
const MAX_SOCKETS = 256

/**
 * Sends the requests of an S3 client. A read that gets no byte is given up soon, as another connection is
 * likely to do better; a write may rightly take its time before it is answered (the parts of an upload become
 * one object then).
 */
export class S3Connections {
  readonly #agents = [
    new HttpAgent({ keepAlive: true, maxSockets: MAX_SOCKETS }),
    new HttpsAgent({ keepAlive: true, maxSockets: MAX_SOCKETS }),
  ] as const
  readonly #ofObjects: NodeHttpHandler
  readonly #ofListings: NodeHttpHandler
  readonly #ofWrites: NodeHttpHandler
  readonly metadata = { handlerProtocol: "http/1.1" }

  constructor(timeouts: ConnectionTimeouts) {
    const { connectTimeoutMs, firstByteTimeoutMs, idleTimeoutMs, writeTimeoutMs } = timeouts
    const [httpAgent, httpsAgent] = this.#agents
    const handler = (firstByteMs: number, idleMs: number): NodeHttpHandler =>
      new NodeHttpHandler({
        httpAgent,
        httpsAgent,
        connectionTimeout: connectTimeoutMs,
        requestTimeout: firstByteMs,
        throwOnRequestTimeout: true,
        socketTimeout: idleMs,
      })
    this.#ofObjects = handler(Math.min(firstByteTimeoutMs, idleTimeoutMs), idleTimeoutMs)
    this.#ofListings = handler(idleTimeoutMs, idleTimeoutMs)
    // Sending a body may take longer than any answer; what counts is that something moves.
    this.#ofWrites = handler(0, writeTimeoutMs)
  }

  handle(request: HttpRequest, options?: HttpHandlerOptions): Promise<{ readonly response: HttpResponse }> {
    return this.#handlerOf(request).handle(request, options)
  }

  /**
   * Closes the connections at rest, after one has failed: what swallows one (a gateway that has forgotten it,
   * a server that is gone) has likely swallowed those beside it, and a retry is to get a fresh one.
   */
  closeIdle(): void {
    for (const { freeSockets } of this.#agents)
      for (const sockets of Object.values(freeSockets)) for (const socket of sockets ?? []) socket.destroy()
  }

  destroy(): void {
    for (const agent of this.#agents) agent.destroy()
  }

  // What the SDK asks of a handler that it may configure; this one is configured already.
  updateHttpClientConfig(): void {}
  httpHandlerConfigs(): Record<string, never> {
    return {}
  }

  #handlerOf({ method, query }: HttpRequest): NodeHttpHandler {
    if (method !== "GET" && method !== "HEAD") return this.#ofWrites
    return query !== undefined && "list-type" in query ? this.#ofListings : this.#ofObjects
  }
}
