// Run as a child process by open.test.ts: reads standard input as the format given and prints what it found.

import { openSource } from "../../../src/sources/open.js"
import type { SourceFormat } from "../../../src/sources/registry.js"

const [format, mode] = process.argv.slice(2) as [SourceFormat, "once" | "twice" | "abort"]
const source = await openSource("-", { format })

async function read(signal?: AbortSignal): Promise<object> {
  const ids: unknown[] = []
  const files = new Set<string>()
  for await (const batch of source.read({ signal })) {
    ids.push(...batch.ids.values)
    files.add(batch.origin.file)
  }
  return { name: source.name, repeatable: source.repeatable, ids, files: [...files] }
}

try {
  let result = await read(mode === "abort" ? AbortSignal.timeout(50) : undefined)
  if (mode === "twice") result = await read()
  console.log(JSON.stringify(result))
} catch (error) {
  console.log(JSON.stringify({ error: (error as Error).message }))
}
