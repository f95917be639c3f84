/** Many messages: cut to the limits, sent in order, and only what needs it sent again. */
import { resultsOf, type Reply } from "./answers.js";
import {
  CrossfadeError,
  InvalidRequestError,
  NotSentError,
  ProblemError,
  TooLargeError,
} from "./errors.js";
import { paused, tried, type Connection } from "./exchange.js";
import type { Ack, BatchResult, NewMessage } from "./models.js";
import { pauseAfter, RETRIED, type Retry } from "./retry.js";

/** The most that one request may hold. */
export interface BatchLimits {
  items: number;
  /** Bytes of the whole body. */
  size: number;
}

/** The service's own. */
export const LIMITS: BatchLimits = { items: 1_000, size: 16 * 1024 * 1024 };

const PATH = "/api/messages:batch";
const LEAST = 50;
const UNKNOWN = /\/(outcome-unknown|internal)$/;

interface Item {
  place: number;
  body: string;
  maybeAccepted: boolean;
}

/**
 * Return a message as JSON. Half a surrogate pair in it is escaped, and the service refuses it.
 *
 * @throws TypeError its content is bytes
 */
export function encoded(message: NewMessage): string {
  if (typeof message.content !== "string") {
    throw new TypeError("the content is bytes, which no batch can hold; use send()");
  }
  return JSON.stringify({ ...described(message), content: message.content });
}

/** Return a message whose content is bytes as a form: its JSON, then its content. */
export function formOf(message: NewMessage, content: Uint8Array<ArrayBuffer>): FormData {
  const { contentType } = message;
  const kind = contentType === "text" ? "application/octet-stream" : contentType;
  const form = new FormData();
  form.append("message", JSON.stringify({ ...described(message), contentType: kind }));
  form.append("content", new Blob([content]));
  return form;
}

function described(message: NewMessage): Record<string, unknown> {
  const { conversationId, senderId, clientMessageId, contentType, recipientIds } = message;
  const body = { conversationId, senderId, clientMessageId, contentType };
  return recipientIds.length ? { ...body, recipientIds } : body;
}

/** Sends the messages of one call. */
export class Batch {
  private readonly outcomes: (Ack | CrossfadeError | undefined)[] = [];

  constructor(
    private readonly connection: Connection,
    private readonly headers: Readonly<Record<string, string>>,
    private readonly retry: Retry,
    private readonly limits: BatchLimits,
    private readonly signal?: AbortSignal,
  ) {}

  /**
   * Send `messages` in order, and return what became of each, in the same order.
   *
   * A request is sent after the one before it has its answer. If that does not come, the messages after
   * it are not sent: they would overtake.
   */
  async send(messages: readonly NewMessage[]): Promise<BatchResult[]> {
    const items = messages.map((one, place): Item => {
      return { place, body: encoded(one), maybeAccepted: false };
    });
    const waiting = [...cut(items, this.limits)].reverse();
    for (let next = waiting.pop(); next; next = waiting.pop()) {
      const [smaller, stoppedBy] = await this.settle(next);
      waiting.push(...smaller.reverse());
      if (stoppedBy) {
        this.leaveOut(waiting.flat(), stoppedBy);
        break;
      }
    }
    return messages.map((message, place): BatchResult => {
      const outcome = this.outcomes[place];
      return outcome instanceof CrossfadeError
        ? { message, error: outcome }
        : { message, ...(outcome ? { ack: outcome } : {}) };
    });
  }

  /** Send one request's messages until each has its outcome; or return them in parts. */
  private async settle(items: Item[]): Promise<[Item[][], CrossfadeError?]> {
    const ends = performance.now() + this.retry.deadlineMs;
    let left = items;
    for (let attempts = 0; ; ) {
      let results: (Ack | ProblemError)[];
      try {
        const reply = await this.reply(left, {
          ...this.retry,
          deadlineMs: Math.max(LEAST, ends - performance.now()),
          attempts: this.retry.attempts - attempts,
        });
        for (const one of left) {
          one.maybeAccepted ||= reply.maybeAccepted;
        }
        results = resultsOf(reply, left.length);
        attempts += reply.attempts;
      } catch (error) {
        if (!(error instanceof CrossfadeError)) {
          throw error;
        }
        return this.failed(left, error, attempts);
      }
      left = left.filter((one, n) => this.note(one, results[n], attempts));
      const errors = left.map((one) => this.outcomes[one.place]).filter(isProblem);
      const [first] = errors;
      if (!first) {
        return [[]];
      }
      const asked = Math.max(...errors.map((one) => one.retryAfterMs ?? 0));
      const pause = pauseAfter(this.retry, attempts, asked);
      if (attempts >= this.retry.attempts || performance.now() + pause >= ends) {
        return [[], first];
      }
      await paused(pause, this.signal);
    }
  }

  private reply(items: readonly Item[], retry: Retry): Promise<Reply> {
    const body = `[${items.map((one) => one.body).join(",")}]`;
    const call = { method: "POST" as const, path: PATH, headers: this.headers, body };
    return tried(this.connection, call, retry, this.signal);
  }

  /** Give the messages the error of their request; or return them in parts. */
  private failed(
    left: readonly Item[],
    error: CrossfadeError,
    attempts: number,
  ): [Item[][], CrossfadeError?] {
    for (const one of left) {
      one.maybeAccepted ||= error.maybeAccepted;
    }
    const much = tooMuch(error);
    if (much && left.length > 1) {
      const half = Math.floor(left.length / 2);
      return [[left.slice(0, half), left.slice(half)]];
    }
    error.attempts += attempts;
    error.maybeAccepted ||= left.some((one) => one.maybeAccepted);
    for (const one of left) {
      this.outcomes[one.place] = error;
    }
    return much ? [[]] : [[], error];
  }

  /** Note what became of a message; return whether to send it again. */
  private note(one: Item, result: Ack | ProblemError | undefined, attempts: number): boolean {
    this.outcomes[one.place] = result;
    if (!isProblem(result)) {
      return false;
    }
    one.maybeAccepted ||= UNKNOWN.test(result.type);
    result.attempts = attempts;
    result.maybeAccepted = one.maybeAccepted;
    return RETRIED.has(result.status);
  }

  private leaveOut(items: readonly Item[], cause: CrossfadeError): void {
    for (const one of items) {
      const text = "not sent: a message before it could not be sent";
      const error = new NotSentError(text, { cause });
      error.maybeAccepted = one.maybeAccepted; // by a request that was split afterwards
      this.outcomes[one.place] = error;
    }
  }
}

function isProblem(outcome: unknown): outcome is ProblemError {
  return outcome instanceof ProblemError;
}

/** Yield `items` in parts that one request may hold. A message too large for any is alone. */
function* cut(items: readonly Item[], limits: BatchLimits): Generator<Item[]> {
  let part: Item[] = [];
  let size = 2;
  for (const item of items) {
    const needed = utf8Length(item.body) + 1;
    if (part.length && (part.length >= limits.items || size + needed > limits.size)) {
      yield part;
      part = [];
      size = 2;
    }
    part.push(item);
    size += needed;
  }
  if (part.length) {
    yield part;
  }
}

const encoder = new TextEncoder();
const utf8Length = (text: string): number => encoder.encode(text).length;

/** Tell whether the request as a whole was too large: the service's limits can be lower. */
function tooMuch(error: CrossfadeError): boolean {
  return (
    error instanceof TooLargeError ||
    (error instanceof InvalidRequestError && error.field === "(body)")
  );
}
