"""What a pull shows: bars on a terminal, docker's lines everywhere else. `rich` is imported for bars only."""

from __future__ import annotations

import sys
import threading

from knarr.cli.visible import visible
from knarr.engine.pull import Progress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

    from knarr.oci.reference import Reference

_SHORT = 12


def progress_for(*, quiet: bool) -> Progress:
    """The one that suits standard output."""
    if quiet:
        return Quiet()
    if sys.stdout.isatty():
        return OnTerminal()
    return Lines()


class Quiet(Progress):
    """Warnings only."""

    def warned(self, message: str) -> None:
        print(f"knarr: warning: {visible(message)}", file=sys.stderr)


class Lines(Quiet):
    """A line per event, as docker prints to a pipe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._fetched: set[str] = set()
        self._sizes: dict[str, int] = {}

    def started(self, reference: Reference) -> None:
        self._say(opening(reference))

    def waiting(self, digest: str, size: int) -> None:
        self._sizes[digest] = size
        self._say(f"{short(digest)}: Pulling fs layer")

    def exists(self, digest: str) -> None:
        self._say(f"{short(digest)}: Already exists")

    def advanced(self, digest: str, fetched: int) -> None:
        if fetched >= self._sizes.get(digest, 0) and digest not in self._fetched:
            self._fetched.add(digest)
            self._say(f"{short(digest)}: Download complete")

    def complete(self, digest: str) -> None:
        self._say(f"{short(digest)}: Pull complete")

    def finished(self, reference: Reference, digest: str, newer: bool) -> None:
        for line in closing(reference, digest, newer):
            self._say(line)

    def _say(self, line: str) -> None:
        with self._lock:
            print(line, flush=True)


class OnTerminal(Progress):
    """A bar per layer, redrawn by `rich`'s own thread."""

    def __init__(self) -> None:
        from rich.progress import BarColumn, DownloadColumn, TextColumn, TransferSpeedColumn
        from rich.progress import Progress as Bars

        self._bars: Bars = Bars(
            TextColumn("{task.fields[layer]}"),
            TextColumn("{task.description:<18}"),
            BarColumn(bar_width=None),
            DownloadColumn(),
            TransferSpeedColumn(),
            expand=True,
        )
        self._tasks: dict[str, TaskID] = {}
        self._drawn = False

    def started(self, reference: Reference) -> None:
        self._print(opening(reference))

    def warned(self, message: str) -> None:
        self._bars.console.print(
            f"warning: {visible(message)}", style="yellow", highlight=False, markup=False
        )

    def waiting(self, digest: str, size: int) -> None:
        self._tasks[digest] = self._bars.add_task("Waiting", total=size or None, layer=short(digest))

    def exists(self, digest: str) -> None:
        self._print(f"{short(digest)}: Already exists")

    def advanced(self, digest: str, fetched: int) -> None:
        if not self._drawn:
            self._drawn = True
            self._bars.start()
        self._bars.update(self._tasks[digest], description="Downloading", completed=fetched)

    def complete(self, digest: str) -> None:
        self._bars.update(self._tasks[digest], description="Pull complete")

    def finished(self, reference: Reference, digest: str, newer: bool) -> None:
        self.close()
        for line in closing(reference, digest, newer):
            self._print(line)

    def close(self) -> None:
        """Leaves the terminal as it was: cursor shown, the last state of the bars kept."""
        self._bars.stop()

    def _print(self, line: str) -> None:
        self._bars.console.print(line, highlight=False, markup=False, soft_wrap=True)


def opening(reference: Reference) -> str:
    """docker's first line."""
    return f"{reference.version}: Pulling from {reference.path}"


def closing(reference: Reference, digest: str, newer: bool) -> tuple[str, str]:
    """docker's last lines."""
    state = "Downloaded newer image for" if newer else "Image is up to date for"
    return f"Digest: {digest}", f"Status: {state} {reference.familiar}"


def short(digest: str) -> str:
    """`4abcf2066143`."""
    return digest.partition(":")[2][:_SHORT]
