/** What commands print that have moved the pointer. */
import type { Published } from "../src/index.js"
import type { Io } from "./io.js"
import { paintFor } from "./render.js"

export const publishedDocument = (url: string, { publication, replaced }: Published): object => ({
  url,
  run: publication.run,
  manifest: publication.manifest,
  number: publication.number,
  action: publication.action,
  publishedAt: publication.publishedAt.toISOString(),
  signedBy: publication.signedBy ?? [],
  replaced: replaced ?? null,
})

/** One line: what was done to which snapshot, and what was live before. */
export function renderPublished(
  done: string,
  url: string,
  { publication, replaced }: Published,
  io: Io,
): string {
  const paint = paintFor(io.stdout, io.env)
  const { run } = publication
  if (replaced === run) return `snapshot ${paint.bold(run)} is live already at ${url}\n`
  const before = replaced === undefined ? "nothing was live before" : `before, run ${replaced} was live`
  return `${paint.green(done)} ${paint.bold(`snapshot ${run}`)} at ${url}; ${before}\n`
}
