"""Step: one instruction for the executor; the wire form of a list of them.

`docs/plan.md` lists every operation and its arguments. On the wire a plan is NUL-separated text:

    knarr-plan NUL 1 NUL <number of steps> NUL
    then per step:  op NUL flags NUL origin NUL <number of args> NUL arg NUL ...

`flags` is empty or `?` (optional: a failure is reported as a warning and the plan goes on).
"""

from __future__ import annotations

from knarr.errors import UsageError
from knarr.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

MAGIC = "knarr-plan"
VERSION = 1


class Step(Record):
    """`origin` is where in the specification's config it came from: `mounts[3]`, `linux.seccomp`."""

    op: str
    args: tuple[str, ...]
    origin: str
    optional: bool = False

    def __str__(self) -> str:
        return f"{self.op}{'?' if self.optional else ''} {' '.join(map(shown, self.args))}".rstrip()


def shown(arg: str) -> str:
    """An argument as `--plan` prints it: quoted where it is not plain, long binary fields shortened."""
    if len(arg) > 160:
        return f"{arg[:40]}…({len(arg)} characters)"
    return arg if arg and not any(c.isspace() or c in "'\"" for c in arg) else repr(arg)


def quoted(text: str) -> str:
    """Text of the user's in an error message: on one line, however long or strange it is."""
    return repr(text) if len(text) <= 80 else f"{text[:40]!r}… ({len(text)} characters)"


def key(name: str) -> str:
    """A key of a map in the spec, as part of an origin: as it is if that is one short line."""
    return name if name.isprintable() and len(name) <= 80 else quoted(name)


def to_wire(steps: Iterable[Step]) -> bytes:
    """The plan as `native/init` reads it. Raises `UsageError` for a field with a NUL in it, or that is not text."""
    fields: list[str] = []
    count = 0
    for step in steps:
        count += 1
        fields += (step.op, "?" if step.optional else "", step.origin, str(len(step.args)))
        for arg in step.args:
            if "\0" in arg:
                raise UsageError(f"{step.origin}: contains a NUL byte")
        fields += step.args
    head = f"{MAGIC}\0{VERSION}\0{count}\0"
    body = "\0".join(fields) + "\0" if fields else ""
    try:
        return (head + body).encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as e:  # half of a surrogate pair, which JSON can spell
        at = body.count("\0", 0, max(0, e.start - len(head)))
        raise UsageError(
            f"{_origin_of(fields, at)}: contains {e.object[e.start]!r}, which is not a character"
        ) from e


def _origin_of(fields: list[str], index: int) -> str:
    """The origin of the step that field number `index` belongs to."""
    at = 0
    while at < len(fields):
        end = at + 4 + int(fields[at + 3])
        if index < end:
            return fields[at + 2]
        at = end
    return "plan"
