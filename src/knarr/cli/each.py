"""Commands that do one thing to each of several objects: all are tried, failures are told, the exit code says so."""

from __future__ import annotations

from knarr.cli.main import complain
from knarr.errors import KnarrError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


def each(
    names: Iterable[str], act: Callable[[str], object], forgiven: tuple[type[KnarrError], ...] = ()
) -> int:
    """Call `act` with each name and print the name when it worked. 1 when any failed in a way that is not forgiven."""
    code = 0
    for name in names:
        try:
            act(name)
        except KnarrError as e:
            complain(e)
            code = code or int(not isinstance(e, forgiven))
        else:
            print(name)
    return code
