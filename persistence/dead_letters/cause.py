"""The cause of a dead letter: its error's text without the parts that differ between letters.

Letters that failed for one cause are shown, redriven and discarded together. So two texts that
report the same fault of two records have to become one. Ids, numbers, times and quoted values are
replaced. The name of a schema object (``constraint "messages_pkey"``) names the fault, and stays.
"""

from __future__ import annotations

import re

__all__ = ["LONGEST_CAUSE", "cause_of"]

LONGEST_CAUSE = 200
"""In characters. An index takes at most 2,704 bytes, and a reader hardly more than two lines."""

_READ = 1000
"""How many characters of the error are examined."""

# One pass, so that a replacement is never replaced itself. The order of alternatives matters.
_VARIABLE = re.compile(
    r"""
      (?P<name> \b (?:column|constraint|encoding|function|index|relation|role|schema|table|trigger
          |type) \s "[^"]{1,63}" )
    | (?P<quoted> "[^"]{0,200}" | (?<!\w) '[^']{0,200}' (?!\w) | `[^`]{0,200}`
          | “[^”]{0,200}” | «[^»]{0,200}» )
    | (?P<time> \b \d{4}-\d\d-\d\d (?: [T ] \d\d:\d\d (?: :\d\d (?: [.,]\d+ )? )?
          (?: Z | [+-]\d\d:?\d\d )? )? \b )
    | (?P<id> \b [0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12} \b
          | (?<![\w-]) (?! 0x) (?= (?:[^\W\d]|-)*+ \d (?:[^\W\d]|-)*+ \d ) (?= [\d-]*+ [^\W\d] )
            [\w-]{8,} )
    | (?P<number> \b 0x [0-9a-f]+ \b | (?<![\w.]) [-+]? \d++ (?: [.,:/-] \d++ )*+ (?!\w) )
    """,
    re.VERBOSE | re.IGNORECASE,
)
_PLACEHOLDERS = {"quoted": "'…'", "time": "<time>", "id": "<id>", "number": "<n>"}


def cause_of(error: str) -> str:
    """Return the cause of ``error``, in at most ``LONGEST_CAUSE`` characters."""
    text = _VARIABLE.sub(_replaced, " ".join(error[:_READ].split()))
    return text if len(text) <= LONGEST_CAUSE else f"{text[: LONGEST_CAUSE - 1]}…"


def _replaced(found: re.Match[str]) -> str:
    kind = found.lastgroup or ""
    return _PLACEHOLDERS.get(kind, found.group())
