/** Scenarios. */
export interface Scenario {
  readonly name: string
  /** Rejects if what must hold does not. */
  readonly play: () => Promise<void>
}

export const SCENARIOS: readonly Scenario[] = []
