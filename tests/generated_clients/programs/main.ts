// A program on the client that was generated for TypeScript (typescript-fetch).

import { setTimeout as sleep } from "node:timers/promises";
import {
  Configuration, DeadLettersApi, MessagesApi, ReceiptsApi, ResponseError,
  type BatchResult, type MessageRequest, type Problem,
} from "./client/index.js";

const [url, key, conversationId] = process.argv.slice(2) as [string, string, string];
const configuration = new Configuration({ basePath: url, accessToken: key });
const messages = new MessagesApi(configuration);
const receipts = new ReceiptsApi(configuration);
const letters = new DeadLettersApi(configuration);
const tooLong = "\u00e9".repeat(40_000); // in bytes, which no client counts
const deadline = Date.now() + 60_000;

function message(clientMessageId: string, content = "Hello"): MessageRequest {
  return { conversationId, senderId: "sender", content, clientMessageId };
}

async function refused(call: Promise<unknown>): Promise<[number, Problem]> {
  try {
    await call;
  } catch (error) {
    if (error instanceof ResponseError) return [error.response.status, await error.response.json()];
    throw error;
  }
  throw new Error("it was not refused");
}

function item(one: BatchResult) {
  return one.kind === "ack"
    ? { kind: one.kind, status: one.status }
    : { kind: one.kind, status: one.status, field: one.errors?.[0]?.field };
}

async function until<T>(read: () => Promise<T>, done: (value: T) => boolean): Promise<T> {
  for (;;) {
    const value = await read();
    if (done(value)) return value;
    if (Date.now() > deadline) throw new Error("too late");
    await sleep(20);
  }
}

async function pages(): Promise<string[][]> {
  const read: string[][] = [];
  let after: string | undefined;
  for (;;) {
    const page = await messages.listMessages({ conversationId, after, limit: 2 });
    read.push(page.items.map((one) => one.clientMessageId));
    if (!page.hasMore) return read;
    after = page.next ?? undefined;
  }
}

const first = await messages.postMessage({ messageRequest: message("1") });
await until(() => messages.getMessage({ messageId: first.messageId }), (one) => one.state === "persisted");
const repeat = await messages.postMessage({ messageRequest: message("1") });
const receipt = await receipts.postReceipt({
  messageId: first.messageId, receiptRequest: { userId: "reader", state: "read" },
});
const listed = await until(
  () => receipts.listReceipts({ messageId: first.messageId }), (one) => one.items.length > 0,
);
const batch = await messages.postMessages({
  messageRequest: [message("2"), message("x", tooLong), message("3")],
});
await messages.postMessages({ messageRequest: [message("4")] });
await messages.postMessages({ messageRequest: [message("5")] });
const [, conflict] = await refused(messages.postMessage({ messageRequest: message("1", "other") }));
const [status, invalid] = await refused(messages.postMessage({ messageRequest: message("6", tooLong) }));
const [missingStatus, missing] = await refused(messages.getMessage({ messageId: crypto.randomUUID() }));
const read = await until(pages, (one) => one.flat().length >= 5);
const deadLetterId = (await letters.listDeadLetters()).items[0]!.id;
const letter = await letters.getDeadLetter({ deadLetterId });
const preview = await letters.redriveDeadLetters({ redriveRequest: { ids: [deadLetterId], dryRun: true } });
const open = new MessagesApi(new Configuration({ basePath: url }));
const [keyless] = await refused(open.postMessage({ messageRequest: message("7") }));

console.log(JSON.stringify({
  first: {
    id: first.messageId, state: first.state, hit: first.idempotentHit,
    at: first.acceptedAt.toISOString(),
  },
  repeat: { id: repeat.messageId, hit: repeat.idempotentHit, at: repeat.acceptedAt.toISOString() },
  receipt: { state: receipt.state, hit: receipt.idempotentHit },
  receipts: listed.items.map((one) => ({ user: one.userId, state: one.state })),
  batch: batch.map(item),
  conflict: {
    status: conflict.status, type: conflict.type, title: conflict.title, detail: conflict.detail,
    correlationId: conflict.correlationId,
  },
  invalid: { status, field: invalid.errors?.[0]?.field, remedy: !!invalid.errors?.[0]?.remedy },
  missing: { status: missingStatus, type: missing.type },
  pages: read,
  letter: { id: letter.id, reason: letter.reason, state: letter.state },
  preview: preview.letters,
  keyless,
}));
