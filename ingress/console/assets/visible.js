// Text from outside, made safe to look at: characters that a reader can't see are written out, as
// otel/visible.py does for terminals, and text of another direction does not turn its neighbours.

// Control and format characters, with the bidirectional and zero-width ones, and what Unicode wants
// ignored where it is displayed, but for the variation selectors of emoji. Line feeds and tabs stay.
const UNSEEN = new RegExp(
  "[\\u0000-\\u0008\\u000b-\\u001f\\u007f-\\u009f\\u00ad\\u034f\\u061c\\u115f\\u1160" +
    "\\u17b4\\u17b5\\u180b-\\u180f\\u200b-\\u200f\\u2028-\\u202e\\u2060-\\u206f\\u3164\\ud800-\\udfff\\ufeff\\uffa0" +
    "\\ufff0-\\ufffb\\u{1bca0}-\\u{1bca3}\\u{1d173}-\\u{1d17a}\\u{e0000}-\\u{e0fff}]",
  "gu",
);
const RIGHT_TO_LEFT = /[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefe\u{10800}-\u{10fff}\u{1e800}-\u{1efff}]/u;

function written(character) {
  const code = character.codePointAt(0);
  const digits = code.toString(16);
  return code < 0x100 ? `\\x${digits.padStart(2, "0")}` : `<U+${digits.toUpperCase().padStart(4, "0")}>`;
}

export const visible = (text) => String(text).replace(UNSEEN, written);
// Of an id: line feeds and tabs in it are no space either.
export const visibleId = (text) => visible(text).replace(/[\t\n]/g, written);
export const turns = (text) => RIGHT_TO_LEFT.test(text);
