/** The parent's side of `child-operator.ts`, and how to tell that a root is sound whatever they did to it. */
import { type ChildProcess, fork } from "node:child_process"
import { once } from "node:events"
import { expect } from "vitest"
import { type ObjectStore, type Reader, verifyRoot } from "../../src/index.js"
import type { FromOperator, Order, Outcome, ToOperator } from "./child-operator.js"
import { cliEnvironment } from "./cli.js"
import { GENERATION_DIM, GENERATION_ROWS, SHARED } from "./generations.js"
import { fromRoot } from "./paths.js"

/** One operation of an operator. */
export interface Job {
  readonly begun: Promise<void>
  /** True when it waits at its halt; false if it ended without getting there. */
  readonly waiting: Promise<boolean>
  /** "killed" if the process ended before the operation did. */
  readonly outcome: Promise<Outcome | "killed">
  /** Lets it go on from its halt. */
  proceed(): void
}

export interface Operator {
  readonly process: ChildProcess
  /** One job at a time. */
  start(order: Order): Job
  kill(): void
}

/** Starts an operator; resolves when it can take orders. */
export async function startOperator(): Promise<Operator> {
  const child = fork(fromRoot("dist/test/support/child-operator.js"), [], {
    env: cliEnvironment(),
    stdio: ["ignore", "inherit", "inherit", "ipc"],
  })
  await once(child, "message")
  const send = (message: ToOperator): void => void child.send(message)
  return {
    process: child,
    kill: () => void child.kill("SIGKILL"),
    start(order) {
      let onBegun = (): void => {}
      let onWaiting = (_waits: boolean): void => {}
      const begun = new Promise<void>((resolve) => {
        onBegun = resolve
      })
      const waiting = new Promise<boolean>((resolve) => {
        onWaiting = resolve
      })
      const outcome = new Promise<Outcome | "killed">((resolve) => {
        const end = (result: Outcome | "killed"): void => {
          child.off("message", onMessage)
          child.off("exit", onExit)
          onWaiting(false)
          resolve(result)
        }
        const onMessage = (message: FromOperator): void => {
          if (message.type === "begun") onBegun()
          if (message.type === "waiting") onWaiting(true)
          if (message.type === "outcome") end(message.outcome)
        }
        const onExit = (): void => end("killed")
        child.on("message", onMessage)
        child.on("exit", onExit)
      })
      send({ type: "order", order })
      return { begun, waiting, outcome, proceed: () => send({ type: "proceed" }) }
    },
  }
}

/**
 * The generation that is live. Fails unless the live snapshot is intact, content and all, every other one has all its files, and the
 * reader, once refreshed, gets from the live one all rows, of one generation.
 */
export async function soundGeneration(store: ObjectStore, reader: Reader): Promise<string> {
  for (const options of [{ deep: true }, { snapshot: "all" }])
    expect((await verifyRoot(store, options)).faults).toEqual([])
  await reader.refresh()
  return generationIn(reader)
}

/** The generation of the snapshot that a reader has open. Fails unless all rows are there, and of one generation. */
export async function generationIn(reader: Reader): Promise<string> {
  const { hits } = await reader.search(new Float32Array(GENERATION_DIM).fill(0.1), {
    k: GENERATION_ROWS,
    shards: "all",
  })
  expect(hits).toHaveLength(GENERATION_ROWS)
  const generations = new Set(hits.map(({ payload }) => payload).filter((payload) => payload !== SHARED))
  expect(generations.size).toBe(1)
  return String([...generations][0])
}
