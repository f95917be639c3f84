// Bytes as text, as JSON, or in hexadecimal. The text of JSON is moved about and never parsed anew:
// its numbers stay as long as they are.

const DEEPEST = 20;
const PER_LINE = 16;

export const FORMS = [
  ["auto", "as it is best read"],
  ["text", "text"],
  ["json", "JSON"],
  ["hex", "hexadecimal"],
];

// A random UUID (RFC 9562, version 4). `crypto.randomUUID` is missing on pages without TLS.
export function newId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const text = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return text.replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}

export function fromBase64(text) {
  return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
}

// `cut`: these are the first of more bytes, so that a character at the end may not be whole.
export function readable(bytes, form, cut) {
  const text = form === "hex" ? null : decoded(bytes, cut);
  if (text === null)
    return { text: hexadecimal(bytes), note: form === "hex" ? null : "not UTF-8, so in hexadecimal" };
  if (form === "text") return { text, note: null };
  if (isJson(text)) return { text: indented(text), note: null };
  return { text, note: form !== "json" ? null : cut ? "cut off, so as text" : "not JSON, so as text" };
}

function decoded(bytes, cut) {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes, { stream: cut });
  } catch {
    return null;
  }
}

function isJson(text) {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}

export function indented(text) {
  const lines = [];
  let depth = 0,
    line = "",
    quoted = false,
    escaped = false,
    empty = false;
  const end = () => {
    lines.push(line);
    line = "  ".repeat(Math.min(depth, DEEPEST));
  };
  for (const character of text) {
    if (quoted) {
      line += character;
      if (escaped) escaped = false;
      else if (character === "\\") escaped = true;
      else if (character === '"') quoted = false;
      continue;
    }
    if (/\s/.test(character)) continue;
    const opens = character === "{" || character === "[",
      closes = character === "}" || character === "]";
    if (closes) depth -= 1;
    if (empty ? !closes : closes) end();
    line += character === ":" ? ": " : character;
    if (opens) depth += 1;
    if (character === ",") end();
    quoted = character === '"';
    empty = opens;
  }
  return [...lines, line].join("\n");
}

function hexadecimal(bytes) {
  const lines = [];
  for (let at = 0; at < bytes.length; at += PER_LINE) {
    const part = [...bytes.subarray(at, at + PER_LINE)];
    const digits = part
      .map((byte) => byte.toString(16).padStart(2, "0"))
      .join(" ")
      .padEnd(PER_LINE * 3 - 1);
    const text = part.map((byte) => (byte >= 0x20 && byte < 0x7f ? String.fromCharCode(byte) : ".")).join("");
    lines.push(`${at.toString(16).padStart(4, "0")}  ${digits}  ${text}`);
  }
  return lines.join("\n");
}
