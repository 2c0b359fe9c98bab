"""knarr-runtime spec"""

from __future__ import annotations

import os

from knarr.cli.options import Command, Option
from knarr.cli.pretty import pretty
from knarr.errors import Conflict
from knarr.oci.document import encode
from knarr.runtime.template import rootless, template

TYPE_CHECKING = False
if TYPE_CHECKING:
    from knarr.runtime_cli.context import Context


def _spec(context: Context) -> int:
    spec = template(unified=not context.facts.cgroups_v1)
    if context.parsed.flag("rootless"):
        spec = rootless(spec, os.geteuid(), os.getegid())
    document = encode(spec)
    # What everybody changes first is there to be seen, though it is what would be without it.
    document["process"]["user"] = {"uid": 0, "gid": 0}
    path = os.path.join(context.parsed.text("bundle") or ".", context.parsed.text("file"))
    try:
        with open(path, "x") as file:
            file.write(f"{pretty(document)}\n")
    except FileExistsError:
        raise Conflict(f"{path} already exists", hint="remove it, or go elsewhere with --bundle") from None
    return 0


COMMAND = Command(
    "spec",
    "Write a config.json to begin with.",
    "spec [OPTIONS]",
    _spec,
    (
        Option("bundle", "Where to (default: the working directory)", short="b", metavar="DIR"),
        Option("file", "Under another name", short="f", metavar="FILE", default="config.json"),
        Option("rootless", "For a user who is not root", kind="flag"),
    ),
    maximum=0,
)
