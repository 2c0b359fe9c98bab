"""knarr port"""

from __future__ import annotations

from knarr.cli.options import Command, Parsed
from knarr.engine.container_dir import find
from knarr.engine.engine import Engine
from knarr.errors import NotFound


def _port(parsed: Parsed) -> int:
    engine = Engine()
    published = [p.split("->") for p in find(engine.paths, parsed.args[0]).run_record().ports]
    if len(parsed.args) == 1:
        for host, inside in published:
            print(f"{inside} -> {host}")
        return 0
    asked = parsed.args[1] if "/" in parsed.args[1] else f"{parsed.args[1]}/tcp"
    found = [host for host, inside in published if inside == asked]
    if not found:
        raise NotFound("published port", asked)
    print("\n".join(found))
    return 0


COMMAND = Command(
    "port",
    "Show the published ports of a container.",
    "port CONTAINER [PORT[/PROTOCOL]]",
    _port,
    minimum=1,
    maximum=2,
)
