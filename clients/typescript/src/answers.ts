/** From an answer's text to what it says. Members that are not known are left as they are. */
import {
  CrossfadeError,
  problemError,
  UnexpectedAnswerError,
  type FieldError,
  type ProblemError,
} from "./errors.js";
import type { Ack, Message, Page, ReceiptAck, Receipts } from "./models.js";
import { retryAfter } from "./retry.js";

/** A whole answer. */
export interface Reply {
  status: number;
  headers: Headers;
  text: string;
  /** The body as it came, where the call asked for bytes; `text` is empty then. */
  bytes?: Uint8Array<ArrayBuffer>;
  /** Whether it comes from where a redirect led, such as the payload store. */
  redirected: boolean;
  /** How many requests were made for it. */
  attempts: number;
  /** Whether the service may have accepted what one of the requests before it sent. */
  maybeAccepted: boolean;
}

type Json = Record<string, unknown>;
const QUOTED = 200;

export const ackOf = (reply: Reply): Ack => read(reply, acknowledgement);

/**
 * Return the content in an answer.
 *
 * @throws UnexpectedAnswerError its SHA-256 is not the service's `ETag`, or it has none
 */
export async function contentOf(reply: Reply): Promise<Uint8Array<ArrayBuffer>> {
  const { bytes = new Uint8Array(), headers, status, redirected } = reply;
  if (redirected) {
    return bytes; // the payload store's ETags are of another kind
  }
  const etag = headers.get("etag") ?? "";
  // A proxy that compresses makes the ETag weak.
  const named = /^(?:W\/)?"([0-9a-f]{64})"$/.exec(etag)?.[1];
  if (named === undefined) {
    const text = new TextDecoder().decode(bytes.subarray(0, 4 * QUOTED));
    throw new UnexpectedAnswerError(reasonOf({ ...reply, text }), status);
  }
  // Browsers have no digests for a page that came without TLS.
  const { subtle } = globalThis.crypto as Partial<Crypto>;
  if (subtle && named !== hex(await subtle.digest("SHA-256", bytes))) {
    throw new UnexpectedAnswerError("the content is not the one that was sent", status);
  }
  return bytes;
}

function hex(digest: ArrayBuffer): string {
  return Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Return what became of each of `count` messages of a batch, in their order. */
export function resultsOf(reply: Reply, count: number): (Ack | ProblemError)[] {
  const wait = retryAfter(reply.headers);
  return read(reply, (body) => {
    const items = list(body);
    if (items.length !== count) {
      throw new TypeError(`${items.length} results for ${count} messages`);
    }
    return items.map((item) => {
      const status = number(object(item)["status"]);
      return status < 300 ? acknowledgement(item) : problem(object(item), status, wait);
    });
  });
}

export const messageOf = (reply: Reply): Message => read(reply, message);

export const pageOf = (reply: Reply): Page =>
  read(reply, (body) => {
    const { items, next, hasMore } = object(body);
    return {
      items: list(items).map((item) => message({ state: "persisted", ...object(item) })),
      next: next == null ? null : text(next),
      hasMore: hasMore === true,
    };
  });

export const receiptAckOf = (reply: Reply): ReceiptAck =>
  read(reply, (body) => {
    text(object(body)["at"]);
    return body as ReceiptAck;
  });

export const receiptsOf = (reply: Reply): Receipts =>
  read(reply, (body) => {
    list(object(body)["items"]);
    return body as Receipts;
  });

/** Return the problem in an error answer, or one made of its status where it has none. */
export function problemOf(reply: Reply): ProblemError {
  const wait = retryAfter(reply.headers);
  try {
    return problem(object(JSON.parse(reply.text)), reply.status, wait);
  } catch {
    return problemError({
      status: reply.status,
      title: "Error answer",
      detail: `not an answer of Crossfade: ${reasonOf(reply)}`,
      retryAfterMs: wait,
    });
  }
}

/** Describe an answer that is not the service's, for a person. */
export function reasonOf(reply: Reply): string {
  const location = reply.headers.get("location");
  if (location !== null) {
    return `it redirects to ${location.slice(0, QUOTED)}`;
  }
  const kind = reply.headers.get("content-type") ?? "no content type";
  return `${kind}: ${JSON.stringify(reply.text.replace(/\s+/g, " ").trim().slice(0, QUOTED))}`;
}

function read<T>(reply: Reply, from: (body: unknown) => T): T {
  try {
    return from(JSON.parse(reply.text));
  } catch (error) {
    if (error instanceof CrossfadeError) {
      throw error;
    }
    const unexpected = new UnexpectedAnswerError(reasonOf(reply), reply.status, { cause: error });
    unexpected.attempts = reply.attempts;
    unexpected.maybeAccepted = true;
    throw unexpected;
  }
}

function acknowledgement(body: unknown): Ack {
  const { messageId, state, acceptedAt, idempotentHit, correlationId } = object(body);
  return {
    messageId: text(messageId),
    state: text(state) as Ack["state"],
    acceptedAt: text(acceptedAt),
    idempotentHit: idempotentHit === true,
    correlationId: text(correlationId),
  };
}

function message(body: unknown): Message {
  const found = object(body);
  text(found["messageId"]);
  text(found["state"]);
  return { ...NOTHING, ...found, recipientIds: found["recipientIds"] ?? [] } as Message;
}

const NOTHING: Omit<Message, "messageId" | "state"> = {
  conversationId: null,
  senderId: null,
  clientMessageId: null,
  recipientIds: [],
  content: null,
  payload: null,
  contentType: null,
  acceptedAt: null,
  persistedAt: null,
  correlationId: null,
  traceId: null,
  traceUrl: null,
  positions: [],
  attempts: null,
  receipts: [],
  deadLetter: null,
};

function problem(body: Json, status: number, wait: number | undefined): ProblemError {
  const { correlationId } = body;
  return problemError({
    status,
    type: text(body["type"]),
    title: text(body["title"]),
    detail: typeof body["detail"] === "string" ? body["detail"] : "",
    fields: body["errors"] === undefined ? [] : (list(body["errors"]) as FieldError[]),
    correlationId: typeof correlationId === "string" ? correlationId : undefined,
    retryAfterMs: status >= 429 ? wait : undefined,
  });
}

function object(value: unknown): Json {
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new TypeError("not an object");
  }
  return value as Json;
}

function list(value: unknown): unknown[] {
  if (!Array.isArray(value)) {
    throw new TypeError("not an array");
  }
  return value;
}

function text(value: unknown): string {
  if (typeof value !== "string") {
    throw new TypeError("not a string");
  }
  return value;
}

function number(value: unknown): number {
  if (typeof value !== "number") {
    throw new TypeError("not a number");
  }
  return value;
}
