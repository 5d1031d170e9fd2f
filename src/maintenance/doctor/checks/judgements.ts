/** The words in which checks judge. */
import type { Judgement } from "../diagnosis.js"

export const ok = (finding: string): Judgement => ({ verdict: "ok", finding })
export const warning = (finding: string, meaning: string): Judgement => ({
  verdict: "warning",
  finding,
  meaning,
})
export const failed = (finding: string, meaning: string): Judgement => ({
  verdict: "failed",
  finding,
  meaning,
})

/** How many of the items are so. */
export const count = <T>(items: readonly T[], is: (item: T) => boolean): number => items.filter(is).length
