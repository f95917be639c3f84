"""Hostile text: control sequences of terminals, markup, and bidirectional overrides."""

from __future__ import annotations

from hypothesis import strategies as st

__all__ = ["WORST", "hostile_texts"]

# Sequences that Rich itself never writes, so that a test can tell them from Rich's own.
_PIECES = (
    "\x1b[31337m", "\x1b[6n", "\x1b]0;owned\x07", "\x1b]8;;https://evil.test\x1b\\x\x1b]8;;\x1b\\",
    "\x1bP+q544e\x1b\\", "\x1b#8", "\x1bc", "\x9b31337m", "\x9d0;owned\x9c", "\x85", "\x7f", "\x08",
    "\x0c", "\x0e", "\x07", "\r", "\n", "\t", "\v", "\x1c",
    "\u202e", "\u2066", "\u2069", "\u200f", "\u061c", "\u200b", "\u200d", "\ufeff", "\u2028",
    "\u2029", "\xad", "\U000e0041", "\ufff9", "\u3164",
    "[/]", "[/x]", r"\[/x]", "[bold red]", "[link=https://evil.test]x[/link]", "[[", "]", "\\",
    ":smile:", ":warning:", "{0}", "{task}", "%s", "${x}", "$(x)", "`x`", "'", '"', "--json", "-x",
    "<script>document.body.dataset.hacked=1</script>", "</script>", "<!--", "&lt;", "]]>",
    '"><img src=x onerror="document.body.dataset.hacked=1">', "javascript:alert(1)",
    "עברית", "العربية", "日本語", "👩\u200d💻", "Z\u0351\u0358\u036b", "é", "\u00a0", "\u3000",
    "ab", "error: ", "2026-11-24T20:18:19Z", "a b  c", "0", "../..", "*", "?",
)  # fmt: skip

WORST = "".join(_PIECES)
"""All hostile sequences in one text."""


def hostile_texts(longest: int = 12) -> st.SearchStrategy[str]:
    """Return a strategy for texts of several pieces, without NUL, which PostgreSQL refuses."""
    letters = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8)
    piece = st.sampled_from(_PIECES) | letters
    return st.lists(piece, min_size=1, max_size=longest).map("".join)
