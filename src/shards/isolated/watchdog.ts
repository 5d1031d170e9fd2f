/**
 * A thread beside those that read shards, which ends the process when it holds too much memory, or when the
 * process that started it is gone: the others may be within native code and see neither.
 */
import { writeSync } from "node:fs"
import { workerData } from "node:worker_threads"

const EVERY_MS = 50
const STDERR = 2

const { memoryBytes, parent } = workerData as { readonly memoryBytes: number; readonly parent: number }

setInterval(() => {
  const held = process.memoryUsage.rss()
  if (held > memoryBytes) end(`it held ${held} bytes of memory, expected at most ${memoryBytes}`)
  // Windows keeps the number of a parent that is gone; there the end of the channel has to do.
  if (process.platform !== "win32" && process.ppid !== parent) end("its parent is gone")
}, EVERY_MS)

function end(reason: string): void {
  try {
    writeSync(STDERR, `${reason}\n`)
  } finally {
    process.kill(process.pid, "SIGKILL")
  }
}
