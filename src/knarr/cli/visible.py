"""What others wrote (images, registries, containers) as it may reach a terminal: nothing in it acts there."""

from __future__ import annotations


def visible(text: str) -> str:
    """Control characters, and whatever else does not print, as escapes; a line stays one line."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
