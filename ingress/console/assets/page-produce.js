// Send a test message by hand, see its answer, and follow it to its row.

import { get, post } from "./api.js";
import { button, copyable, empty, fill, h, mixed } from "./dom.js";
import { STATES } from "./format.js";
import { placeLink } from "./page-browse.js";
import { waterfall } from "./page-message.js";

const FOLLOWED = 120; // seconds

export function producePage(root, { session, query }) {
  root.append(h("h1", null, "Send a test message"));
  if (!session.mayProduce) {
    root.append(
      empty(
        "Your key may not send messages here",
        "It needs the scope produce beside admin: the one to speak for a sender, the other to act here, on record.",
      ),
    );
    return null;
  }
  const answer = h("div", { class: "stack", "aria-live": "polite" });
  let leave = null,
    ended = false;
  root.append(
    form(query, (given) => {
      leave?.();
      fill(answer, h("p", { class: "muted" }, "Sending …"));
      return post("api/console/messages", given).then(
        (ack) => {
          if (!ended) leave = followed(answer, ack);
        },
        (error) => fill(answer, h("p", { class: "problem", role: "alert" }, error.message)),
      );
    }),
    answer,
  );
  return () => {
    ended = true;
    leave?.();
  };
}

function form(query, send) {
  const box = (name, label, options = {}, hint = null) => {
    const input = h(options.rows ? "textarea" : "input", {
      name,
      maxlength: 256,
      autocomplete: "off",
      spellcheck: "false",
      ...options,
    });
    return { name, input, label: h("label", null, label, input, hint ? h("small", null, hint) : null) };
  };
  const given = (name) => ({ required: true, value: query.get(name) ?? "" });
  const conversation = box("conversationId", "Conversation", given("conversation"));
  const sender = box("senderId", "Sender", given("sender"));
  const client = box(
    "clientMessageId",
    "Client message id",
    { required: true, value: fresh() },
    "Sent again with the same id, it is the same message: answered 200, and written once.",
  );
  const content = box("content", "Content", { rows: 5, maxlength: null });
  const type = box("contentType", "Content type", { placeholder: "text", maxlength: 128 });
  const recipients = box("recipientIds", "Recipients", { maxlength: null }, "Comma-separated; may be none.");
  const correlation = box("correlationId", "Correlation id", {
    maxlength: 128,
    placeholder: "the message's own id",
  });
  const why = box("why", "Reason", {
    required: true,
    maxlength: 1000,
    placeholder: "Kept on record with your key's name",
  });
  const key = h("code", { class: "id" });
  const told = () =>
    fill(key, [sender, conversation, client].map(({ input }) => escaped(input.value)).join(":"));
  const another = button("Another id", () => {
    client.input.value = fresh();
    told();
  });
  const go = h("button", { type: "submit", class: "primary" }, "Send");
  const element = h(
    "form",
    {
      class: "card produce",
      oninput: told,
      onsubmit: (event) => {
        event.preventDefault();
        const filled = Object.fromEntries(
          [conversation, sender, client, type, correlation, why]
            .map(({ name, input }) => [name, input.value.trim()])
            .filter(([, value]) => value),
        );
        const to = recipients.input.value
          .split(",")
          .map((one) => one.trim())
          .filter(Boolean);
        go.disabled = true;
        send({ ...filled, content: content.input.value, ...(to.length ? { recipientIds: to } : {}) }).finally(
          () => {
            go.disabled = false;
          },
        );
      },
    },
    h("div", { class: "fields" }, conversation.label, sender.label),
    content.label,
    h("div", { class: "fields" }, type.label, recipients.label, correlation.label),
    h("div", { class: "fields" }, client.label, another),
    h("p", { class: "muted" }, "Idempotency key: ", key),
    why.label,
    h("div", { class: "actions" }, go),
  );
  told();
  return element;
}

// Show the answer, and the message's story until it is over. Returns what ends that.
function followed(answer, ack) {
  const story = h("div", { class: "stack" });
  const state = h("span", { class: "state pending" }, STATES.pending);
  fill(
    answer,
    h(
      "div",
      { class: "head" },
      h("h2", null, ack.status === 202 ? "202: accepted" : "200: accepted before"),
      state,
    ),
    h(
      "p",
      null,
      ack.idempotentHit ? "The same key was sent before; nothing is written again: " : "It is in the log: ",
      h("a", { href: `#/message/${ack.messageId}` }, copyable(ack.messageId)),
      mixed`, partition ${ack.partition} of ${ack.log}, key `,
      copyable(ack.idempotencyKey),
    ),
    story,
  );
  const until = Date.now() + FOLLOWED * 1000;
  let ended = false,
    timer = null;
  const read = () =>
    get(`api/console/messages/${encodeURIComponent(ack.messageId)}`).then(
      ({ message, steps }) => {
        if (ended) return;
        state.className = `state ${message.state}`;
        fill(state, STATES[message.state]);
        fill(
          story,
          waterfall(steps),
          message.positions.map((one) =>
            h("p", null, h("a", { href: placeLink(one) }, `Its record in ${one.transport}`)),
          ),
        );
        if (message.state === "pending" && Date.now() < until) timer = setTimeout(read, 500);
      },
      (error) => {
        if (ended) return;
        fill(story, h("p", { class: "muted" }, error.message));
        if (error.status !== 403 && Date.now() < until) timer = setTimeout(read, 2000);
      },
    );
  read();
  return () => {
    ended = true;
    clearTimeout(timer);
  };
}

// As the service spells the parts of a key.
function escaped(text) {
  return text.trim().replace(/%/g, "%25").replace(/:/g, "%3A");
}

function fresh() {
  const bytes = crypto.getRandomValues(new Uint8Array(12));
  return `test-${[...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("")}`;
}
