/** One request, tried until it is answered, can't be, or the time is up. */
import { problemOf, reasonOf, type Reply } from "./answers.js";
import {
  CrossfadeError,
  NoAnswerError,
  ProblemError,
  UnexpectedAnswerError,
  UnreachableError,
} from "./errors.js";
import { pauseAfter, RETRIED, type Retry } from "./retry.js";

/** One request, the same on every attempt. */
export interface Call {
  method: "GET" | "POST";
  path: string;
  headers: Readonly<Record<string, string>>;
  body?: string | FormData;
  /** Whether the answer is bytes, and may be where the service leads: at the payload store. */
  bytes?: boolean;
}

/** How requests are made. */
export interface Connection {
  baseUrl: string;
  headers: Readonly<Record<string, string>>;
  timeoutMs: number;
  fetch: typeof globalThis.fetch;
}

const LEAST = 50;
/** What a timer can wait: one of more milliseconds ends at once. */
const LONGEST_TIMER = 2 ** 31 - 1;
/** Problem types that promise that nothing of the request was taken. */
const NOT_ENQUEUED = new Set([
  "overloaded",
  "too-many-connections",
  "log-unavailable",
  "payloads-unavailable",
]);
/** Causes, as Node and Bun name them, of a connection that was never made. */
const NEVER_SENT = new Set([
  "ECONNREFUSED",
  "ENOTFOUND",
  "EAI_AGAIN",
  "EHOSTUNREACH",
  "ENETUNREACH",
  "UND_ERR_CONNECT_TIMEOUT",
  "ConnectionRefused",
]);
/** System calls that read or write on a connection that was made. */
const ON_A_CONNECTION = /^(?:read|write)/;
/** Certificates that are not trusted: a retry does not make them so. */
const DISTRUSTED = /CERT|_ISSUER|UNABLE_TO_VERIFY/;

/** A request without an answer. */
class Failure {
  constructor(
    readonly error: unknown,
    readonly sent: boolean,
    readonly lasting: boolean,
  ) {}
}

/**
 * Return the first answer that is no error, trying again where that may help.
 *
 * @throws CrossfadeError the last attempt's: a retry can't help, or there is no time for one.
 * @throws what `signal` was aborted with.
 */
export async function tried(
  connection: Connection,
  call: Call,
  retry: Retry,
  signal?: AbortSignal,
): Promise<Reply> {
  const ends = performance.now() + retry.deadlineMs;
  let maybe = false;
  for (let attempts = 1; ; attempts++) {
    const left = Math.max(LEAST, ends - performance.now());
    const outcome = await exchanged(connection, call, Math.min(connection.timeoutMs, left), signal);
    if (!(outcome instanceof Failure) && outcome.status >= 200 && outcome.status < 300) {
      return { ...outcome, attempts, maybeAccepted: maybe };
    }
    const [error, again] = judged(outcome);
    maybe ||= maybeAccepted(outcome, error);
    error.attempts = attempts;
    error.maybeAccepted = maybe;
    const asked = error instanceof ProblemError ? error.retryAfterMs : undefined;
    const pause = pauseAfter(retry, attempts, asked);
    if (!again || attempts >= retry.attempts || performance.now() + pause >= ends) {
      throw error;
    }
    await paused(pause, signal);
  }
}

/** Return after so many milliseconds; throws what `signal` is aborted with. */
export async function paused(milliseconds: number, signal?: AbortSignal): Promise<void> {
  let left = milliseconds;
  for (; left > LONGEST_TIMER; left -= LONGEST_TIMER) {
    await timer(LONGEST_TIMER, signal);
  }
  await timer(left, signal);
}

async function timer(milliseconds: number, signal?: AbortSignal): Promise<void> {
  signal?.throwIfAborted();
  await new Promise<void>((resolve, reject) => {
    const abort = (): void => {
      clearTimeout(running);
      reject(signal?.reason);
    };
    const running = setTimeout(() => {
      signal?.removeEventListener("abort", abort);
      resolve();
    }, milliseconds);
    signal?.addEventListener("abort", abort, { once: true });
  });
}

