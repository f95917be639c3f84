// Figures as people read them. Null is unknown, and is written so.

export const UNKNOWN = "unknown";

export function count(value) {
  return value === null || value === undefined ? UNKNOWN : value.toLocaleString("en");
}

export function short(value) {
  if (value === null || value === undefined) return "?";
  if (value < 10000) return String(Math.round(value));
  if (value < 1e6) return `${Math.round(value / 1e3)}k`;
  return `${(value / 1e6).toFixed(1)}M`;
}

export function rate(value) {
  if (value === null || value === undefined) return UNKNOWN;
  return value < 10 && value > 0 ? value.toFixed(1) : Math.round(value).toLocaleString("en");
}

export function span(seconds) {
  if (seconds === null || seconds === undefined) return UNKNOWN;
  if (seconds < 0.0005) return "0 ms";
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 120) return `${Math.round(seconds)} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172800) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86400)} days`;
}

export function bound(seconds) {
  return seconds === null || seconds === undefined ? "–" : `≤ ${span(seconds)}`;
}

export function ago(time) {
  return time ? `${span(Math.max(0, (Date.now() - Date.parse(time)) / 1000))} ago` : UNKNOWN;
}

export function clock(time) {
  if (!time) return UNKNOWN;
  const moment = new Date(time);
  const today = new Date().toDateString() === moment.toDateString();
  const hours = moment.toLocaleTimeString("en-GB");
  return today ? hours : `${moment.toLocaleDateString("en-CA")} ${hours}`;
}

// With the microseconds that a Date does not keep.
export function precise(time) {
  if (!time) return UNKNOWN;
  const fraction = /\.(\d{3})/.exec(time);
  return `${clock(time)}${fraction ? `.${fraction[1]}` : ""}`;
}

// Seconds since the epoch, with microseconds.
export function instant(time) {
  const fraction = /\.(\d+)/.exec(time);
  return Math.floor(Date.parse(time) / 1000) + (fraction ? Number(`0.${fraction[1]}`) : 0);
}

export const plural = (number, one, many) => `${count(number)} ${number === 1 ? one : many}`;

// The states of a message, in words.
export const STATES = {
  pending: "pending",
  persisted: "persisted",
  dead_lettered: "dead letter",
  archived: "archived",
  erased: "erased",
};
