"""JSON as people read it, like `json.dumps(value, indent=4)` without the 9 ms that importing `json` costs."""

from __future__ import annotations

from knarr.oci.json import dumps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_INDENT = "    "


def pretty(value: Any, margin: str = "") -> str:
    """Indented JSON text; `margin` is that of the line it begins on."""
    inner = margin + _INDENT
    if isinstance(value, dict) and value:
        items = [f"{inner}{dumps(str(key))}: {pretty(item, inner)}" for key, item in value.items()]
        opening, closing = "{", "}"
    elif isinstance(value, (list, tuple)) and value:
        items = [inner + pretty(item, inner) for item in value]
        opening, closing = "[", "]"
    else:
        return dumps(value)
    return f"{opening}\n" + ",\n".join(items) + f"\n{margin}{closing}"
