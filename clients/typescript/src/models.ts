/** Requests and answers. Times are RFC 3339 text in UTC, as the service writes them. */
import type { CrossfadeError } from "./errors.js";

/** `pending`: in the log. `persisted`: has its row. `dead_lettered`: could not be stored. */
export type State = "pending" | "persisted" | "dead_lettered" | "archived" | "erased";
/** `unknown`: accepted before, and the service could not ask PostgreSQL whether it has its row. */
export type AckState = State | "unknown";
export type ReceiptState = "delivered" | "read";

export interface NewMessageFields {
  conversationId: string;
  senderId: string;
  /** Bytes of any kind are taken by `send`, where the service has a payload store. */
  content: string | Uint8Array<ArrayBuffer>;
  contentType?: string;
  recipientIds?: readonly string[];
  /** Made where none is given. */
  clientMessageId?: string;
}

/**
 * A message to send. Sent again, as the same object or an equal one, it is stored once.
 *
 * Its key is (`senderId`, `conversationId`, `clientMessageId`). Give a `clientMessageId` that the
 * application keeps, such as the id of the row that the message tells of, and it is stored once
 * also when the application restarts in between.
 */
export class NewMessage {
  readonly conversationId: string;
  readonly senderId: string;
  readonly content: string | Uint8Array<ArrayBuffer>;
  readonly contentType: string;
  readonly recipientIds: readonly string[];
  readonly clientMessageId: string;

  constructor(fields: NewMessageFields) {
    this.conversationId = fields.conversationId;
    this.senderId = fields.senderId;
    this.content = fields.content;
    this.contentType = fields.contentType ?? "text";
    this.recipientIds = fields.recipientIds ?? [];
    this.clientMessageId = fields.clientMessageId ?? newKey();
  }
}

/** Return a new idempotency key, a random UUID. */
export function newKey(): string {
  // Not randomUUID: browsers have that one on secure pages only.
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = ((bytes[6] ?? 0) & 0x0f) | 0x40;
  bytes[8] = ((bytes[8] ?? 0) & 0x3f) | 0x80;
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return [0, 8, 12, 16, 20].map((at, n, all) => hex.slice(at, all[n + 1] ?? 32)).join("-");
}

/** The caller's place in a trace (W3C Trace Context). */
export interface TraceContext {
  traceparent: string;
  tracestate?: string;
}

/** The acknowledgement of a message: it is durable in the log. */
export interface Ack {
  messageId: string;
  state: AckState;
  acceptedAt: string;
  /** Whether the service had it already. Then `acceptedAt` is that first time. */
  idempotentHit: boolean;
  correlationId: string;
}

/** Outcome of one message of a batch: an acknowledgement or an error. */
export interface BatchResult {
  message: NewMessage;
  ack?: Ack;
  error?: CrossfadeError;
}

/** Where a message stands in one log. `offset` is that log's own text. */
export interface Position {
  transport: string;
  partition: number;
  offset: string;
}

/** That a user got or saw a message. */
export interface Receipt {
  userId: string;
  state: string;
  at: string;
}

/** Why a message could not be persisted. */
export interface DeadLetter {
  id: number;
  reason: string;
  error: string;
  failedAt: string;
}

/** Content that is not beside its message: it is large, or no text. `content()` reads it. */
export interface Payload {
  bytes: number;
  sha256: string;
  contentType: string;
  /** Relative to the service. */
  url: string;
}

/** A message, stored or on its way. Unknown members are `null`. */
export interface Message {
  messageId: string;
  state: State;
  conversationId: string | null;
  senderId: string | null;
  clientMessageId: string | null;
  recipientIds: readonly string[];
  content: string | null;
  /** Set, and `content` is null, where the content has to be read by `content()`. */
  payload: Payload | null;
  contentType: string | null;
  acceptedAt: string | null;
  persistedAt: string | null;
  correlationId: string | null;
  traceId: string | null;
  traceUrl: string | null;
  positions: readonly Position[];
  attempts: number | null;
  /** The first 1,000. */
  receipts: readonly Receipt[];
  deadLetter: DeadLetter | null;
}

/** A page of a conversation, oldest first. It may be empty although there are more. */
export interface Page {
  items: readonly Message[];
  /** The cursor for what follows, also for what will be written later. */
  next: string | null;
  hasMore: boolean;
}

/** The acknowledgement of a receipt. */
export interface ReceiptAck {
  messageId: string;
  userId: string;
  state: ReceiptState;
  at: string;
  idempotentHit: boolean;
  correlationId: string;
}

/** A message's receipts, oldest first: the first 1,000. */
export interface Receipts {
  items: readonly Receipt[];
  hasMore: boolean;
}
