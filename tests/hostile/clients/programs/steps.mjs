// Read the requests that a client program has to make; print what it was answered.
// The same lines as steps.py reads and prints.
import { createInterface } from "node:readline";

export function bodyOf(step) {
  return step.body == null ? null : step.body + " ".repeat(step.pad ?? 0);
}

export async function run(send) {
  for await (const line of createInterface({ input: process.stdin })) {
    await Promise.all(JSON.parse(line).map((step) => print(send, step)));
  }
  process.exit(0); // a body that nobody reads any more would keep it waiting
}

async function print(send, step) {
  let answer;
  try {
    answer = await send(step);
  } catch (error) {
    answer = { error: `${error} ${error.cause ?? ""}` };
  }
  console.log(JSON.stringify({ name: step.name, ...answer }));
}
