/**
 * Exit codes of the command line: one per error tag, so that scripts can tell what to do next.
 *
 * | code | tag            | what happened                                                  |
 * | ---- | -------------- | -------------------------------------------------------------- |
 * | 0    |                | done                                                           |
 * | 1    |                | an error that vecsnap did not foresee                          |
 * | 2    | `InvalidInput` | a flag, setting, record or query is wrong                      |
 * | 3    | `NotFound`     | no snapshot, record or object there                            |
 * | 4    | `Conflict`     | someone else published meanwhile                               |
 * | 5    | `GateRefused`  | a condition for publishing does not hold                       |
 * | 6    | `Corrupt`      | stored data is damaged                                         |
 * | 7    | `Unavailable`  | the store or the machine fails; retry later, or mend what it says |
 * | 8    | `Unsupported`  | not possible with this store, version, snapshot or installation |
 * | 9    | `Closed`       | used after it was closed                                       |
 * | 10   |                | `vecsnap health`: degraded                                     |
 * | 11   |                | `vecsnap health`: unhealthy                                    |
 * | 130  | `Aborted`      | stopped by SIGINT (Ctrl-C); 143 if by SIGTERM, 129 by SIGHUP   |
 *
 * Monitors know 1 for a warning and 2 for what is critical, but these have a meaning here already: a mistyped
 * flag must not look like a sick snapshot. docs/operations.md has the line that maps the codes.
 */
import type { ErrorTag } from "../src/index.js"

export const EXIT_OK = 0
export const EXIT_UNEXPECTED = 1
export const EXIT_DEGRADED = 10
export const EXIT_UNHEALTHY = 11

export const EXIT_CODES: Readonly<Record<ErrorTag, number>> = {
  InvalidInput: 2,
  NotFound: 3,
  Conflict: 4,
  GateRefused: 5,
  Corrupt: 6,
  Unavailable: 7,
  Unsupported: 8,
  Closed: 9,
  Aborted: 130,
}

const SIGNALS = { SIGHUP: 129, SIGINT: 130, SIGTERM: 143 } as const
/** Exit code after a signal: 128 + its number, as shells have it. */
export const signalExitCode = (signal: unknown): number => SIGNALS[signal as keyof typeof SIGNALS] ?? 130

/** The table above for `vecsnap --help`. */
export const EXIT_CODES_HELP = `Exit codes:
  0 done               5 GateRefused       10 health: degraded
  1 unexpected error   6 Corrupt           11 health: unhealthy
  2 InvalidInput       7 Unavailable      130 stopped by SIGINT
  3 NotFound           8 Unsupported      143 stopped by SIGTERM
  4 Conflict           9 Closed           129 stopped by SIGHUP`
