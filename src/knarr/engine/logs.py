"""Reading a container's log back: rotated files in order, both streams, following.

Two forms, told apart by their first byte: `TIME STREAM F|P TEXT` (k8s-file, P a part of a longer line) and
docker's json-file. A line is written in one piece by the monitor; the last one may be half there while it writes.
"""

from __future__ import annotations

import os
import time

from knarr.engine.container_dir import ContainerDir
from knarr.engine.quantities import seconds
from knarr.errors import DataError, KnarrError, NotFound, UsageError
from knarr.host.clock import parse, text
from knarr.oci import json
from knarr.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_CHUNK = 1 << 18
_POLL_S = 0.1
_LEAST_POLL_S = 0.005
_END_OF_TIME_NS = 253_402_300_800 * 10**9  # the year 10000: times are compared as text


class LogQuery(Record):
    """Times in nanoseconds since 1970, 0 for none. `tail` `None` is all."""

    follow: bool = False
    tail: int | None = None
    since_ns: int = 0
    until_ns: int = 0
    timestamps: bool = False


class Entry(Record):
    """One record of the log: a line, or with `partial` a piece of one."""

    stamp: str
    stream: str
    data: bytes
    partial: bool


def moment(value: str, what: str) -> int:
    """A time as docker takes it: RFC 3339, seconds since 1970, or an age as `10m`. 0 for none."""
    if not value:
        return 0
    try:
        if value.replace(".", "", 1).isdecimal():
            ns = int(float(value) * 1e9)
        elif "-" in value:
            ns = parse(value if "T" in value or " " in value else f"{value}T00:00:00Z")
        else:
            ns = time.time_ns() - int(seconds(value, what) * 1e9)
        if ns >= _END_OF_TIME_NS:
            raise ValueError(ns)
    except (ValueError, OverflowError):
        raise UsageError(f"invalid time {value!r} for {what}") from None
    return max(1, ns)


def print_logs(directory: ContainerDir, query: LogQuery) -> None:
    """Write a container's log to standard output and error, each to its own."""
    options = directory.config().options
    if options.log.driver == "none":
        raise KnarrError("the container keeps no log: it was created with --log-driver none")
    at_line_start = True
    for entry in _selected(directory, query):
        prefix = f"{entry.stamp} ".encode() if query.timestamps and at_line_start else b""
        _write(2 if entry.stream == "stderr" else 1, prefix + entry.data + (b"" if entry.partial else b"\n"))
        at_line_start = not entry.partial


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _selected(directory: ContainerDir, query: LogQuery) -> Iterator[Entry]:
    since = text(query.since_ns) if query.since_ns else ""
    until = text(query.until_ns) if query.until_ns else ""
    reader = _Reader(f"{directory.root}/log")
    history = (
        e for e in map(_entry, reader.history()) if e.stamp >= since and not (until and e.stamp > until)
    )
    yield from history if query.tail is None else _last(history, query.tail)
    if not query.follow:
        return
    for line in reader.follow(directory):
        entry = _entry(line)
        if until and entry.stamp > until:
            return
        if entry.stamp >= since:
            yield entry


def _last(entries: Iterator[Entry], lines: int) -> list[Entry]:
    """The last `lines` whole lines; a line in pieces counts once."""
    kept: list[list[Entry]] = []
    current: list[Entry] = []
    for entry in entries:
        current.append(entry)
        if not entry.partial:
            kept.append(current)
            current = []
            if len(kept) > lines:
                kept.pop(0)
    if current:
        kept.append(current)
    return [entry for line in kept[max(0, len(kept) - lines) :] for entry in line]


