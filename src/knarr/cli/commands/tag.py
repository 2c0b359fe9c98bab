"""knarr tag"""

from __future__ import annotations

from knarr.cli.options import Command, Parsed
from knarr.engine.engine import Engine


def _tag(parsed: Parsed) -> int:
    from knarr.engine.images import tag

    tag(Engine(), parsed.args[0], parsed.args[1])
    return 0


COMMAND = Command("tag", "Give an image another name.", "tag IMAGE NAME[:TAG]", _tag, minimum=2, maximum=2)