async function exchanged(
  connection: Connection,
  call: Call,
  timeoutMs: number,
  signal?: AbortSignal,
): Promise<Reply | Failure> {
  signal?.throwIfAborted();
  // Not AbortSignal.any: Node 22 keeps some 200 bytes of each at a signal, as long as that lives.
  const ending = new AbortController();
  const forget = signal && onAbort(signal, () => ending.abort(signal.reason));
  const late = new DOMException("The operation was aborted due to timeout", "TimeoutError");
  const wait = Math.min(Math.ceil(timeoutMs), LONGEST_TIMER);
  const running = setTimeout(() => ending.abort(late), wait);
  try {
    const response = await connection.fetch(connection.baseUrl + call.path, {
      method: call.method,
      headers: { ...connection.headers, ...call.headers },
      redirect: call.bytes ? "follow" : "manual",
      signal: ending.signal,
      ...(call.body === undefined ? {} : { body: call.body }),
    });
    const { status, headers, redirected } = response;
    const reply = { status, headers, redirected, text: "", attempts: 1, maybeAccepted: false };
    if (call.bytes && response.ok) {
      return { ...reply, bytes: new Uint8Array(await response.arrayBuffer()) };
    }
    return { ...reply, text: await response.text() };
  } catch (error) {
    if (signal?.aborted) {
      throw signal.reason;
    }
    const { code, syscall } = causeOf(error);
    const distrusted = DISTRUSTED.test(code);
    // A kernel may also report an unreachable host to a connection that has sent a request.
    const neverSent = NEVER_SENT.has(code) && !ON_A_CONNECTION.test(syscall);
    return new Failure(error, !neverSent && !distrusted, distrusted);
  } finally {
    clearTimeout(running);
    forget?.();
  }
}

const calls = new WeakMap<AbortSignal, Set<() => void>>();

/**
 * Act when a signal is aborted, until the function that is returned is called.
 *
 * All calls share one listener: Node warns of more than ten.
 */
function onAbort(signal: AbortSignal, act: () => void): () => void {
  const acts = calls.get(signal) ?? new Set();
  if (!calls.has(signal)) {
    calls.set(signal, acts);
    signal.addEventListener("abort", () => acts.forEach((one) => one()), { once: true });
  }
  acts.add(act);
  return () => acts.delete(act);
}

/** Return what the runtime calls the cause of an error; empty texts where it does not tell. */
function causeOf(error: unknown): { code: string; syscall: string } {
  for (let one: unknown = error, depth = 0; one instanceof Error && depth < 5; depth++) {
    const { code, syscall } = one as { code?: unknown; syscall?: unknown };
    if (typeof code === "string" && code) {
      return { code, syscall: typeof syscall === "string" ? syscall : "" };
    }
    one = one.cause;
  }
  return { code: "", syscall: "" };
}

function judged(outcome: Reply | Failure): [CrossfadeError, boolean] {
  if (outcome instanceof Failure) {
    const Kind = outcome.sent ? NoAnswerError : UnreachableError;
    return [new Kind(said(outcome.error), { cause: outcome.error }), !outcome.lasting];
  }
  if (outcome.status >= 400) {
    return [problemOf(outcome), RETRIED.has(outcome.status)];
  }
  return [new UnexpectedAnswerError(reasonOf(outcome), outcome.status), false];
}

function said(error: unknown): string {
  const parts: string[] = [];
  for (let one: unknown = error, depth = 0; one instanceof Error && depth < 5; depth++) {
    parts.push(one.message || causeOf(one).code || one.name);
    one = one.cause;
  }
  return parts.join(": ") || String(error);
}

/** Tell whether the service may have taken what it was sent. */
function maybeAccepted(outcome: Reply | Failure, error: CrossfadeError): boolean {
  if (outcome instanceof Failure) {
    return outcome.sent;
  }
  if (outcome.status < 500 || !(error instanceof ProblemError)) {
    return false;
  }
  return !(outcome.status === 503 && NOT_ENQUEUED.has(error.type.split("/").at(-1) ?? ""));
}
