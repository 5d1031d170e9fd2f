/** `--summary-file`: how a build ended, for schedulers. */
import { rename, rm, writeFile } from "node:fs/promises"
import { resolve } from "node:path"
import { stringifyJson } from "../src/json.js"
import { errorDocument, exitCodeOf, reportedError } from "./error-report.js"
import { EXIT_OK } from "./exit-codes.js"
import type { Io } from "./io.js"

/**
 * Runs a command and writes what it returns, or how it failed, to the file that `file` names by then, if any:
 * the document of `--json` with `exitCode`. A file that can't be written is no failure of the command: it is
 * told on stderr.
 */
export async function withSummary<T extends object>(
  file: () => string | undefined,
  io: Io,
  command: () => Promise<T>,
): Promise<T> {
  try {
    const document = await command()
    await write(file(), { ...document, exitCode: EXIT_OK }, io)
    return document
  } catch (thrown) {
    const error = reportedError(thrown, io)
    await write(file(), { ...errorDocument(error), exitCode: exitCodeOf(error, io) }, io)
    throw thrown
  }
}

async function write(file: string | undefined, document: object, io: Io): Promise<void> {
  if (file === undefined) return
  const path = resolve(io.cwd, file)
  const text = `${stringifyJson(document, 2)}\n`
  const aside = `${path}.${process.pid}.tmp`
  try {
    // Whoever reads it meanwhile sees the old one or the new one.
    await writeFile(aside, text)
    await rename(aside, path)
  } catch {
    await rm(aside, { force: true }).catch(() => {})
    // A device or a mounted file, such as /dev/termination-log, has no place beside it and can't be replaced.
    await writeFile(path, text).catch((error) => {
      io.stderr.write(`warning: the summary file ${file} was not written (${error.code})\n`)
    })
  }
}
