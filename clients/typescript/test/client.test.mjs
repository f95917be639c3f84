// Against the real service, whose faults a control server causes: tests/clients starts both.
import assert from "node:assert/strict";
import { after, test } from "node:test";
import * as crossfade from "../dist/index.js";

const { CROSSFADE_CONTROL, CROSSFADE_URL, CROSSFADE_API_KEY } = process.env;
const {
  Client, NewMessage, ConflictError, DeadLetteredError, ForbiddenError, InvalidRequestError,
  KeyConflictError, NoAnswerError, NotFoundError, NotSentError, TooLargeError, UnavailableError,
  UnauthenticatedError, UnreachableError, WaitTimeoutError,
} = crossfade;
const NOBODY = "00000000-0000-8000-8000-000000000001";
const statuses = [];

async function control(action, argument = "") {
  const answer = await fetch(`${CROSSFADE_CONTROL}/${action}?${new URLSearchParams({ argument })}`);
  assert.equal(answer.status, 200, await answer.clone().text());
  return answer.json();
}

function client(options = {}, url = undefined) {
  return new Client(url, {
    ...options,
    fetch: async (...request) => {
      const answer = await fetch(...request);
      statuses.push(answer.status);
      return answer;
    },
  });
}

const message = (conversationId, content = "once", more = {}) =>
  new NewMessage({ conversationId, senderId: "alice", content, ...more });
const rows = async (conversation, atLeast) => control("rows", JSON.stringify([conversation, atLeast]));
const numbers = (count) => Array.from({ length: count }, (_, n) => String(n));

async function raised(promise, Kind) {
  const error = await promise.then(
    (value) => assert.fail(`no error: ${JSON.stringify(value)}`),
    (reason) => reason,
  );
  assert.ok(error instanceof Kind, `${error?.stack}`);
  return error;
}

function faulty(name, run) {
  test(name, async () => {
    statuses.length = 0;
    try {
      await run(`ts ${name}/?#%`);
    } finally {
      await control("heal");
    }
  });
}

faulty("a message is accepted, persisted and read", async (conversation) => {
  const sent = message(conversation, "Привіт \u{1f44b}", { recipientIds: ["bob"] });
  const ack = await client().send(sent, { correlationId: "order-7" });
  assert.equal(ack.idempotentHit, false);
  assert.equal(ack.correlationId, "order-7");
  const stored = await client().wait(ack.messageId);
  assert.equal(stored.state, "persisted");
  assert.equal(stored.content, sent.content);
  assert.deepEqual(stored.recipientIds, ["bob"]);
  assert.equal(stored.clientMessageId, sent.clientMessageId);
  const again = await client().send(sent);
  assert.deepEqual([again.idempotentHit, again.messageId], [true, ack.messageId]);
});

faulty("bytes come back as they were sent, and are sent once", async (conversation) => {
  const content = crypto.getRandomValues(new Uint8Array(60_000));
  const sent = message(conversation, content, { contentType: "image/png" });
  const ack = await client().send(sent);
  const stored = await client().wait(ack.messageId);
  assert.equal(stored.content, null);
  assert.deepEqual([stored.payload.bytes, stored.payload.contentType], [60_000, "image/png"]);
  assert.deepEqual(await client().content(ack.messageId), content);
  assert.equal((await client().send(sent)).idempotentHit, true);
  await raised(client().content(NOBODY), NotFoundError);
  await raised(client().sendBatch([sent]), TypeError);
});

faulty("a lost reply is asked for again with the same key", async (conversation) => {
  await control("lose", "POST /api/messages HTTP");
  const ack = await client().send(message(conversation));
  assert.equal(ack.idempotentHit, true);
  assert.deepEqual(await rows(conversation, 1), ["once"]);
});

faulty("a 503 is tried again until the log is back", async (conversation) => {
  await control("log-away");
  const sending = client().send(message(conversation));
  while (!statuses.includes(503)) await new Promise((resolve) => setTimeout(resolve, 20));
  await control("heal");
  const ack = await sending;
  await client().wait(ack.messageId);
  assert.deepEqual(await rows(conversation, 1), ["once"]);
});

