"""knarr inspect"""

from __future__ import annotations

from knarr.cli.main import complain
from knarr.cli.options import Command, Option, Parsed
from knarr.engine.engine import Engine
from knarr.errors import KnarrError, NotFound


def _inspect(parsed: Parsed) -> int:
    from knarr.cli.templates import render
    from knarr.engine.container_dir import find
    from knarr.engine.inspect import inspect_container, inspect_image

    engine = Engine()
    kind = parsed.text("type")
    found: list[dict[str, object]] = []
    code = 0
    for name in parsed.args:
        try:
            if kind != "image":
                try:
                    found.append(inspect_container(engine, find(engine.paths, name)))
                    continue
                except NotFound:
                    if kind == "container":
                        raise
            found.append(inspect_image(engine, name))
        except KnarrError as e:
            complain(e if kind or not isinstance(e, NotFound) else NotFound("object", name))
            code = 1
    form = parsed.text("format")
    if form:
        for item in found:
            print(render(form, item))
        return code
    from knarr.cli.pretty import pretty

    print(pretty(found))
    return code


COMMAND = Command(
    "inspect",
    "Show everything about containers and images as JSON.",
    "inspect [OPTIONS] NAME [NAME...]",
    _inspect,
    (
        Option("format", "Print with a template, or as json", short="f"),
        Option("type", "Look only for one kind", choices=("container", "image")),
        Option("size", "Accepted for docker's sake", "flag", "s"),
    ),
    minimum=1,
)
