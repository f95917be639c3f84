"""Parts of a path: any text, and digits.

Starlette's ``path`` ends at a line feed, and its ``int`` fails at a number of over 4,300 digits.
"""

from __future__ import annotations

from starlette.convertors import Convertor, register_url_convertor

__all__ = ["ANY_TEXT", "DIGITS", "DigitsConvertor", "TextConvertor"]

ANY_TEXT = "text"
"""The convertor's name in a route: ``f"/conversations/{{conversationId:{ANY_TEXT}}}"``."""
DIGITS = "digits"
"""The convertor's name for a number. The route's parameter has the bounds."""


class TextConvertor(Convertor[str]):
    """Takes every character, slashes and line feeds too."""

    regex = "(?s:.*)"

    def convert(self, value: str) -> str:
        """Return the part of the path as it is."""
        return value

    def to_string(self, value: str) -> str:
        """Return the text as it is."""
        return value


class DigitsConvertor(TextConvertor):
    """Takes digits, however many, and leaves them as text."""

    regex = "[0-9]+"


register_url_convertor(ANY_TEXT, TextConvertor())
register_url_convertor(DIGITS, DigitsConvertor())
