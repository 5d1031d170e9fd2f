/**
 * What a regular expression may cost, told from its text.
 *
 * RE2 never backtracks: it takes time in proportion to its program and the text. But counted repetition is
 * written out in the program, so that a few hundred characters may make one of a million steps, before any
 * text is looked at.
 */

/** A class of Unicode (`\pL`) has some hundred ranges. */
const UNICODE_CLASS_COST = 20
/** Without regard to case, RE2 looks for the other cases of every character of a class. */
const FOLDED_CLASS_COST = 500

const COUNTED = /\{(\d+)(?:,(\d*))?\}/y

/**
 * About how many instructions a pattern compiles to, never fewer: the sum over its parts, each times the
 * counts of the repetitions around it. Any text will do; if it is no pattern, so will any number.
 */
export function patternCost(pattern: string): number {
  const ignoresCase = /\(\?[a-zA-Z-]*i/.test(pattern)
  /** Of the groups that are open: what came before in them. */
  const outer: number[] = []
  let sum = 1
  /** The latest part: what a repetition after it applies to. */
  let part = 0
  let place = 0

  const add = (cost: number, length: number): void => {
    sum += part
    part = cost
    place += length
  }

  while (place < pattern.length) {
    switch (pattern[place]) {
      case "\\":
        add(/[pP]/.test(pattern[place + 1] ?? "") ? UNICODE_CLASS_COST : 1, 2)
        break
      case "[": {
        const length = classLength(pattern, place)
        add(classCost(pattern.slice(place, place + length), ignoresCase), length)
        break
      }
      case "(":
        add(0, 1)
        outer.push(sum)
        sum = 2
        break
      case ")":
        part += sum
        sum = outer.pop() ?? 0
        place++
        break
      case "{": {
        COUNTED.lastIndex = place
        const [text, least, most] = COUNTED.exec(pattern) ?? []
        if (text === undefined) {
          add(1, 1)
        } else {
          part = Math.max(1, part) * Math.max(1, Number(least), Number(most ?? 0) || 0)
          place += text.length
        }
        break
      }
      default:
        add(1, 1)
    }
  }
  return outer.reduce((total, before) => total + before, sum + part)
}

/**
 * Characters of the class that begins at `start`: up to its bracket, which is a member where it comes first.
 */
function classLength(pattern: string, start: number): number {
  let end = start + (pattern[start + 1] === "^" ? 2 : 1)
  if (pattern[end] === "]") end++
  while (end < pattern.length && pattern[end] !== "]") {
    const isNamed = pattern[end] === "[" && pattern[end + 1] === ":" && pattern.includes(":]", end)
    if (isNamed) end = pattern.indexOf(":]", end) + 2
    else end += pattern[end] === "\\" ? 2 : 1
  }
  return end + 1 - start
}

function classCost(text: string, ignoresCase: boolean): number {
  const unicode = text.match(/\\[pP]/g)?.length ?? 0
  // Ranges of other than ASCII may be wide.
  const isWide = /\\[x0-9]|[^\0-\x7f]/.test(text)
  return text.length + unicode * UNICODE_CLASS_COST + (ignoresCase && isWide ? FOLDED_CLASS_COST : 0)
}
