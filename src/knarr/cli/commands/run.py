"""knarr run"""

from __future__ import annotations

import os
import sys

from knarr.cli.container_flags import OPTIONS, container_options
from knarr.cli.options import Command, Option, Parsed
from knarr.engine.engine import Engine
from knarr.errors import KnarrError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from knarr.engine.container_dir import ContainerDir

_RUN_OPTIONS = (
    Option("detach", "Run in the background and print the container's id", "flag", "d"),
    Option("detach-keys", "Keys that leave the container running", default="ctrl-p,ctrl-q"),
    Option("plan", "Print the steps and where each comes from in the specification; run nothing", "flag"),
    Option("print-spec", "Print the runtime specification; run nothing", "flag"),
    Option("rm", "Remove the container when it ends", "flag"),
    Option("sig-proxy", "Pass signals on to the container", "flag", default="true"),
)


def _run(parsed: Parsed) -> int:
    from knarr.cli.cidfile import reserve
    from knarr.cli.warnings import warn
    from knarr.engine.images import resolve

    options = container_options(parsed)._replace(auto_remove=parsed.flag("rm"))
    detach = parsed.flag("detach")
    keys = ""
    if options.tty and options.stdin and not detach:
        from knarr.cli.detach_keys import to_hex

        keys = to_hex(parsed.text("detach-keys"))
        if not os.isatty(0):
            raise UsageError("the input device is not a terminal", hint="leave -t away")
    engine = Engine()
    if parsed.flag("plan") or parsed.flag("print-spec"):
        from knarr.engine.preview import preview

        image = resolve(
            engine, options.image, pull=parsed.text("pull"), platform=parsed.text("platform"), quiet=False
        )
        print(preview(engine, options, image, spec_only=parsed.flag("print-spec")))
        return 0
    from knarr.engine.create import create
    from knarr.engine.start import Foreground, start

    cidfile = reserve(parsed.text("cidfile"))
    try:
        image = resolve(
            engine,
            options.image,
            pull=parsed.text("pull"),
            platform=parsed.text("platform"),
            quiet=parsed.flag("quiet"),
        )
        directory, config, lock = create(engine, options, image, starts=True)
        cidfile.write(config.id)
    except BaseException:
        cidfile.give_up()
        raise
    foreground = None
    if not detach:
        foreground = Foreground(os.isatty(0), parsed.flag("sig-proxy"), keys)
    try:
        started = start(engine, directory, config, lock, foreground=foreground, warn=warn)
    except BaseException:
        # It never ran: the state of before, not a container that cannot be started (docker leaves one).
        os.close(lock)
        _remove_again(engine, directory)
        raise
    if foreground is None:
        print(config.id)
        return 0
    sys.stdout.flush()
    from knarr.engine.monitor import become_front

    become_front(started.connection, started.front_words)
    return 125


def _remove_again(engine: Engine, directory: ContainerDir) -> None:
    from knarr.engine.remove import remove

    try:
        remove(engine, directory, force=True, volumes=True)
    except KnarrError:
        return  # with --rm the monitor has done it; anything else must not hide why the start failed


COMMAND = Command(
    "run",
    "Create a container from an image and run a command in it.",
    "run [OPTIONS] IMAGE [COMMAND] [ARGUMENT...]",
    _run,
    tuple(sorted((*OPTIONS, *_RUN_OPTIONS), key=lambda o: o.name)),
    minimum=1,
    stops_at_argument=True,
)
