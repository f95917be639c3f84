import { ackOf, contentOf, messageOf, pageOf, receiptAckOf, receiptsOf } from "./answers.js";
import { Batch, encoded, formOf, LIMITS, type BatchLimits } from "./batches.js";
import {
  DeadLetteredError,
  NoAnswerError,
  NotFoundError,
  UnavailableError,
  UnreachableError,
  WaitTimeoutError,
  type CrossfadeError,
} from "./errors.js";
import { paused, tried, type Call, type Connection } from "./exchange.js";
import type {
  Ack,
  BatchResult,
  Message,
  NewMessage,
  Page,
  ReceiptAck,
  Receipts,
  ReceiptState,
  State,
  TraceContext,
} from "./models.js";
import { retryOf, type Retry } from "./retry.js";
import { traceHeaders } from "./tracing.js";

export interface ClientOptions {
  /** CROSSFADE_API_KEY where it is not given. */
  apiKey?: string;
  retry?: Partial<Retry>;
  /** For one attempt; 10,000 where it is not given. */
  timeoutMs?: number;
  batchLimits?: Partial<BatchLimits>;
  /** Sent with every request. */
  headers?: Readonly<Record<string, string>>;
  /** Makes the requests: for a pool, a proxy or certificates of your own. */
  fetch?: typeof globalThis.fetch;
}

export interface CallOptions {
  correlationId?: string;
  /** Without it, OpenTelemetry's active context goes with the request where there is one. */
  trace?: TraceContext;
  /** Ends the call. What was sent may be accepted: send the same `NewMessage` again. */
  signal?: AbortSignal;
}

const DEFAULT_URL = "http://localhost:3000";
const VERSION = "0.1.0";
const FIRST_LOOK = 20;
const SLOWEST_LOOK = 1_000;
const JSON_TYPE = { "Content-Type": "application/json" };

/**
 * A client of one Crossfade service.
 *
 * It tries again where that may help and always with the same key, so that nothing is stored twice.
 * Every method throws a `CrossfadeError`, whose `remedy` says what to do.
 */
export class Client {
  readonly baseUrl: string;
  readonly #connection: Connection;
  readonly #retry: Retry;
  readonly #limits: BatchLimits;

  /**
   * @param baseUrl CROSSFADE_URL of the environment where it is not given, else
   * http://localhost:3000
   * @throws RangeError the URL or the key can't be one, or a figure of `retry` is out of range
   */
  constructor(baseUrl?: string, options: ClientOptions = {}) {
    const url = baseUrl || environment("CROSSFADE_URL") || DEFAULT_URL;
    if (!/^https?:\/\/[^/?#\s]+[^?#\s]*$/.test(url) || !URL.canParse(url)) {
      throw new RangeError(`base URL ${JSON.stringify(url)}: give one such as ${DEFAULT_URL}`);
    }
    const key = options.apiKey ?? environment("CROSSFADE_API_KEY");
    if (key && !/^[\x21-\x7e]+$/.test(key)) {
      throw new RangeError("the API key holds something other than printable ASCII characters");
    }
    this.baseUrl = url.replace(/\/+$/, "");
    this.#connection = {
      baseUrl: this.baseUrl,
      headers: {
        Accept: "application/json",
        "User-Agent": `crossfade-typescript/${VERSION}`,
        ...(key ? { Authorization: `Bearer ${key}` } : {}),
        ...options.headers,
      },
      timeoutMs: options.timeoutMs ?? 10_000,
      fetch: options.fetch ?? ((input, init) => globalThis.fetch(input, init)),
    };
    this.#retry = retryOf(options.retry);
    this.#limits = { ...LIMITS, ...options.batchLimits };
  }

