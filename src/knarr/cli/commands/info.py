"""knarr info"""

from __future__ import annotations

from knarr.cli.options import Command, Option, Parsed
from knarr.engine.engine import Engine


def _info(parsed: Parsed) -> int:
    from knarr.engine.info import info

    values = info(Engine())
    form = parsed.text("format")
    if form:
        from knarr.cli.templates import render

        print(render(form, values))
        return 0
    _print(values, "")
    return 0


def _print(values: dict[str, object], indent: str) -> None:
    for key, value in values.items():
        if isinstance(value, dict):
            print(f"{indent}{key}:")
            _print(value, indent + "  ")
        elif isinstance(value, list):
            print(f"{indent}{key}: {', '.join(map(str, value)) or 'none'}")
        else:
            print(f"{indent}{key}: {value}")


COMMAND = Command(
    "info",
    "Show this machine, the store and what knarr can do here.",
    "info [OPTIONS]",
    _info,
    (Option("format", "Print with a template, or as json", short="f"),),
    maximum=0,
)
