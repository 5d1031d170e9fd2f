/**
 * `runs/<run>.json`: tells people and tools what a run is doing or how it ended. Nothing depends on it.
 */
import { hostname } from "node:os"
import { isVecsnapError, messageOf } from "../errors.js"
import { stringifyJson } from "../json.js"
import type { Logger } from "../logger.js"
import { runKey } from "../manifest/keys.js"
import type { ObjectStore } from "../storage/store.js"
import { VERSION } from "../version.js"

export type RunState = "running" | "succeeded" | "failed"

export interface RunRecorder {
  /** Writes the run's state. Best effort: a failure is logged, and neither delays nor fails the build. */
  write(state: RunState, facts?: { readonly manifest?: string; readonly error?: unknown }): Promise<void>
}

export function createRunRecorder(
  store: ObjectStore,
  run: string,
  startedAt: Date,
  logger: Logger,
): RunRecorder {
  return {
    async write(state, { manifest, error } = {}) {
      const record = {
        format: "vecsnap-run",
        version: 1,
        run,
        state,
        startedAt: startedAt.toISOString(),
        updatedAt: new Date().toISOString(),
        host: hostname(),
        pid: process.pid,
        tool: `vecsnap ${VERSION}`,
        manifest: manifest ?? null,
        error: error === undefined ? null : describeError(error),
      }
      try {
        await store.put(runKey(run), Buffer.from(stringifyJson(record, 2)), {
          contentType: "application/json",
        })
      } catch (cause) {
        logger.warn({ run, state, error: String(cause) }, "run record not written")
      }
    },
  }
}

function describeError(error: unknown): { tag: string; message: string } {
  const message = messageOf(error)
  return { tag: isVecsnapError(error) ? error.tag : "Unexpected", message }
}
