"""knarr create"""

from __future__ import annotations

import os

from knarr.cli.container_flags import OPTIONS, container_options
from knarr.cli.options import Command, Option, Parsed
from knarr.engine.engine import Engine


def _create(parsed: Parsed) -> int:
    from knarr.cli.cidfile import reserve
    from knarr.engine.create import create
    from knarr.engine.images import resolve

    options = container_options(parsed)._replace(auto_remove=parsed.flag("rm"))
    engine = Engine()
    cidfile = reserve(parsed.text("cidfile"))
    try:
        image = resolve(
            engine,
            options.image,
            pull=parsed.text("pull"),
            platform=parsed.text("platform"),
            quiet=parsed.flag("quiet"),
        )
        _, config, lock = create(engine, options, image)
        cidfile.write(config.id)
    except BaseException:
        cidfile.give_up()
        raise
    os.close(lock)
    print(config.id)
    return 0


COMMAND = Command(
    "create",
    "Create a container from an image and do not start it.",
    "create [OPTIONS] IMAGE [COMMAND] [ARGUMENT...]",
    _create,
    tuple(
        sorted((*OPTIONS, Option("rm", "Remove the container when it ends", "flag")), key=lambda o: o.name)
    ),
    minimum=1,
    stops_at_argument=True,
)
