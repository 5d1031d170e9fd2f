/** The files of this repository, as tests of its tidiness read them. */
import { execFileSync } from "node:child_process"
import { existsSync, readFileSync } from "node:fs"
import { fromRoot } from "../support/paths.js"

/** Paths of all files that git tracks, or would: those in this working tree that it does not ignore. */
export function repositoryFiles(): string[] {
  const args = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"]
  const listed = execFileSync("git", args, { cwd: fromRoot(), encoding: "utf8" })
  return [...new Set(listed.split("\0"))].filter((path) => path !== "" && existsSync(fromRoot(path))).sort()
}

export const readSource = (path: string): string => readFileSync(fromRoot(path), "utf8")

/** TypeScript files below the given folders. */
export const typescriptFiles = (...folders: readonly string[]): string[] =>
  repositoryFiles().filter(
    (path) => path.endsWith(".ts") && folders.some((folder) => path.startsWith(`${folder}/`)),
  )

export interface CommentLine {
  /** From 1. */
  readonly line: number
  /** The whole line. */
  readonly text: string
  /** What the comment says on it. */
  readonly says: string
}

/** Lines of a TypeScript file that hold a comment, alone or behind code. */
export function commentLines(source: string): CommentLine[] {
  return source.split("\n").flatMap((text, index) => {
    const says = /^\s*(?:\/\/|\/\*|\*(?=[\s/]|$))(.*)/.exec(text)?.[1] ?? /\s\/\/ (.*)$/.exec(text)?.[1]
    return says === undefined ? [] : [{ line: index + 1, text, says }]
  })
}
