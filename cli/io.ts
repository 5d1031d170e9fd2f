import { stringifyJson } from "../src/json.js"

/**
 * What a command may touch of the process around it, so that tests can run commands with an output they
 * capture.
 */
export interface Io {
  readonly stdout: Output
  readonly stderr: Output
  readonly env: Readonly<Record<string, string | undefined>>
  /** Directory that `vecsnap.yaml` is looked for in. */
  readonly cwd: string
  /** Fires when the user asks to stop; its reason is then the name of the signal, "SIGINT" or "SIGTERM". */
  readonly signal: AbortSignal
}

/** The part of a writable stream that is used here; `process.stdout` fits. */
export interface Output {
  write(text: string): unknown
  /** Set on terminals only, as are `columns`. */
  readonly isTTY?: boolean
  readonly columns?: number
  /** Whether it escapes what could drive a terminal; see `printing`. */
  readonly escapes?: boolean
}

/**
 * Prints one JSON document on stdout: indented on a terminal, else on one line. Integers keep all their
 * digits.
 */
export const printJson = (io: Io, document: unknown): void => {
  io.stdout.write(`${stringifyJson(document, io.stdout.isTTY ? 2 : undefined)}\n`)
}
