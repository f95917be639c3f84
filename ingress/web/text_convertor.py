"""A part of a path that is any text: Starlette's ``path`` ends at a line feed."""

from __future__ import annotations

from starlette.convertors import Convertor, register_url_convertor

__all__ = ["ANY_TEXT", "TextConvertor"]

ANY_TEXT = "text"
"""The convertor's name in a route: ``f"/conversations/{{conversationId:{ANY_TEXT}}}"``."""


class TextConvertor(Convertor[str]):
    """Takes every character, slashes and line feeds too."""

    regex = "(?s:.*)"

    def convert(self, value: str) -> str:
        """Return the part of the path as it is."""
        return value

    def to_string(self, value: str) -> str:
        """Return the text as it is."""
        return value


register_url_convertor(ANY_TEXT, TextConvertor())
