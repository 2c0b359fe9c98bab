"""knarr pull"""

from __future__ import annotations

import os
import sys

from knarr.cli.as_root_of_namespace import enter
from knarr.cli.options import Command, Option, Parsed
from knarr.cli.warnings import warn
from knarr.engine.engine import Engine


def _pull(parsed: Parsed) -> int:
    from knarr.cli.progress import progress_for
    from knarr.engine.pull import pull

    engine = Engine()
    enter(engine)
    engine.prepare_directories()
    shown = progress_for(quiet=parsed.flag("quiet"))
    names: list[str] = []
    try:
        for word in parsed.args:
            pulled = pull(
                engine.store,
                word,
                platform=parsed.text("platform") or os.environ.get("DOCKER_DEFAULT_PLATFORM", ""),
                policy=parsed.text("policy"),
                progress=shown,
                config=engine.paths.config,
            )
            names.append(str(pulled.reference))
    except KeyboardInterrupt:
        shown.close()
        print("knarr: pull interrupted; the next one goes on with what has come", file=sys.stderr)
        return 130
    finally:
        shown.close()
        engine.store.close()
    for line in engine.store.warnings():
        warn(line)
    print("\n".join(names))
    return 0


COMMAND = Command(
    "pull",
    "Fetch images from their registries.",
    "pull [OPTIONS] NAME[:TAG|@DIGEST]...",
    _pull,
    (
        Option("platform", "Fetch the image for this platform: os/architecture[/variant]", metavar="PLATFORM"),
        Option("quiet", "Print the name only", "flag", "q"),
        Option(
            "policy", "When to ask the registry", metavar="POLICY",
            choices=("always", "missing", "never"), default="always",
        ),
    ),
    minimum=1,
)  # fmt: skip
