/** Spans through the OpenTelemetry API, which does nothing unless the application has set up an SDK. */
import { type Attributes, type Span, SpanStatusCode, type Tracer, trace } from "@opentelemetry/api"
import { type ErrorTag, isVecsnapError, messageOf } from "./errors.js"
import { VERSION } from "./version.js"

/** Name of our tracer and meter. */
export const SCOPE = "vecsnap"

/** The tag of an error of ours; `Unexpected` for any other. */
export type FailureTag = ErrorTag | "Unexpected"

export const tagOf = (error: unknown): FailureTag => (isVecsnapError(error) ? error.tag : "Unexpected")

export const tracer = (): Tracer => trace.getTracer(SCOPE, VERSION)

/** Runs `work` in the span `vecsnap.<operation>`, which has the error's tag if it fails. */
export function inSpan<T>(
  operation: string,
  attributes: Attributes,
  work: (span: Span) => Promise<T>,
): Promise<T> {
  return tracer().startActiveSpan(`vecsnap.${operation}`, { attributes }, async (span) => {
    try {
      return await work(span)
    } catch (error) {
      markFailed(span, error)
      throw error
    } finally {
      span.end()
    }
  })
}

export function markFailed(span: Span, error: unknown): void {
  span.setAttribute("error.type", tagOf(error))
  span.setStatus({ code: SpanStatusCode.ERROR, message: messageOf(error) })
}
