/** A proxy as companies have it: passes on requests for http:// addresses, and makes tunnels to https:// ones. */
import { createServer, type IncomingMessage, request as send } from "node:http"
import { type AddressInfo, connect, type Socket } from "node:net"

export interface HttpProxy {
  /** `http://127.0.0.1:<port>` */
  readonly url: string
  /** "GET http://host:port/path" and "CONNECT host:port", with the user that the proxy was told, if any. */
  readonly seen: readonly string[]
  close(): Promise<void>
}

/** Starts a proxy; with `user` one that answers 407, with a page, to whoever is not that one ("name:password"). */
export async function startHttpProxy({ user }: { readonly user?: string } = {}): Promise<HttpProxy> {
  const seen: string[] = []
  const sockets = new Set<Socket>()
  const isWelcome = ({ method, url, headers }: IncomingMessage): boolean => {
    const given = Buffer.from(
      headers["proxy-authorization"]?.slice("Basic ".length) ?? "",
      "base64",
    ).toString()
    seen.push([method, url, given].filter(Boolean).join(" "))
    return user === undefined || given === user
  }
  const PAGE = "<html><p>Who are you?</html>"
  const server = createServer((request, response) => {
    if (!isWelcome(request)) return void response.writeHead(407, { "content-type": "text/html" }).end(PAGE)
    const { method, url, headers } = request
    const onward = send(url!, { method, headers }, (answer) => {
      response.writeHead(answer.statusCode!, answer.headers)
      answer.pipe(response)
    })
    request.pipe(onward)
  })
  server.on("connection", (socket) => {
    sockets.add(socket)
  })
  server.on("connect", (request: IncomingMessage, client: Socket) => {
    if (!isWelcome(request)) {
      const length = Buffer.byteLength(PAGE)
      return void client.end(
        `HTTP/1.1 407 Who\r\ncontent-type: text/html\r\ncontent-length: ${length}\r\n\r\n${PAGE}`,
      )
    }
    const [host, port] = request.url!.split(":")
    const upstream = connect(Number(port), host!, () => {
      client.write("HTTP/1.1 200 Connection established\r\n\r\n")
      upstream.pipe(client).pipe(upstream)
    })
    sockets.add(upstream)
    upstream.on("error", () => client.destroy())
    client.on("error", () => upstream.destroy())
  })
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    seen,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve())
        for (const socket of sockets) socket.destroy()
      }),
  }
}
