/** Listeners of a reader. What they throw is logged: it must not fail what the reader does. */
import type { Logger } from "../../logger.js"
import type { ReaderEvents, ReaderListener } from "../types.js"

export interface EventEmitter {
  on<Event extends keyof ReaderEvents>(event: Event, listener: ReaderListener<Event>): void
  off<Event extends keyof ReaderEvents>(event: Event, listener: ReaderListener<Event>): void
  emit<Event extends keyof ReaderEvents>(event: Event, facts: ReaderEvents[Event]): void
}

export function createEvents(logger: Logger): EventEmitter {
  const listeners: { readonly [Event in keyof ReaderEvents]: Set<ReaderListener<Event>> } = {
    refreshed: new Set(),
    "refresh-failed": new Set(),
  }
  return {
    on: (event, listener) => void listeners[event].add(listener),
    off: (event, listener) => void listeners[event].delete(listener),
    emit(event, facts) {
      for (const listener of [...listeners[event]]) {
        try {
          listener(facts)
        } catch (error) {
          logger.error({ err: error, event }, "a listener has thrown")
        }
      }
    },
  }
}
