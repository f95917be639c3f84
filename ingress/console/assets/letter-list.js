// Dead letters one by one: filtered, page after page, chosen and acted on.

import { get } from "./api.js";
import { button, copyable, empty, fill, h, mixed, row, table } from "./dom.js";
import { clock, plural } from "./format.js";
import { letterActions } from "./letter-actions.js";
import { letterAddress } from "./letter-groups.js";

const PAGE = 100;
const HEADINGS = [
  { title: "Failed" },
  { title: "Kind" },
  { title: "Message" },
  { title: "Conversation" },
  { title: "Stood at" },
  { title: "Error" },
];
const CHOICE = { title: "Choose", hidden: true };

// Two boxes and what the group chosen is; what is asked for stands in the address.
export function filterForm(filter) {
  const text = h("input", {
    type: "search",
    name: "text",
    value: filter.text,
    maxlength: 256,
    spellcheck: "false",
  });
  const conversation = h("input", {
    type: "search",
    name: "conversation",
    value: filter.conversation,
    maxlength: 256,
    autocomplete: "off",
    spellcheck: "false",
  });
  const form = h(
    "form",
    { class: "filter", role: "search", "aria-label": "Filter dead letters" },
    h("label", null, "Text in the error", text),
    h("label", null, "Conversation", conversation),
    h("button", { type: "submit" }, "Filter"),
    Object.values(filter).some(Boolean)
      ? h("a", { class: "button", href: "#/dead-letters" }, "Show all")
      : null,
  );
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    location.hash = letterAddress({
      ...filter,
      text: text.value.trim(),
      conversation: conversation.value.trim(),
    });
  });
  return form;
}

export function showLetters(root, { session, filter, again }) {
  const asked = {
    reason: filter.reason,
    cause: filter.cause,
    conversationId: filter.conversation,
    text: filter.text,
  };
  const given = Object.fromEntries(Object.entries(asked).filter(([name, value]) => value && name !== "text"));
  const headings = session.mayAct ? [CHOICE, ...HEADINGS] : HEADINGS;
  const narrowed = Object.keys(given).length > 0;
  let ended = false,
    marked,
    items,
    boxes,
    bar,
    body;

  const retell = () =>
    fill(
      bar,
      marked.size
        ? [
            `${plural(marked.size, "letter", "letters")} chosen`,
            letterActions(
              session,
              plural(marked.size, "chosen letter", "chosen letters"),
              { ids: [...marked] },
              again,
            ),
          ]
        : null,
    );
  const mark = (box, id) => {
    if (box.checked) marked.add(id);
    else marked.delete(id);
  };

  function line(one) {
    const box = h("input", { type: "checkbox", "aria-label": `Choose dead letter ${one.id}` });
    box.addEventListener("change", () => {
      mark(box, one.id);
      retell();
    });
    boxes.push([box, one.id]);
    const cells = [
      session.mayRead
        ? h("a", { href: `#/dead-letter/${one.id}` }, clock(one.failedAt))
        : clock(one.failedAt),
      one.kind,
      one.messageId
        ? h("a", { href: `#/message/${one.messageId}` }, copyable(one.messageId))
        : session.mayRead
          ? "none that can be read"
          : "not shown",
      one.conversationId
        ? h("a", { href: letterAddress({ conversation: one.conversationId }) }, copyable(one.conversationId))
        : "",
      mixed`${one.transport} ${one.partition}:${one.offset}`,
      h("span", { class: "clamped" }, one.error),
    ];
    return row(headings, session.mayAct ? [box, ...cells] : cells);
  }

  function all() {
    for (const [box, id] of boxes.slice(0, 1000)) {
      box.checked = true;
      marked.add(id);
    }
    retell();
  }

  function begin() {
    marked = new Set();
    items = 0;
    boxes = [];
    bar = h("div", { class: "actions", role: "status" });
    body = h("div");
    fill(
      root,
      h(
        "div",
        { class: "head" },
        h("h2", { tabindex: -1 }, title(filter)),
        narrowed && !filter.text ? letterActions(session, "all of these", { filter: given }, again) : null,
      ),
      filterForm(filter),
      bar,
      body,
    );
  }

  function read(after) {
    if (!after) begin();
    const into = body;
    return get("api/dead-letters", { ...asked, after, limit: PAGE }).then(
      (page) => {
        if (ended || into !== body) return;
        const rows = page.items.map(line);
        items += rows.length;
        into.querySelector(".more")?.remove();
        if (rows.length) {
          if (items === rows.length) fill(into, table(headings, rows));
          else into.querySelector("tbody").append(...rows);
        }
        const further = page.next
          ? h(
              "div",
              { class: "actions more" },
              button(items ? "Show more" : "Look further back", (event) => {
                event.target.disabled = true;
                read(page.next);
              }),
              session.mayAct && items ? button("Choose all shown", all) : null,
              h(
                "small",
                null,
                rows.length < PAGE
                  ? "Ten thousand letters were looked at for this page; there are more."
                  : `${plural(items, "letter is", "letters are")} shown; there are more.`,
              ),
            )
          : null;
        into.append(
          ...[
            further ??
              (items
                ? ending(items)
                : empty("No such letter waits", "They were redriven or discarded, or no letter matches.")),
          ],
        );
      },
      (error) => {
        if (!ended) into.append(h("p", { class: "problem" }, error.message));
      },
    );
  }

  const ending = (number) =>
    h(
      "div",
      { class: "actions more" },
      session.mayAct ? button("Choose all shown", all) : null,
      h("small", null, `${number === 1 ? "This is the only one" : `These are all ${number}`}.`),
    );

  read();
  return {
    read: () => read(),
    end: () => {
      ended = true;
    },
  };
}

function title(filter) {
  const parts = [
    filter.cause ? mixed`${filter.reason || "any reason"}: ${filter.cause}` : filter.reason || null,
    filter.conversation ? mixed`in conversation ${filter.conversation}` : null,
    filter.text ? mixed`with “${filter.text}” in the error` : null,
  ].filter(Boolean);
  return parts.length ? parts.flatMap((part, index) => (index ? [", ", part] : [part])) : "All that wait";
}
