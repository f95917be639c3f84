/** When to try again: which failures, how often, after how long, and until when. */

/** How long and how often a call goes on trying. */
export interface Retry {
  /**
   * Milliseconds for one call with all its attempts and pauses (for each request of a batch that
   * is sent in several). `Infinity` goes on for ever.
   */
  deadlineMs: number;
  /** The most requests for one call. */
  attempts: number;
  /**
   * The pause before the first retry is drawn between 0 and this, and the range doubles with each
   * retry (full jitter), so that many clients do not come back at once.
   */
  firstPauseMs: number;
  /** A server's `Retry-After` may be longer; the jitter is added to it. */
  longestPauseMs: number;
}

export const RETRY: Retry = {
  deadlineMs: 30_000,
  attempts: Infinity,
  firstPauseMs: 100,
  longestPauseMs: 5_000,
};

/**
 * Return `given` with the defaults for what it lacks.
 *
 * @throws RangeError a figure is out of range
 */
export function retryOf(given: Partial<Retry> = {}): Retry {
  const retry = { ...RETRY, ...given };
  if (!(retry.deadlineMs > 0)) {
    throw new RangeError(`deadlineMs is ${retry.deadlineMs}: give more than 0, or Infinity`);
  }
  if (!(retry.attempts >= 1)) {
    throw new RangeError(`attempts is ${retry.attempts}: give 1 or more, or Infinity`);
  }
  for (const name of ["firstPauseMs", "longestPauseMs"] as const) {
    if (!(retry[name] >= 0)) {
      throw new RangeError(`${name} is ${retry[name]}: give 0 or more`);
    }
  }
  return retry;
}

/** The statuses after which the same request may succeed. No other 4xx is ever retried. */
export const RETRIED: ReadonlySet<number> = new Set([
  408, 425, 429, 500, 502, 503, 504,
  // Cloudflare's, where other proxies answer 502 or 504, such as while the service restarts.
  520, 521, 522, 523, 524,
]);

/** Return the milliseconds to wait after so many failures; `asked` is the server's wish. */
export function pauseAfter(retry: Retry, failures: number, asked: number | undefined): number {
  // The exponent is bounded: 0 times Infinity would be no number.
  const doubled = retry.firstPauseMs * 2 ** Math.min(failures - 1, 64);
  const longest = Math.min(retry.longestPauseMs, doubled);
  return (asked ?? 0) + Math.random() * longest;
}

/**
 * Return the milliseconds in `Retry-After` (RFC 9110, section 10.2.3), if there are any.
 *
 * A date is counted from the answer's own `Date` where it has one: the clocks may differ.
 */
export function retryAfter(headers: Headers): number | undefined {
  const text = headers.get("retry-after")?.trim() ?? "";
  if (/^\d+$/.test(text)) {
    return Number(text.slice(0, 9)) * 1000;
  }
  const until = httpDate(text);
  if (until === undefined) {
    return undefined;
  }
  return Math.max(0, until - (httpDate(headers.get("date") ?? "") ?? Date.now()));
}

function httpDate(text: string): number | undefined {
  // Date.parse takes much else, such as "2": only what looks like a date of HTTP is given to it.
  const time = /^[A-Z][a-z]+, .*GMT$/.test(text) ? Date.parse(text) : NaN;
  return Number.isNaN(time) ? undefined : time;
}
