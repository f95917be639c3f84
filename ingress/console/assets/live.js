// The stream of statuses. A lost connection is made again, with growing patience, and whoever looks
// is told how old what they see is.

import { get } from "./api.js";

const STALE = 5000;
const LONGEST = 10000;
const SILENT = 15000;

function oldest(log) {
  const ages = log?.partitions.map((one) => one.oldestAge) ?? [null];
  return ages.includes(null) ? null : Math.max(0, ...ages);
}

export class Live {
  #source = null;
  #timer = null;
  #delay = 1000;
  #listeners = new Set();
  #last = 0;
  #heard = 0;
  #asked = false;
  #lost = false;
  status = null;
  history = [];

  constructor(onState) {
    this.onState = onState;
    document.addEventListener("visibilitychange", () => this.#visible());
    setInterval(() => {
      // A connection that is cut without a word is noticed by its silence.
      if (this.#source && Date.now() - this.#heard > SILENT) this.#again();
      this.#tell();
    }, 1000);
  }

  // Call `listener` with each status, and with the one that is there already.
  listen(listener) {
    this.#listeners.add(listener);
    if (this.status) listener(this.status);
    return () => this.#listeners.delete(listener);
  }

  async start() {
    this.#asked = true;
    try {
      const status = await get("api/console/status");
      this.history = status.history;
      this.#take(status);
    } catch (error) {
      if (error.status === 401 || error.status === 403) return;
    }
    this.#connect();
  }

  stop() {
    this.#asked = false;
    clearTimeout(this.#timer);
    this.#source?.close();
    this.#source = null;
    this.#last = 0;
    this.status = null;
  }

  get age() {
    return this.#last ? Date.now() - this.#last : null;
  }

  #connect() {
    clearTimeout(this.#timer);
    this.#source?.close();
    if (!this.#asked || document.hidden) return;
    const source = new EventSource("api/console/events");
    this.#source = source;
    this.#heard = Date.now();
    source.addEventListener("status", (event) => {
      this.#delay = 1000;
      this.#heard = Date.now();
      this.#take(JSON.parse(event.data));
    });
    source.addEventListener("end", () => {
      // The key was taken away.
      this.stop();
      document.dispatchEvent(new Event("signed-out"));
    });
    source.addEventListener("error", () => {
      // The browser tries again by itself only where the answer was right; we do always.
      source.close();
      if (this.#source === source) this.#again();
    });
  }

  #again() {
    this.#source.close();
    this.#source = null;
    this.#lost = true;
    this.#timer = setTimeout(() => this.#connect(), this.#delay);
    this.#delay = Math.min(LONGEST, this.#delay * 2);
    this.#tell();
  }

  #take(status) {
    this.status = status;
    this.#last = Date.now();
    this.#lost = false;
    const read = status.logs.find((log) => log.roles.includes("consumed"));
    const primary = status.logs.find((log) => log.roles.includes("primary"));
    if (this.history.at(-1)?.at !== status.at) {
      this.history.push({
        at: status.at,
        inRate: primary?.inRate ?? null,
        outRate: read?.outRate ?? null,
        lag: read?.lag ?? null,
        oldest: oldest(read),
      });
      if (this.history.length > 180) this.history.shift();
    }
    for (const listener of this.#listeners) listener(status);
    this.#tell();
  }

  #visible() {
    if (!this.#asked) return;
    if (document.hidden) {
      this.#source?.close();
      this.#source = null;
      clearTimeout(this.#timer);
    } else this.#connect();
  }

  #tell() {
    if (!this.#asked) return;
    // The first status comes before the stream: what has just come is not stale.
    const connected = !this.#lost && this.age !== null && this.age < STALE;
    this.onState({ connected, age: this.age });
  }
}
