/**
 * Which proxy stands between us and an address, and the agents that go through it. What does that is loaded
 * where there is one.
 */
import type { Agent as HttpAgent } from "node:http"
import type { AgentOptions, Agent as HttpsAgent } from "node:https"
import type { HttpsProxyAgent as Tunnel } from "https-proxy-agent"
import { invalidInput } from "../errors.js"

/**
 * The address of a proxy; `false` for none, whatever the environment says; absent: as the environment says.
 */
export type ProxySetting = string | false | undefined

const VARIABLES = ["https_proxy", "http_proxy", "all_proxy"]

/**
 * The proxy for `url`; `undefined` if there is none. Throws `InvalidInput` for one that is no http(s) URL.
 */
export async function proxyFor(url: string, setting: ProxySetting): Promise<string | undefined> {
  if (setting === false) return undefined
  if (setting !== undefined) return checked(setting, "option s3.proxy")
  if (!VARIABLES.some((name) => process.env[name] || process.env[name.toUpperCase()])) return undefined
  const { getProxyForUrl } = await import("proxy-from-env")
  const found = getProxyForUrl(url)
  return found === ""
    ? undefined
    : checked(found, "the proxy of the environment (HTTPS_PROXY, ALL_PROXY ...)")
}

// The address is not shown: it may hold a password.
function checked(proxy: string, what: string): string {
  if (/^https?:\/\//i.test(proxy) && URL.canParse(proxy)) return proxy
  const scheme = /^([a-z][a-z0-9+.-]*):\/\//i.exec(proxy)?.[1]
  const found = scheme === undefined ? "something else" : `${scheme}://...`
  throw invalidInput(`${what} must be an http:// or https:// URL, found ${found}`)
}

/** Agents that reach http:// and https:// addresses through a proxy. */
export async function proxyAgents(
  proxy: string,
  options: AgentOptions,
): Promise<readonly [HttpAgent, HttpsAgent]> {
  const [{ HttpProxyAgent }, { HttpsProxyAgent }] = await Promise.all([
    import("http-proxy-agent"),
    import("https-proxy-agent"),
  ])
  /** It hands its options to the connection with the proxy, but not to the one with the store. */
  class TunnelAgent extends HttpsProxyAgent<string> {
    override connect(...[request, target]: Parameters<Tunnel<string>["connect"]>) {
      const { ca } = options
      return super.connect(request, ca === undefined ? target : Object.assign({}, target, { ca }))
    }
  }
  return [new HttpProxyAgent(proxy, options), new TunnelAgent(proxy, options) as unknown as HttpsAgent]
}
