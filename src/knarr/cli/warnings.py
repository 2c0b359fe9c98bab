"""Warnings: one line each on standard error."""

from __future__ import annotations

import os

from knarr.cli.visible import visible


def warn(text: str) -> None:
    """What was asked and cannot be done in full, and why."""
    os.write(2, f"knarr: warning: {visible(text)}\n".encode("utf-8", "backslashreplace"))
