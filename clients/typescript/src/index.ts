/**
 * The client of Crossfade's HTTP API.
 *
 * ```ts
 * const client = new Client("http://localhost:3000");
 * const ack = await client.send(new NewMessage({
 *   conversationId: "order-7", senderId: "alice", content: "Hello",
 * }));
 * await client.wait(ack.messageId);
 * ```
 */
export { Client, type CallOptions, type ClientOptions } from "./client.js";
export * from "./errors.js";
export {
  NewMessage,
  type Ack,
  type AckState,
  type BatchResult,
  type DeadLetter,
  type Message,
  type NewMessageFields,
  type Page,
  type Payload,
  type Position,
  type Receipt,
  type ReceiptAck,
  type Receipts,
  type ReceiptState,
  type State,
  type TraceContext,
} from "./models.js";
export { type BatchLimits } from "./batches.js";
export { type Retry } from "./retry.js";
