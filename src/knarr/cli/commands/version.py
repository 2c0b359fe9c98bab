"""knarr version"""

from __future__ import annotations

import os

from knarr.cli.options import Command, Option, Parsed


def _version(parsed: Parsed) -> int:
    from knarr import __version__
    from knarr.oci.spec import OCI_VERSION

    if parsed.flag("short"):
        print(f"knarr version {__version__}")
        return 0
    system = os.uname()
    fields = {
        "Version": __version__,
        "OCI runtime": OCI_VERSION,
        "Kernel": system.release,
        "OS/Arch": f"linux/{system.machine}",
    }
    if parsed.text("format") == "json":
        from knarr.oci.json import dumps

        print(dumps({key.replace(" ", "").replace("/", ""): value for key, value in fields.items()}))
        return 0
    for key, value in fields.items():
        print(f"{key + ':':<14}{value}")
    return 0


COMMAND = Command(
    "version",
    "Show the version of knarr and of what it speaks.",
    "version [OPTIONS]",
    _version,
    (
        Option("short", "Print one line", "flag"),
        Option("format", "Print as json", short="f", choices=("json",)),
    ),
    maximum=0,
)
