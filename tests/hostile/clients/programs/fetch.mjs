// Node's own fetch (undici). It refuses to send Expect.
import { bodyOf, run } from "./steps.mjs";

await run(async (step) => {
  const body = bodyOf(step);
  const answer = await fetch(step.url, {
    method: step.method,
    headers: step.headers,
    body: step.chunked ? new Blob([body]).stream() : body,
    duplex: "half",
  });
  return {
    status: answer.status,
    type: answer.headers.get("content-type"),
    body: await answer.text(),
  };
});
