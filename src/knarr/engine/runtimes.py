"""runtimes.toml: other runtimes that make containers (`knarr run --runtime NAME`). `docs/runtimes.md` describes it.

default = "runsc"                       # in place of knarr's own, which is "knarr"

[runtimes.runsc]
path = "/usr/bin/runsc"                 # else the program of that name
args = ["--platform=ptrace"]            # before its command
"""

from __future__ import annotations

import os

from knarr.errors import DataError, HostError, UsageError
from knarr.host import settings_file
from knarr.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from knarr.host.paths import Paths

FILE = "runtimes.toml"
OWN = "knarr"
# gVisor's "host" is the network namespace it finds itself in: the container's. Its own stack refuses to start where it
# takes that for the machine's, as the release in Debian 12 does on newer kernels.
# A user has no cgroups that it could use.
WITHOUT_ENTRY = {"runsc": ("--network=host",)}
WITHOUT_ENTRY_FOR_USERS = {"runsc": ("--network=host", "--ignore-cgroups")}
PACKAGES = ("crun", "runc", "runsc")  # of Debian, by the same names
_DIRECTORIES = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")


class Runtime(Record):
    """A program and what it is given before its command."""

    path: str
    args: tuple[str, ...] = ()


class Settings(Record):
    default: str = ""
    runtimes: Mapping[str, Runtime] = {}
    where: str = ""  # the file


def chosen(paths: Paths, asked: str) -> str:
    """The runtime of a container that is created: what was asked for, else the default; "" is our own."""
    name = asked or read(paths.config).default
    if name == OWN:
        return ""
    if name:
        find(paths, name)  # that there is none should be said now, not at every start
    return name


def find(paths: Paths, name: str) -> Runtime:
    """The runtime of that name, or at that path. Raises `UsageError`, `HostError`, `DataError`."""
    settings = read(paths.config)
    usual = (
        WITHOUT_ENTRY if os.geteuid() == 0 and "KNARR_USERNS" not in os.environ else WITHOUT_ENTRY_FOR_USERS
    )
    entry = settings.runtimes.get(name) or Runtime("", usual.get(name, ()))
    path = entry.path or name
    if "/" not in path:
        places = (*os.environ.get("PATH", "").split(":"), *_DIRECTORIES)
        path = next((f"{d}/{path}" for d in places if d and _executable(f"{d}/{path}")), "")
    if not path or not _executable(path):
        hint = f"apt install {name}" if name in PACKAGES else f"name its path, or describe it in {FILE}"
        raise HostError(f"--runtime {name}: {entry.path or name}: not found, or not executable", hint=hint)
    return Runtime(os.path.abspath(path), entry.args)


def _executable(path: str) -> bool:
    return os.path.isfile(path) and os.access(path, os.X_OK)


def read(directories: Iterable[str]) -> Settings:
    """The first file there is. Raises `DataError`, `HostError`."""
    for directory in directories:
        path = f"{directory}/{FILE}"
        document = settings_file.load(path) if os.path.exists(path) else None
        if document is not None:
            return decode(document, path)
    return Settings()


def decode(document: Mapping[str, Any], where: str) -> Settings:
    """One file's document, checked key by key. Pure. Raises `DataError` with the place of the first fault."""
    settings_file.check_keys(document, ("default", "runtimes"), where)
    default = document.get("default", "")
    if not isinstance(default, str):
        raise DataError(f"{where}: default: {default!r} is not a runtime's name")
    tables = document.get("runtimes", {})
    if not isinstance(tables, dict):
        raise DataError(f"{where}: runtimes: is not a table; write [runtimes.NAME]")
    return Settings(default, {name: _runtime(name, table, where) for name, table in tables.items()}, where)


def _runtime(name: str, table: Any, where: str) -> Runtime:
    place = f"{where}: runtimes.{name}"
    if name == OWN:
        raise DataError(f"{place}: is knarr's own, which is always there")
    if not isinstance(table, dict):
        raise DataError(f"{place}: is not a table; write [runtimes.{name}]")
    settings_file.check_keys(table, ("path", "args"), place)
    path, args = table.get("path", ""), table.get("args", [])
    if not isinstance(path, str) or (path and not path.startswith("/")):
        raise DataError(f"{place}.path: {path!r} is not an absolute path")
    if not isinstance(args, list) or not all(isinstance(word, str) and "\0" not in word for word in args):
        raise DataError(f"{place}.args: is not a list of words")
    return Runtime(path, tuple(args))


def refuse_together(runtime: str, *, init: bool) -> None:
    """What only knarr's own runtime does. Raises `UsageError`."""
    if init:
        raise UsageError(
            f"--init cannot be used with --runtime {runtime}: it is a part of knarr's own runtime"
        )
