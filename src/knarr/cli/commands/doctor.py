"""knarr doctor"""

from __future__ import annotations

from knarr.cli.options import Command, Parsed
from knarr.engine.engine import Engine

_MARKS = {"ok": "ok", "warn": "!!", "missing": "--"}


def _doctor(parsed: Parsed) -> int:
    from knarr.host.doctor import MISSING, checks
    from knarr.host.machine import this_machine

    engine = Engine()
    code = 0
    for check in checks(this_machine(engine.facts, engine.paths)):
        print(f"[{_MARKS[check.status]}] {check.name}: {check.meaning}")
        if check.mend:
            print(f"       mend: {check.mend}")
        if check.status == MISSING:
            code = 1
    return code


COMMAND = Command(
    "doctor",
    "Say what this machine lacks, what that costs, and the command that mends it.",
    "doctor",
    _doctor,
    maximum=0,
)
