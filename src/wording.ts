/** Words for messages, short whatever they are about: a message that fills the screen is not read. */

const SHOWN_LENGTH = 60
const SHOWN_ITEMS = 12

/** As much of a text as a message has room for. */
export function shortened(text: string, length = SHOWN_LENGTH): string {
  return text.length > length ? `${text.slice(0, length)}...` : text
}

/** Text in quotes, as much of it as a message has room for. */
export function quoted(text: string): string {
  return text.length > SHOWN_LENGTH
    ? `${JSON.stringify(text.slice(0, SHOWN_LENGTH))}...`
    : JSON.stringify(text)
}

/** Names in quotes, at most twelve and how many more there are; "none" if there are none. */
export function listOf(names: readonly string[], show: (name: string) => string = quoted): string {
  if (names.length === 0) return "none"
  const shown = names
    .slice(0, SHOWN_ITEMS)
    .map((name) => show(name))
    .join(", ")
  const more = names.length - SHOWN_ITEMS
  return more > 0 ? `${shown} and ${more} more` : shown
}

/** What kind of thing a value is: "a string", "an object", "a list", "null". */
export function kindOf(value: unknown): string {
  if (value === null || value === undefined) return String(value)
  return Array.isArray(value) ? "a list" : withArticle(typeof value)
}

/** The name of an option as the command line and `vecsnap.yaml` have it: "sampleRows" as "sample-rows". */
export const hyphened = (option: string): string =>
  option.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)

export const withArticle = (noun: string): string => `${/^[aeiou]/i.test(noun) ? "an" : "a"} ${noun}`

/** Bytes in words, rounded up. */
export const mib = (bytes: number): string => `${Math.ceil(bytes / 2 ** 20)} MiB`
