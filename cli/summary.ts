/** `--summary-file`: how a build ended, for schedulers. */
import { constants, lstat, open, rename, rm, writeFile } from "node:fs/promises"
import { resolve } from "node:path"
import { stringifyJson } from "../src/json.js"
import { errorCode } from "../src/storage/files.js"
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
  try {
    if (await isReplaceable(path)) await replaceFile(path, text)
    else await writeInto(path, text)
  } catch (error) {
    io.stderr.write(`warning: the summary file ${file} was not written (${errorCode(error)})\n`)
  }
}

/** Whether it is a file, or is to become one: not a device, a pipe, or a link, as /dev/stdout is. */
async function isReplaceable(path: string): Promise<boolean> {
  const info = await lstat(path).catch(() => undefined)
  return info === undefined || info.isFile()
}

/** Whoever reads it meanwhile sees the old one or the new one. */
async function replaceFile(path: string, text: string): Promise<void> {
  const aside = `${path}.${process.pid}.tmp`
  try {
    await writeFile(aside, text)
    await rename(aside, path)
  } catch {
    await rm(aside, { force: true }).catch(() => {})
    // A mounted file, such as /dev/termination-log, has no place beside it and can't be replaced.
    await writeFile(path, text)
  }
}

/** A pipe that nobody reads is an error (ENXIO), since nothing tells how long to wait for a reader. */
async function writeInto(path: string, text: string): Promise<void> {
  const { O_WRONLY, O_NONBLOCK, O_APPEND, O_TRUNC } = constants
  // What is behind a link outside of /dev and /proc is a file of the user's; what is printed already stays.
  const isPrinted = /^\/(dev|proc)\//.test(path)
  const handle = await open(path, O_WRONLY | O_NONBLOCK | (isPrinted ? O_APPEND : O_TRUNC))
  try {
    await handle.writeFile(text)
  } finally {
    await handle.close()
  }
}
