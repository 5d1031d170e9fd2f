import type { Io } from "../../../cli/io.js"

export interface Captured extends Io {
  /** Everything written so far. */
  out(): string
  err(): string
}

/** An environment for commands whose output is kept; a terminal of `columns` if that is given. */
export function captureIo({
  columns,
  ...overrides
}: Partial<Io> & { readonly columns?: number } = {}): Captured {
  const written = { out: "", err: "" }
  const output = (name: "out" | "err") => ({
    write: (text: string): void => {
      written[name] += text
    },
    ...(columns === undefined ? {} : { isTTY: true, columns }),
  })
  return {
    stdout: output("out"),
    stderr: output("err"),
    env: {},
    cwd: "/nowhere",
    signal: new AbortController().signal,
    ...overrides,
    out: () => written.out,
    err: () => written.err,
  }
}
