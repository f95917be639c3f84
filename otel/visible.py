"""Text from outside, made safe to look at: characters that a reader can't see are written out.

Ids, errors and content come from strangers. In a terminal a control character may move the cursor,
rename the window or ask it for input (ECMA-48); a bidirectional control makes text read otherwise
than it stands (Unicode TR 36); a zero-width character makes two ids look alike.
"""

from __future__ import annotations

import json
import re

__all__ = ["visible", "visible_json"]

# Control characters (C0, DEL, C1), format characters with the bidirectional and zero-width ones,
# line and paragraph separators, lone surrogates, and the other characters that Unicode calls
# Default_Ignorable_Code_Point, except the variation selectors of emoji.
_UNSEEN = re.compile(
    r"[\x00-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f"
    r"\u2028-\u202e\u2060-\u206f\u3164\ud800-\udfff\ufeff\uffa0\ufff0-\ufffb"
    r"\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
_ONE_BYTE = 0xFF
_NAMED = {"\n": r"\n", "\r": r"\r", "\t": r"\t"}


def visible(text: str, *, lines: bool = False) -> str:
    r"""Return ``text`` with each unseen character written as ``\x1b`` or ``<U+202E>``.

    With ``lines``, line feeds stay. The result can't be read back: backslashes are not escaped.
    """
    if text.isprintable():
        return text
    if lines:
        return "\n".join(visible(line) for line in text.split("\n"))
    return _UNSEEN.sub(_written, text)


def visible_json(text: str) -> str:
    r"""Return JSON ``text`` with each unseen character of its strings as ``\u202e`` (RFC 8259, 7).

    Its meaning stays the same. Line feeds stay: JSON has them only between its tokens.
    """
    if text.isprintable():
        return text
    return "\n".join(_UNSEEN.sub(_unicode_escape, line) for line in text.split("\n"))


def _written(found: re.Match[str]) -> str:
    character = found[0]
    if named := _NAMED.get(character):
        return named
    code = ord(character)
    return f"\\x{code:02x}" if code <= _ONE_BYTE else f"<U+{code:04X}>"


def _unicode_escape(found: re.Match[str]) -> str:
    return json.dumps(found[0])[1:-1]
