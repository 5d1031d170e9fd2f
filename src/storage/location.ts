/**
 * What the text that names a place means: the URL of a store, or a path. Pure.
 *
 * A text that some other program would have understood (a shell its `~`, a tool its `arn:`) is refused with
 * what to write instead. Taken for a path, it would become a new directory, and a build into it a success.
 */
import { homedir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { invalidInput, type VecsnapError } from "../errors.js"
import { assertPrefix } from "./rules.js"

/** Where a store is. */
export type StoreLocation =
  | { readonly kind: "file"; readonly directory: string }
  | { readonly kind: "s3"; readonly bucket: string; readonly prefix: string }
  | { readonly kind: "memory"; readonly name: string }

/**
 * Reads the URL of a store: `s3://bucket/prefix`, `file:///directory`, `memory://name`, or a path. Throws
 * `InvalidInput` for anything else, and for URLs with a user name, a password or a query, which it does not
 * repeat.
 */
export function parseStoreUrl(url: string, platform: NodeJS.Platform = process.platform): StoreLocation {
  const [, scheme, rest] = /^(s3|file|memory):(.*)$/is.exec(url) ?? []
  const fault = scheme === undefined ? pathFault(url, platform) : edgeFault(url)
  if (fault !== undefined) throw faulty("a store's URL or path", url, fault)
  if (scheme === undefined || rest === undefined) return { kind: "file", directory: url }
  const authority = /^\/\/([^/]*)/.exec(rest)?.[1] ?? ""
  if (authority.includes("@") || /[?#]/.test(rest)) {
    throw invalidInput(
      `a ${scheme}:// URL must not have a user name, a password, "?" or "#"; use options for these`,
    )
  }
  switch (scheme.toLowerCase()) {
    case "s3":
      return parseS3(url, rest)
    case "file":
      return parseFile(url, rest)
    default:
      return parseMemory(url, rest)
  }
}

/** Throws `InvalidInput`, naming the option, for the name of a directory that is rather something else. */
export function assertLocalPath(option: string, path: string, platform = process.platform): void {
  const fault = pathFault(path, platform)
  if (fault !== undefined) throw faulty(`option ${option}`, path, fault)
}

const faulty = (what: string, text: string, fault: string): VecsnapError =>
  // Something else than ours may hold a password anywhere.
  invalidInput(`${what} is ${JSON.stringify(masked(text))}: ${fault}`, { got: masked(text) })

/** Why a text is no path, with what to write; `undefined` if it is one. */
function pathFault(text: string, platform: NodeJS.Platform): string | undefined {
  const edge = edgeFault(text)
  if (edge !== undefined) return edge
  if (text.startsWith("~")) return homeFault(text)
  if (/^\$(\w|\{)/.test(text)) return "it begins with a variable that was not replaced; write its value"
  const [, scheme, rest = ""] = /^([a-z][a-z0-9+.-]*):(.*)$/is.exec(text) ?? []
  if (scheme !== undefined) return schemeFault(scheme.toLowerCase(), rest, text, platform)
  const [, path] = /^s3\/\/(.*)$/i.exec(text) ?? []
  return path === undefined ? undefined : `write s3://${path}`
}

/** What is wrong at the edges of a text, whatever is between them. */
function edgeFault(text: string): string | undefined {
  if (text === "") return "it must not be empty"
  if (text.includes("\0")) return "it must not hold a zero byte"
  if (text.trim() !== text) return "it begins or ends with white space; leave that out"
  if (/^["'`]|["'`]$/.test(text)) return "it begins or ends with quotation marks; leave them out"
  return undefined
}

function homeFault(text: string): string {
  const [, below] = /^~(?:\/(.*))?$/s.exec(text) ?? []
  const full = /^~(\/|$)/.test(text) ? `: ${join(homedir(), below ?? "")}` : ""
  return `"~" is replaced by shells only, and only outside of quotation marks; write it in full${full}`
}

/** Why something that begins with a scheme, such as "https:", names no directory. */
function schemeFault(
  scheme: string,
  rest: string,
  text: string,
  platform: NodeJS.Platform,
): string | undefined {
  if (scheme.length === 1) return platform === "win32" ? undefined : "that is a path of Windows"
  const known = "a store is at s3://, file:// or memory://, or a path"
  switch (scheme) {
    case "s3a":
    case "s3n":
      return `write s3:${rest}`
    case "arn": {
      const [, resource] = /^[^:]*:s3:::(.+)$/.exec(rest) ?? []
      return `a bucket is named by its URL; write s3://${resource ?? "bucket/prefix"}`
    }
    case "http":
    case "https":
      return `${known}; write s3://bucket/prefix: an endpoint of its own is an option`
    default:
      if (rest.startsWith("//")) return known
      return `${known}; for a directory of that name write ./${masked(text)}`
  }
}

function parseS3(url: string, rest: string): StoreLocation {
  const [, bucket, path] = /^\/\/([A-Za-z0-9][A-Za-z0-9._-]{1,254})(?:\/(.*))?$/s.exec(rest) ?? []
  if (bucket === undefined)
    throw invalidInput(`an S3 URL must look like s3://bucket/prefix, got ${masked(url)}`, {
      got: masked(url),
    })
  const prefix = path?.replace(/\/$/, "") ?? ""
  if (prefix !== "") assertPrefix(`${prefix}/`)
  return { kind: "s3", bucket, prefix }
}

function parseFile(url: string, rest: string): StoreLocation {
  try {
    // "file:name" would be the directory /name.
    if (rest.startsWith("/")) return { kind: "file", directory: fileURLToPath(url) }
  } catch {
    // Told below.
  }
  throw invalidInput(`a file URL must look like file:///directory, got ${masked(url)}`, { got: masked(url) })
}

function parseMemory(url: string, rest: string): StoreLocation {
  const [, name] = /^\/\/(.+?)\/?$/s.exec(rest) ?? []
  if (name === undefined)
    throw invalidInput(`a memory URL must look like memory://name, got ${masked(url)}`, { got: masked(url) })
  return { kind: "memory", name }
}

/** A URL that is wrong, for a message; without what may be a password or a signature. */
const masked = (url: string): string => url.replace(/:[^@]*@/s, ":…@").replace(/\?.*/s, "?…")
