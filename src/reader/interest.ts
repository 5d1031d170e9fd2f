/**
 * Who waits for what. Opening a shard is shared by all who need it, so that no caller's signal may stop it; when the
 * last of them has left, it stops.
 */
export interface Interest {
  /** Fires when nobody waits any more. */
  readonly signal: AbortSignal
  /** No longer waits. Idempotent. */
  leave(): void
}

export interface Interests {
  /** Waits for `key`, with all who do already. */
  join(key: string): Interest
}

export function createInterests(): Interests {
  const groups = new Map<string, { readonly controller: AbortController; members: number }>()
  return {
    join(key) {
      const group = groups.get(key) ?? { controller: new AbortController(), members: 0 }
      groups.set(key, group)
      group.members++
      let isMember = true
      return {
        signal: group.controller.signal,
        leave() {
          if (!isMember) return
          isMember = false
          if (--group.members > 0) return
          groups.delete(key)
          group.controller.abort()
        },
      }
    },
  }
}