faulty("a log that stays away is an error with its problem", async (conversation) => {
  await control("log-away");
  const one = client({ retry: { deadlineMs: 1_500 } });
  const error = await raised(one.send(message(conversation)), UnavailableError);
  assert.match(error.type, /^\/problems\//);
  assert.ok(error.correlationId && error.retryAfterMs);
  assert.match(error.remedy, /same key/);
});

faulty("a killed service is found again: one row each, in order", async (conversation) => {
  const one = client();
  let restarted;
  for (const content of numbers(20)) {
    if (content === "5") restarted = control("restart");
    await one.send(message(conversation, content));
  }
  await restarted;
  assert.deepEqual(await rows(conversation, 20), numbers(20));
});

faulty("one message sent many times at once is one row", async (conversation) => {
  const sent = message(conversation);
  const one = client();
  const acks = await Promise.all(numbers(10).map(() => one.send(sent)));
  assert.equal(new Set(acks.map((ack) => ack.messageId + ack.acceptedAt)).size, 1);
  assert.equal(acks.filter((ack) => !ack.idempotentHit).length, 1);
  assert.deepEqual(await rows(conversation, 1), ["once"]);
});

faulty("a lost reply to a batch doubles nothing", async (conversation) => {
  await control("lose", "POST /api/messages:batch");
  const results = await client().sendBatch(numbers(50).map((c) => message(conversation, c)));
  assert.ok(results.every((result) => result.ack?.idempotentHit));
  assert.deepEqual(await rows(conversation, 50), numbers(50));
});

faulty("a batch is cut to what the service takes and names each error", async (conversation) => {
  const messages = numbers(407).map((content) => message(conversation, content));
  messages[3] = new NewMessage({ conversationId: conversation, senderId: "", content: "x" });
  messages[200] = message(conversation, "x".repeat(70_000));
  const results = await client().sendBatch(messages);
  const errors = results.filter((result) => result.error).map((result) => result.error);
  assert.deepEqual(errors.map((error) => error.field), ["senderId", "content"]);
  assert.ok(errors.every((error) => error instanceof InvalidRequestError));
  const sent = messages.filter((_, n) => n !== 3 && n !== 200).map((one) => one.content);
  assert.deepEqual(await rows(conversation, sent.length), sent);
});

faulty("what comes after a refused request is left out", async (conversation) => {
  const one = client({ apiKey: "cf_unknown", batchLimits: { items: 2 } });
  const results = await one.sendBatch(numbers(5).map((c) => message(conversation, c)));
  const kinds = results.map((result) => result.error.constructor);
  assert.deepEqual(kinds, [
    UnauthenticatedError, UnauthenticatedError, NotSentError, NotSentError, NotSentError,
  ]);
  assert.deepEqual(statuses, [401]);
});

faulty("another body for a key is refused at once", async (conversation) => {
  await client().send(message(conversation, "one", { clientMessageId: "k" }));
  const second = message(conversation, "two", { clientMessageId: "k" });
  const error = await raised(client().send(second), KeyConflictError);
  assert.deepEqual([error.attempts, error.status, error.maybeAccepted], [1, 422, false]);
});

faulty("a faulty field is named with its remedy", async () => {
  const error = await raised(client().send(message("")), InvalidRequestError);
  assert.equal(error.field, "conversationId");
  assert.equal(error.remedy, error.fields[0].remedy);
  assert.equal(error.name, "InvalidRequestError");
});

faulty("what is too large, unknown, forbidden or not there is not tried twice", async (name) => {
  const cases = [
    [TooLargeError, () => client().send(message(name, "x".repeat(2 << 20)))],
    [UnauthenticatedError, () => client({ apiKey: "cf_unknown" }).send(message(name))],
    [ForbiddenError, () => client({ apiKey: process.env.PRODUCER_KEY }).message(NOBODY)],
    [NotFoundError, () => client().message(NOBODY)],
    [NotFoundError, () => client().giveReceipt(NOBODY, "bob", "read")],
    [InvalidRequestError, () => client().page(name, { after: "not a cursor" })],
  ];
  for (const [Kind, call] of cases) assert.equal((await raised(call(), Kind)).attempts, 1);
});

faulty("waiting ends: in time, or with the reason of a dead letter", async (conversation) => {
  const late = await raised(client().wait(NOBODY, { timeoutMs: 2_000 }), WaitTimeoutError);
  assert.ok(late.cause instanceof NotFoundError);
  await control("poison", "on");
  try {
    const ack = await client().send(message(conversation, "poison"));
    const error = await raised(client().wait(ack.messageId), DeadLetteredError);
    assert.match(error.message, /no_poison/);
    await raised(client().giveReceipt(ack.messageId, "bob", "read"), ConflictError);
  } finally {
    await control("poison", "off");
  }
});

faulty("a conversation is read page by page and on from a cursor", async (conversation) => {
  const one = client();
  const results = await one.sendBatch(numbers(25).map((c) => message(conversation, c)));
  await one.wait(results.at(-1).ack.messageId);
  const found = [];
  for await (const stored of one.messages(conversation, { pageSize: 10 })) found.push(stored.content);
  assert.deepEqual(found, numbers(25));
  const pages = [];
  for await (const page of one.pages(conversation, { pageSize: 10 })) pages.push(page);
  assert.deepEqual(pages.map((page) => page.items.length), [10, 10, 5]);
  const later = await one.send(message(conversation, "later"));
  await one.wait(later.messageId);
  const rest = await one.page(conversation, { after: pages.at(-1).next });
  assert.deepEqual(rest.items.map((stored) => stored.content), ["later"]);
});

faulty("receipts are given once and listed", async (conversation) => {
  const one = client();
  const ack = await one.send(message(conversation));
  await one.wait(ack.messageId);
  const first = await one.giveReceipt(ack.messageId, "bob", "delivered");
  const again = await one.giveReceipt(ack.messageId, "bob", "delivered");
  assert.deepEqual([first.idempotentHit, again.at], [false, first.at]);
  let listed = await one.receipts(ack.messageId);
  while (!listed.items.length) listed = await one.receipts(ack.messageId);
  assert.deepEqual(listed.items.map((receipt) => receipt.userId), ["bob"]);
});

faulty("a trace context is passed on, given or OpenTelemetry's", async (conversation) => {
  const { propagation, context } = await import("@opentelemetry/api");
  const traced = async (hex, options) => {
    const ack = await client().send(message(conversation, hex), options);
    return (await client().wait(ack.messageId)).traceId;
  };
  const parent = (hex) => `00-${hex.repeat(32)}-b7ad6b7169203331-01`;
  assert.equal(await traced("a", { trace: { traceparent: parent("a") } }), "a".repeat(32));
  context.setGlobalContextManager({
    active: () => "here", with: (_, run) => run(), bind: (_, one) => one,
    enable() { return this; }, disable() { return this; },
  });
  propagation.setGlobalPropagator({
    inject: (active, carrier, setter) => {
      assert.equal(active, "here");
      setter.set(carrier, "traceparent", parent("b"));
      setter.set(carrier, "baggage", "secret=1");
    },
    extract: (active) => active, fields: () => ["traceparent"],
  });
  after(() => propagation.disable());
  assert.equal(await traced("b"), "b".repeat(32));
});

faulty("a service that is not there, and no answer at all", async (conversation) => {
  const nobody = client({ retry: { deadlineMs: 300 } }, `http://127.0.0.1:${await control("port")}`);
  const refused = await raised(nobody.send(message(conversation)), UnreachableError);
  assert.ok(refused.attempts > 1 && !refused.maybeAccepted);
  await control("black-hole");
  const one = client({ retry: { deadlineMs: 1_000 }, timeoutMs: 400 });
  const silent = await raised(one.send(message(conversation)), NoAnswerError);
  assert.ok(silent.attempts >= 2 && silent.maybeAccepted);
});

faulty("an aborted call is repeated with the same message", async (conversation) => {
  await control("hold", "POST /api/messages HTTP");
  const sent = message(conversation);
  const abort = new AbortController();
  const sending = client().send(sent, { signal: abort.signal });
  await control("held");
  abort.abort(new Error("the user left"));
  await assert.rejects(sending, /the user left/);
  await control("heal");
  const ack = await client().send(sent);
  await client().wait(ack.messageId);
  assert.deepEqual(await rows(conversation, 1), ["once"]);
});

test("a base URL or a key that can't be one", () => {
  assert.equal(new Client().baseUrl, CROSSFADE_URL);
  assert.throws(() => new Client("localhost:3000"), /base URL/);
  for (const url of ["http://x?y", "http://a b", "http://[x]", "http://x:y", "ftp://x"]) {
    assert.throws(() => new Client(url), /base URL/, url);
  }
  assert.throws(() => new Client("http://x", { apiKey: "a\nb" }), /printable/);
  assert.ok(CROSSFADE_API_KEY);
});

test("the errors have the names that Python's have", async () => {
  const names = await control("errors");
  const here = Object.keys(crossfade).filter((name) => name.endsWith("Error"));
  assert.deepEqual(here.filter((name) => name !== "problemError").sort(), names.sort());
});
