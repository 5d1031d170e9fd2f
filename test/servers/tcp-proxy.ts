/**
 * What may stand between a client and a store: passes bytes on, until it is told to swallow those of the
 * connections that it has, as a gateway does that forgot them. They stay open; new ones work.
 */

import { type AddressInfo, connect, createServer, type Socket } from "node:net"
import { Transform } from "node:stream"

export interface TcpProxy {
  /** `http://127.0.0.1:<port>` */
  readonly endpoint: string
  /** Connections since the start. */
  readonly connections: number
  /** From now on nothing passes on the connections that there are. */
  swallow(): void
  /** From now on the connection that is answered first passes so many bytes to the client, and no more. */
  stallAfter(bytes: number): void
  close(): Promise<void>
}

/** Starts a proxy to a server, which is named by its `http://` address. */
export async function startTcpProxy(target: string): Promise<TcpProxy> {
  const { hostname, port } = new URL(target)
  const sockets = new Set<Socket>()
  let connections = 0
  let bytesLeft = Number.POSITIVE_INFINITY
  const answers = (): Transform =>
    new Transform({
      transform(chunk: Buffer, _, passed) {
        this.push(chunk.subarray(0, bytesLeft))
        bytesLeft -= chunk.length
        if (bytesLeft > 0) return passed()
        // Never passed on: this connection gets no further, others do.
        bytesLeft = Number.POSITIVE_INFINITY
      },
    })
  const server = createServer((client) => {
    connections++
    const upstream = connect(Number(port), hostname)
    client.pipe(upstream)
    upstream.pipe(answers()).pipe(client)
    for (const [socket, other] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      sockets.add(socket)
      socket.on("error", () => other.destroy())
      socket.on("close", () => {
        sockets.delete(socket)
        other.destroy()
      })
    }
  })
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
  return {
    endpoint: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    get connections() {
      return connections
    },
    stallAfter(bytes) {
      bytesLeft = bytes
    },
    swallow() {
      for (const socket of sockets) socket.unpipe().pause()
    },
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve())
        for (const socket of sockets) socket.destroy()
      }),
  }
}
