// The console: pages by the address after #, a session, and the one stream that feeds them.

import { get, post, remove } from "./api.js";
import { button, fill, h, say } from "./dom.js";
import { span } from "./format.js";
import { Live } from "./live.js";
import { actionsPage } from "./page-actions.js";
import { browsePage } from "./page-browse.js";
import { findPage } from "./page-find.js";
import { letterPage } from "./page-letter.js";
import { lettersPage } from "./page-letters.js";
import { messagePage } from "./page-message.js";
import { migrationPage } from "./page-migration.js";
import { nowPage } from "./page-now.js";
import { producePage } from "./page-produce.js";
import { tailPage } from "./page-tail.js";
import { listenForKeys, showKeys } from "./shortcuts.js";

// Pages that show messages need the scope read.
const WITHOUT_READ = new Set(["#/", "#/dead-letters", "#/migration", "#/produce"]);
const PAGES = [
  ["#/", "Now"],
  ["#/find", "Find"],
  ["#/browse", "Browse"],
  ["#/tail", "Tail"],
  ["#/dead-letters", "Dead letters"],
  ["#/migration", "Migration"],
  ["#/actions", "Actions"],
  ["#/produce", "Send"],
];
const ROUTES = [
  [/^\/$/, nowPage, "#/"],
  [/^\/find$/, findPage, "#/find"],
  [/^\/message\/([0-9a-fA-F-]{36})$/, messagePage, "#/find"],
  [/^\/browse$/, browsePage, "#/browse"],
  [/^\/tail$/, tailPage, "#/tail"],
  [/^\/produce$/, producePage, "#/produce"],
  [/^\/dead-letters$/, lettersPage, "#/dead-letters"],
  [/^\/dead-letter\/(\d+)$/, letterPage, "#/dead-letters"],
  [/^\/migration$/, migrationPage, "#/migration"],
  [/^\/actions$/, actionsPage, "#/actions"],
];

const mayEnter = (session) => session.mayRead || session.mayAct;
const main = document.getElementById("main");
const nav = document.getElementById("nav");
const chip = document.getElementById("live");
const stale = document.getElementById("stale");
const who = document.getElementById("who");
let session = null,
  leave = null,
  first = true;

const live = new Live(({ connected, age }) => {
  chip.className = `live ${connected ? "on" : "off"}`;
  say(chip, connected ? "live" : "reconnecting");
  stale.hidden = connected || age === null;
  document.body.classList.toggle("is-stale", !stale.hidden);
  if (!stale.hidden)
    say(
      stale,
      `The connection to the service is lost. What you see is ${span(age / 1000)} old; it is tried again.`,
    );
  if (age === null) say(chip, connected ? "live" : "connecting");
});

live.listen((status) => {
  const letters = nav.querySelector('[href="#/dead-letters"]');
  const pending = status.deadLetters?.pending;
  if (letters) say(letters, pending ? `Dead letters ${pending}` : "Dead letters");
  const worst = status.health[0]?.level;
  document.title = `${worst === "alarm" ? "✕ " : worst === "warning" ? "! " : ""}Crossfade console`;
});

function show() {
  leave?.();
  leave = null;
  const [path, text] = (location.hash.slice(1) || "/").split("?");
  const query = new URLSearchParams(text ?? "");
  fill(main);
  if (!session || !mayEnter(session)) {
    loginPage();
    return;
  }
  const found = ROUTES.map(([pattern, page, tab]) => [pattern.exec(path), page, tab]).find(
    ([match]) => match,
  );
  for (const link of nav.children)
    if (found && link.getAttribute("href") === found[2]) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  if (!found) {
    fill(main, h("h1", null, "There is no such page"), h("p", null, h("a", { href: "#/" }, "Go to Now")));
    return;
  }
  if (!session.mayRead && (!WITHOUT_READ.has(found[2]) || found[1] === letterPage)) {
    fill(
      main,
      h("h1", null, "Not for this key"),
      h(
        "p",
        { class: "problem" },
        `This page shows messages, and the key ${session.name} lacks the scope read.`,
      ),
    );
    return;
  }
  leave = found[1](main, { live, session, query, id: found[0][1] });
  if (!first && !main.contains(document.activeElement)) main.focus({ preventScroll: false });
  first = false;
}

function signedIn(next) {
  session = next;
  const pages = PAGES.filter(
    ([href]) => (href !== "#/produce" || session.mayProduce) && (session.mayRead || WITHOUT_READ.has(href)),
  );
  fill(nav, mayEnter(session) ? pages.map(([href, title]) => h("a", { href }, title)) : null);
  fill(
    who,
    session.keysRequired && mayEnter(session)
      ? [
          h("span", { class: "chip" }, session.name, session.mayAct ? "" : ", read only"),
          button("Sign out", signOut),
        ]
      : session.keysRequired
        ? null
        : h(
            "span",
            {
              class: "chip",
              title: "No API keys are configured: everybody on this machine may do everything.",
            },
            "no keys",
          ),
  );
  if (mayEnter(session)) live.start();
  else {
    live.stop();
    fill(chip);
    stale.hidden = true;
  }
  show();
}

function loginPage() {
  const key = h("input", {
    type: "password",
    id: "key",
    required: true,
    autocomplete: "current-password",
    spellcheck: "false",
    "aria-describedby": "key-note",
  });
  const problem = h("p", { class: "problem", role: "alert", hidden: true });
  fill(
    main,
    h(
      "form",
      {
        class: "login",
        onsubmit: async (event) => {
          event.preventDefault();
          problem.hidden = true;
          try {
            signedIn(await post("api/console/session", { key: key.value.trim() }));
          } catch (error) {
            say(problem, error.message);
            problem.hidden = false;
            key.select();
          }
        },
      },
      h("h1", null, "Sign in"),
      h("label", { for: "key" }, "API key", key),
      h(
        "small",
        { id: "key-note" },
        "One with the scope read, or admin to act as well. " +
          "The browser holds it in a cookie that no script can read, until it is closed.",
      ),
      problem,
      h("div", { class: "actions" }, h("button", { type: "submit", class: "primary" }, "Sign in")),
    ),
  );
  key.focus();
}

async function signOut() {
  await remove("api/console/session").catch(() => null);
  location.hash = "#/";
  begin();
}

async function begin() {
  try {
    signedIn(await get("api/console/session"));
  } catch (error) {
    fill(
      main,
      h(
        "div",
        { class: "empty" },
        h("strong", null, "The service does not answer"),
        h("p", null, error.message),
        button("Try again", begin),
      ),
    );
    setTimeout(() => {
      if (!session) begin();
    }, 3000);
  }
}

document.addEventListener("signed-out", () => {
  if (session && mayEnter(session) && session.keysRequired) begin();
});
window.addEventListener("hashchange", show);
const KEYS = {
  n: "#/",
  f: "#/find",
  b: "#/browse",
  t: "#/tail",
  d: "#/dead-letters",
  m: "#/migration",
  a: "#/actions",
  s: "#/produce",
};
const titles = () =>
  new Map(
    [...nav.children].map((link) => [
      link.getAttribute("href"),
      PAGES.find(([href]) => href === link.getAttribute("href"))[1],
    ]),
  );
listenForKeys(KEYS, titles);
document
  .querySelector(".corner")
  .append(button("Shortcuts", () => showKeys(KEYS, titles()), { title: "Shortcuts of the keyboard: ?" }));
begin();
