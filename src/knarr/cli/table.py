"""Columns of text, as wide as their widest cell."""

from __future__ import annotations

from knarr.cli.visible import visible

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_GAP = "   "


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Left-aligned columns under `heads`; control characters in cells are shown, never sent to the terminal."""
    clean = [[visible(cell) for cell in row] for row in rows]
    widths = [
        max(len(head), *(len(row[i]) for row in clean)) if clean else len(head)
        for i, head in enumerate(heads)
    ]
    lines = [heads, *clean]
    return "\n".join(
        _GAP.join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )
