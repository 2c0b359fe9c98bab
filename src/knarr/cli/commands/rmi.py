"""knarr rmi"""

from __future__ import annotations

from knarr.cli.as_root_of_namespace import enter
from knarr.cli.main import complain
from knarr.cli.options import Command, Option, Parsed
from knarr.engine.engine import Engine
from knarr.errors import KnarrError, NotFound


def _rmi(parsed: Parsed) -> int:
    from knarr.engine.images import remove

    engine = Engine()
    enter(engine)
    code = 0
    for name in parsed.args:
        try:
            for line in remove(engine, name, force=parsed.flag("force")):
                print(line)
        except NotFound as e:
            if not parsed.flag("force"):
                complain(e)
                code = 1
        except KnarrError as e:
            complain(e)
            code = 1
    return code


COMMAND = Command(
    "rmi",
    "Remove images; a layer goes with the last image that uses it.",
    "rmi [OPTIONS] IMAGE [IMAGE...]",
    _rmi,
    (Option("force", "Also while stopped containers use it; a missing one is no error", "flag", "f"),),
    minimum=1,
)
