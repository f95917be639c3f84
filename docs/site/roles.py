"""Read the cross-references of our docstrings, which Zensical's Markdown does not know.

Docstrings say ``:class:`Transport```, as Sphinx has it. The site wants a link, or plain code where
the name has no entry in the reference.
"""

from __future__ import annotations

import re
from typing import Any

from griffe import Extension, Object

__all__ = ["Roles"]

_ROLE = re.compile(r":(?:attr|class|data|exc|func|meth|mod):`~?([\w.]+)`")
_LITERAL = re.compile(r"``([^`]+)``")


class Roles(Extension):
    """Makes code of ``:role:`name``` in every docstring that is loaded."""

    def on_instance(self, *, obj: Object, **_: Any) -> None:
        """Rewrite the docstring of ``obj``, if it has one."""
        if obj.docstring is not None:
            obj.docstring.value = _LITERAL.sub(r"`\1`", _ROLE.sub(r"`\1`", obj.docstring.value))
