// When the client tries again: against a server of the test's own, which answers what it is told.
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { getEventListeners } from "node:events";
import { createServer } from "node:http";
import { after, before, beforeEach, test } from "node:test";
import { Client, NewMessage, NotSentError, UnavailableError, UnexpectedAnswerError } from "../dist/index.js";
import { paused } from "../dist/exchange.js";
import { pauseAfter } from "../dist/retry.js";

const ACK = {
  messageId: "m", state: "pending", acceptedAt: "t", idempotentHit: false, correlationId: "c",
};
const QUICK = { firstPauseMs: 1, longestPauseMs: 1 };
let server, url, answers, requests;

before(async () => {
  server = createServer(async (request, response) => {
    let body = "";
    for await (const part of request) body += part;
    requests.push({ body, at: performance.now() });
    const [status, headers, answer] = answers.shift() ?? [599, {}, ""];
    response.writeHead(status, headers).end(answer);
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  url = `http://127.0.0.1:${server.address().port}`;
});
after(() => {
  server.closeAllConnections();
  server.close();
});
beforeEach(() => {
  requests = [];
});

const problem = (status, name = "x", headers = {}) => [
  status, headers, JSON.stringify({ type: `/problems/${name}`, title: "T", status, detail: "D" }),
];
const results = (...codes) => [
  207, {},
  JSON.stringify(codes.map((status) =>
    status < 300 ? { status, ...ACK } : { status, type: "/problems/log-unavailable", title: "T" })),
];
const message = (n = 0) => new NewMessage({ conversationId: "c", senderId: "s", content: `${n}` });
const contents = () => requests.map(({ body }) => JSON.parse(body).map((one) => one.content));

async function failed(retry, ...given) {
  answers = given;
  const client = new Client(url, { retry: { ...QUICK, ...retry } });
  return client.send(message()).then(() => assert.fail("no error"), (error) => error);
}

for (const status of [400, 401, 403, 404, 405, 409, 413, 415, 422, 431, 501]) {
  test(`${status} is not tried again`, async () => {
    const error = await failed({}, problem(status));
    assert.deepEqual([error.status, requests.length], [status, 1]);
  });
}

for (const status of [408, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524]) {
  test(`${status} is tried again, with the same bytes`, async () => {
    answers = [problem(status), [202, {}, JSON.stringify(ACK)]];
    await new Client(url, { retry: QUICK }).send(message());
    assert.equal(requests.length, 2);
    assert.equal(requests[0].body, requests[1].body);
  });
}

test("Retry-After is waited for, in seconds and as a date by the server's clock", async () => {
  const there = new Date(Date.now() + 365 * 86_400_000);
  const date = { date: there.toUTCString(), "retry-after": new Date(+there + 1000).toUTCString() };
  for (const headers of [{ "retry-after": "1" }, date]) {
    requests = [];
    answers = [problem(503, "overloaded", headers), [202, {}, JSON.stringify(ACK)]];
    await new Client(url, { retry: QUICK }).send(message());
    assert.ok(requests[1].at - requests[0].at > 950);
  }
});

test("a Retry-After past the deadline is an error at once", async () => {
  const error = await failed({ deadlineMs: 5000 }, problem(503, "x", { "retry-after": "6" }));
  assert.ok(error instanceof UnavailableError);
  assert.deepEqual([error.retryAfterMs, error.attempts], [6000, 1]);
});

test("a Retry-After that is none is not waited for", async () => {
  for (const text of ["soon", "-1", "1.5", "Fri, 99 Foo 2026"]) {
    const error = await failed({ attempts: 1 }, problem(503, "x", { "retry-after": text }));
    assert.equal(error.retryAfterMs, undefined, text);
  }
});

test("an error says whether the message may have been accepted", async () => {
  const html = [503, { "content-type": "text/html" }, "<h1>nginx</h1>"];
  const cases = [
    [[problem(503, "overloaded")], false], [[problem(503, "outcome-unknown")], true],
    [[problem(500, "internal")], true], [[html], true], [[problem(429)], false],
    [[problem(503, "outcome-unknown"), problem(401)], true],
  ];
  for (const [given, maybe] of cases) {
    const error = await failed({ attempts: given.length }, ...given);
    assert.equal(error.maybeAccepted, maybe, error.message);
  }
});

test("a host that is unreachable only now may have taken the message", async () => {
  for (const [syscall, maybe] of [["connect", false], ["read", true], ["writev", true]]) {
    const cause = Object.assign(new Error(`${syscall} EHOSTUNREACH`), { code: "EHOSTUNREACH", syscall });
    const fetch = () => Promise.reject(new TypeError("fetch failed", { cause }));
    const client = new Client(url, { fetch, retry: { ...QUICK, attempts: 1 } });
    const error = await client.send(message()).catch((it) => it);
    assert.equal(error.maybeAccepted, maybe, syscall);
  }
});

test("only what was refused for the moment is sent again", async () => {
  answers = [results(202, 503, 422, 503), results(202, 200)];
  const sent = await new Client(url, { retry: QUICK }).sendBatch([0, 1, 2, 3].map(message));
  assert.deepEqual(contents(), [["0", "1", "2", "3"], ["1", "3"]]);
  assert.deepEqual(sent.map((one) => one.ack !== undefined), [true, true, false, true]);
});

test("an answer that was lost counts for each message of its request", async () => {
  const half = [200, { "content-length": "9" }, "{"];
  answers = [half, results(202, 503), results(503), results(202)];
  const client = new Client(url, { timeoutMs: 500, retry: { ...QUICK, attempts: 3 } });
  const [, { error }] = await client.sendBatch([0, 1].map(message));
  assert.deepEqual([requests.length, error.attempts, error.maybeAccepted], [3, 3, true]);
});

test("a pause stays a number, however often it failed", () => {
  const none = { deadlineMs: Infinity, attempts: Infinity, firstPauseMs: 0, longestPauseMs: 0 };
  assert.equal(pauseAfter(none, 2000, undefined), 0);
});

test("nothing is sent after messages that could not be", async () => {
  answers = [results(202, 503)];
  const client = new Client(url, { retry: { attempts: 1 }, batchLimits: { items: 2 } });
  const sent = await client.sendBatch([0, 1, 2].map(message));
  assert.equal(requests.length, 1);
  assert.ok(sent[2].error instanceof NotSentError);
  assert.equal(sent[2].error.cause, sent[1].error);
});

test("a proxy that takes less than the service is given less", async () => {
  const proxy = [413, { "content-type": "text/html" }, "<html>413</html>"];
  answers = [proxy, results(202, 202), proxy, results(202), proxy];
  const sent = await new Client(url).sendBatch([0, 1, 2, 3].map(message));
  assert.deepEqual(contents().map((one) => one.length), [4, 2, 2, 1, 1]);
  assert.deepEqual(sent.map((one) => one.ack !== undefined), [true, true, true, false]);
});

test("a lost answer counts although the request is split afterwards", async () => {
  const half = [200, { "content-length": "9" }, "{"];
  answers = [half, [413, {}, ""], problem(401)];
  const client = new Client(url, { timeoutMs: 500, retry: QUICK });
  const sent = await client.sendBatch([0, 1].map(message));
  assert.deepEqual(contents(), [["0", "1"], ["0", "1"], ["0"]]);
  assert.ok(sent[1].error instanceof NotSentError);
  assert.deepEqual(sent.map((one) => one.error.maybeAccepted), [true, true]);
});

test("an answer of something else is named, and nothing is followed", async () => {
  const moved = await failed({}, [302, { location: "https://login.example/" }, ""]);
  assert.match(moved.message, /it redirects to https:\/\/login/);
  const page = await failed({}, [200, { "content-type": "text/html" }, "<p>Welcome</p>"]);
  assert.match(page.message, /Welcome/);
  assert.equal(requests.length, 2);
});

test("a content that is not the service's is an error", async () => {
  const right = createHash("sha256").update("content").digest("hex");
  const client = new Client(url, { retry: QUICK });
  answers = [[200, { etag: `W/"${right}"` }, "content"]];
  assert.deepEqual(await client.content("m"), new Uint8Array(Buffer.from("content")));
  for (const headers of [{}, { etag: '"5f-1"' }, { etag: `"${right}"` }]) {
    answers = [[200, headers, "<h1>Log in</h1>"]];
    await assert.rejects(client.content("m"), UnexpectedAnswerError);
  }
});

test("what can't be meant is refused", () => {
  for (const retry of [
    { deadlineMs: 0 }, { deadlineMs: NaN }, { attempts: 0 }, { attempts: undefined },
    { firstPauseMs: -1 }, { longestPauseMs: NaN },
  ]) {
    const [[name, value]] = Object.entries(retry);
    const told = { name: "RangeError", message: new RegExp(`^${name} is ${value}: give `) };
    assert.throws(() => new Client(url, { retry }), told);
  }
  new Client(url, { retry: { deadlineMs: Infinity, attempts: 1, firstPauseMs: 0 } });
});

test("a pause longer than a timer can wait does not end at once", async () => {
  for (const milliseconds of [2 ** 31, 2 ** 40]) {
    const told = new AbortController();
    const pause = paused(milliseconds, told.signal).then(() => "over", () => "aborted");
    setTimeout(() => told.abort(), 50);
    assert.equal(await pause, "aborted");
  }
});

test("a timeout longer than a timer can wait does not end a request", async () => {
  for (const timeoutMs of [2 ** 31, Infinity]) {
    answers = [[202, {}, JSON.stringify(ACK)]];
    const client = new Client(url, { timeoutMs, retry: { attempts: 1, deadlineMs: Infinity } });
    assert.equal((await client.send(message())).messageId, "m");
  }
});

test("an answer that is not the service's counts its requests", async () => {
  const error = await failed({}, problem(503), [202, {}, "<html>"]);
  assert.deepEqual([error.name, error.attempts], ["UnexpectedAnswerError", 2]);
  requests = [];
  answers = [problem(503), results(503, 202), [207, {}, "<html>"]];
  const client = new Client(url, { retry: QUICK });
  const [{ error: last }] = await client.sendBatch([message(), message(1)]);
  assert.deepEqual([last.name, last.attempts], ["UnexpectedAnswerError", 3]);
});

test("a signal that lives long keeps nothing of the calls that ended", async () => {
  const { signal } = new AbortController();
  for (const status of [202, 422, 202]) {
    answers = [status === 202 ? [202, {}, JSON.stringify(ACK)] : problem(status)];
    await new Client(url).send(message(), { signal }).catch(() => undefined);
  }
  const symbols = Object.getOwnPropertySymbols(signal);
  // Node's own list of the signals that AbortSignal.any has made of this one.
  const dependants = symbols.filter((one) => /dependant/i.test(one.description ?? ""));
  assert.deepEqual(dependants.map((one) => signal[one]?.size ?? 0).filter(Boolean), []);
  assert.equal(getEventListeners(signal, "abort").length, 1);
});