  /**
   * Send a message; resolves once it is durable in the log.
   *
   * @throws CrossfadeError it was not acknowledged. `maybeAccepted` tells whether it may be stored
   * all the same; send the same `message` again.
   */
  async send(message: NewMessage, options: CallOptions = {}): Promise<Ack> {
    const { content } = message;
    const body = typeof content === "string" ? encoded(message) : formOf(message, content);
    return ackOf(await this.#post("/api/messages", body, options));
  }

  /**
   * Send messages in as few requests as the limits allow; one result for each, in their order.
   *
   * Only what was refused for the moment is sent again. Nothing is thrown for a message that
   * failed. Once one can't be sent until the deadline, those of later requests are left out
   * (`NotSentError`), so that none overtakes it.
   */
  async sendBatch(
    messages: Iterable<NewMessage>,
    options: CallOptions = {},
  ): Promise<BatchResult[]> {
    const headers = headersOf(options);
    const { signal } = options;
    const batch = new Batch(this.#connection, headers, this.#retry, this.#limits, signal);
    return batch.send([...messages]);
  }

  /** Read a message, wherever it is now. @throws NotFoundError there is none, as far as is seen */
  async message(messageId: string, options: CallOptions = {}): Promise<Message> {
    return this.#message(messageId, this.#retry, options);
  }

  /**
   * Read the content of a message, whatever it is. Text is UTF-8.
   *
   * @throws NotFoundError there is no such message
   * @throws ServiceError the payload store has lost the content
   * @throws UnexpectedAnswerError something else answered, or the content is not the one that was sent
   */
  async content(messageId: string, options: CallOptions = {}): Promise<Uint8Array<ArrayBuffer>> {
    const headers = traceHeaders(options.trace);
    const path = `/api/messages/${part(messageId)}/content`;
    const call: Call = { method: "GET", path, headers, bytes: true };
    return contentOf(await tried(this.#connection, call, this.#retry, options.signal));
  }

  /**
   * Resolves once the message is persisted: it has its row in PostgreSQL.
   *
   * @throws WaitTimeoutError it was not within `timeoutMs` (30,000)
   * @throws DeadLetteredError it could not be persisted
   */
  async wait(
    messageId: string,
    { timeoutMs = 30_000, ...options }: CallOptions & { timeoutMs?: number } = {},
  ): Promise<Message> {
    const ends = performance.now() + timeoutMs;
    let state: State | undefined;
    let cause: CrossfadeError | undefined;
    for (let looks = 0; ; looks++) {
      const deadlineMs = Math.max(50, Math.min(ends - performance.now(), this.#retry.deadlineMs));
      try {
        const found = await this.#message(messageId, { ...this.#retry, deadlineMs }, options);
        if (["persisted", "archived", "erased"].includes(found.state)) {
          return found; // it is a row, or has been one
        }
        if (found.state === "dead_lettered") {
          throw new DeadLetteredError(found);
        }
        state = found.state;
        cause = undefined;
      } catch (error) {
        if (!isPassing(error)) {
          throw error;
        }
        // Not the end of the waiting itself, if there is a better one.
        cause = cause && error instanceof NoAnswerError ? cause : error;
      }
      const left = ends - performance.now();
      if (left <= 0) {
        throw new WaitTimeoutError(messageId, state, timeoutMs, { cause });
      }
      const pause = Math.min(SLOWEST_LOOK, FIRST_LOOK * 1.5 ** Math.min(looks, 32));
      await paused(Math.min(pause, left), options.signal);
    }
  }

  /** Read one page of a conversation's persisted messages, oldest first; `limit` is at most 200. */
  async page(
    conversationId: string,
    { after, limit = 100, ...options }: CallOptions & { after?: string; limit?: number } = {},
  ): Promise<Page> {
    const query = new URLSearchParams({ limit: String(limit) });
    if (after !== undefined) {
      query.set("after", after);
    }
    const path = `/api/conversations/${part(conversationId)}/messages?${query}`;
    return pageOf(await this.#get(path, options));
  }

  /** Iterate over the pages of a conversation. Keep `next` of the last to go on later. */
  async *pages(
    conversationId: string,
    { pageSize = 100, ...options }: CallOptions & { after?: string; pageSize?: number } = {},
  ): AsyncGenerator<Page, void, void> {
    let { after } = options;
    for (;;) {
      const from = after === undefined ? {} : { after };
      const page = await this.page(conversationId, { ...options, ...from, limit: pageSize });
      yield page;
      after = page.next ?? undefined;
      if (!page.hasMore) {
        return;
      }
    }
  }

  /** Iterate over the persisted messages of a conversation, oldest first. */
  async *messages(
    conversationId: string,
    options: CallOptions & { after?: string; pageSize?: number } = {},
  ): AsyncGenerator<Message, void, void> {
    for await (const page of this.pages(conversationId, options)) {
      yield* page.items;
    }
  }

  /**
   * Record that a user got (`delivered`) or saw (`read`) a message; once for each.
   *
   * @throws NotFoundError there is no such message
   * @throws ConflictError it is a dead letter
   */
  async giveReceipt(
    messageId: string,
    userId: string,
    state: ReceiptState,
    options: CallOptions = {},
  ): Promise<ReceiptAck> {
    const path = `/api/messages/${part(messageId)}/receipts`;
    return receiptAckOf(await this.#post(path, JSON.stringify({ userId, state }), options));
  }

  /** Read a message's receipts. @throws NotFoundError there is no such message */
  async receipts(messageId: string, options: CallOptions = {}): Promise<Receipts> {
    return receiptsOf(await this.#get(`/api/messages/${part(messageId)}/receipts`, options));
  }

  async #message(messageId: string, retry: Retry, options: CallOptions): Promise<Message> {
    return messageOf(await this.#get(`/api/messages/${part(messageId)}`, options, retry));
  }

  #post(path: string, body: string | FormData, options: CallOptions): ReturnType<typeof tried> {
    const { "Content-Type": _, ...unnamed } = headersOf(options);
    // fetch names a form's type itself, with the boundary that it draws.
    const headers = typeof body === "string" ? headersOf(options) : unnamed;
    const call: Call = { method: "POST", path, headers, body };
    return tried(this.#connection, call, this.#retry, options.signal);
  }

  #get(path: string, options: CallOptions, retry = this.#retry): ReturnType<typeof tried> {
    const call: Call = { method: "GET", path, headers: traceHeaders(options.trace) };
    return tried(this.#connection, call, retry, options.signal);
  }
}

function isPassing(error: unknown): error is CrossfadeError {
  return (
    // Also what the service does not find: a message far back in the log, whose acknowledgement is
    // no longer in a cache, is found when it has its row.
    error instanceof NotFoundError ||
    error instanceof UnreachableError ||
    error instanceof NoAnswerError ||
    error instanceof UnavailableError
  );
}

function headersOf({ correlationId, trace }: CallOptions): Record<string, string> {
  const correlation = correlationId === undefined ? {} : { "X-Correlation-ID": correlationId };
  return { ...JSON_TYPE, ...traceHeaders(trace), ...correlation };
}

/** Return an id as one part of a path. */
function part(identifier: string): string {
  if (identifier === "." || identifier === "..") {
    // The URL standard takes these, however they are written, for a folder.
    throw new RangeError(`fetch can't ask for the id ${JSON.stringify(identifier)}`);
  }
  return encodeURIComponent(identifier);
}

function environment(name: string): string | undefined {
  const { process } = globalThis as {
    process?: { env?: Record<string, string | undefined> };
  };
  return process?.env?.[name];
}
