// Node's http.request, on its default agent (which keeps connections alive).
import { request } from "node:http";
import { bodyOf, run } from "./steps.mjs";

await run(
  (step) =>
    new Promise((resolve, reject) => {
      const body = bodyOf(step);
      const headers = { ...step.headers };
      if (step.expect) headers.Expect = "100-continue";
      if (body !== null && !step.chunked) headers["Content-Length"] = Buffer.byteLength(body);
      const sent = request(step.url, { method: step.method, headers }, (answer) => {
        const pieces = [];
        answer.on("data", (piece) => pieces.push(piece));
        answer.on("error", reject);
        answer.on("end", () =>
          resolve({
            status: answer.statusCode,
            type: answer.headers["content-type"] ?? null,
            body: Buffer.concat(pieces).toString(),
          }),
        );
      });
      sent.on("error", reject);
      if (step.expect) {
        sent.on("continue", () => sent.end(body));
        sent.flushHeaders();
      } else if (step.chunked) {
        sent.write(body.slice(0, 10));
        sent.end(body.slice(10));
      } else {
        sent.end(body ?? undefined);
      }
    }),
);
