/** The trace context that goes with a request: the caller's, or OpenTelemetry's active one. */
import type { TraceContext } from "./models.js";

/** What @opentelemetry/api registers of itself, as far as it is used here. */
interface OpenTelemetry {
  context?: { active(): unknown };
  propagation?: {
    inject(context: unknown, carrier: Record<string, string>, setter: typeof SETTER): void;
  };
}

// Where every copy of @opentelemetry/api 1.x keeps what was registered, so that copies agree.
const API = Symbol.for("opentelemetry.js.api.1");
const PASSED_ON = new Set(["traceparent", "tracestate"]);
const SETTER = {
  set(carrier: Record<string, string>, name: string, value: string): void {
    if (PASSED_ON.has(name.toLowerCase())) {
      carrier[name] = value;
    }
  },
};

/** Return `traceparent` and `tracestate` for a request, as far as there are any. */
export function traceHeaders(given: TraceContext | undefined): Record<string, string> {
  if (given) {
    const { traceparent, tracestate } = given;
    return tracestate ? { traceparent, tracestate } : { traceparent };
  }
  const api = (globalThis as Record<symbol, OpenTelemetry | undefined>)[API];
  const carrier: Record<string, string> = {};
  if (api?.context && api.propagation) {
    api.propagation.inject(api.context.active(), carrier, SETTER);
  }
  return carrier;
}