def _entry(line: bytes) -> Entry:
    if line[:1] == b"{":
        fields = json.loads(line)
        data = str(fields.get("log", "")).encode("utf-8", "surrogateescape")
        whole = data.endswith(b"\n")
        return Entry(
            _nine(str(fields.get("time", ""))),
            str(fields.get("stream", "stdout")),
            data[:-1] if whole else data,
            not whole,
        )
    stamp, _, rest = line.partition(b" ")
    stream, _, rest = rest.partition(b" ")
    tag, _, data = rest.partition(b" ")
    if tag not in (b"F", b"P"):
        raise DataError(f"the log holds a line knarr did not write: {line[:60]!r}")
    return Entry(
        _nine(stamp.decode("ascii", "replace")), stream.decode("ascii", "replace"), data, tag == b"P"
    )


def _nine(stamp: str) -> str:
    """A UTC time with exactly nine digits of a second, so that text order is time order."""
    head, _, fraction = stamp.removesuffix("Z").partition(".")
    return f"{head}.{fraction:0<9}Z"


def _identity(found: os.stat_result) -> tuple[int, int]:
    return found.st_ino, found.st_dev


class _Reader:
    """Lines of a log that its writer renames away from under us (PATH to PATH.1 and so on)."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._rest = b""
        self._fd = -1

    def history(self) -> Iterator[bytes]:
        """Every whole line there is, the oldest first. The current file stays open for `follow`."""
        self._begin()
        yield from self._lines()
        while self._next():
            yield from self._lines()

    def follow(self, directory: ContainerDir) -> Iterator[bytes]:
        """New lines until the container has ended and all is read."""
        pause = _LEAST_POLL_S
        while True:
            alive = directory.alive()
            any_line = False
            for line in self._lines():
                any_line = True
                yield line
            if self._next():
                continue
            if not alive:
                return
            # Who writes much may go round all of its files within the longest pause.
            pause = _LEAST_POLL_S if any_line else min(_POLL_S, pause * 2)
            time.sleep(pause)

    def _files(self) -> list[tuple[str, tuple[int, int]]]:
        """The log's files, the newest first, and which they are. Files move in that direction while we look, so that
        one may be seen twice, but none is missed, and neighbours are neighbours."""
        directory, _, base = self._path.rpartition("/")
        numbers = []
        try:
            names = os.listdir(directory)
        except FileNotFoundError:
            return []  # the container is removed
        for name in names:
            suffix = name.removeprefix(f"{base}.")
            if suffix != name and suffix.isdecimal():
                numbers.append(int(suffix))
        found = []
        for path in (self._path, *(f"{self._path}.{n}" for n in sorted(numbers))):
            try:
                found.append((path, _identity(os.stat(path))))
            except FileNotFoundError:
                continue
        return found

    def _begin(self) -> None:
        """Open the oldest file there is."""
        files = self._files()
        if files:
            self._open(files[-1][0])

    def _next(self) -> bool:
        """Open the file that was begun after the one that is open; False when there is none yet."""
        while self._fd >= 0:
            files = self._files()
            ours = os.fstat(self._fd)
            known = [identity for _, identity in files]
            if _identity(ours) in known:
                place = known.index(_identity(ours)) - 1
            elif not files:
                return False
            elif ours.st_nlink:  # being renamed at this moment
                time.sleep(0)
                continue
            else:  # it was the oldest, and is gone: what is the oldest now is next, whatever was between
                place = len(files) - 1
            if place < 0:
                return False
            old = self._fd
            self._fd = -1
            self._open(files[place][0])
            if self._fd >= 0 and _identity(os.fstat(self._fd)) == files[place][1]:
                os.close(old)
                return True
            if self._fd >= 0:  # another one by now
                os.close(self._fd)
            self._fd = old
        self._open(self._path)
        return self._fd >= 0

    def _open(self, path: str) -> None:
        if self._fd >= 0:
            os.close(self._fd)
        self._rest = b""
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            self._fd = -1
        except PermissionError as e:
            raise NotFound("log", path) from e

    def _lines(self) -> Iterator[bytes]:
        while self._fd >= 0 and (chunk := os.read(self._fd, _CHUNK)):
            *lines, self._rest = (self._rest + chunk).split(b"\n")
            yield from lines
