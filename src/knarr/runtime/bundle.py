"""A bundle (bundle.md): a directory with a `config.json`, and the root filesystem that it names."""

from __future__ import annotations

import os
import stat

from knarr.errors import DataError, NotFound, UsageError
from knarr.oci import json
from knarr.oci.document import decode
from knarr.oci.spec import Spec
from knarr.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_LARGEST = 64 << 20


class Bundle(Record):
    """`text` is config.json as it was read: what the container is made from is kept, whatever becomes of the file."""

    path: str
    spec: Spec
    text: bytes

    @property
    def rootfs(self) -> str:
        root = self.spec.root.path if self.spec.root else ""
        return os.path.normpath(os.path.join(self.path, root))


def read_bundle(path: str, config: str = "config.json") -> Bundle:
    """The bundle in a directory. `config` is another configuration's path.

    Raises `NotFound`, `UsageError`, `DataError`.
    """
    path = os.path.abspath(path)
    where = os.path.join(path, config)
    text = read_document(where, regular=True)
    spec = decode(Spec, parsed(text, where))
    _check_version(spec.oci_version)
    return Bundle(path, spec, text)


def parsed(text: bytes, where: str) -> Any:
    """The JSON value in a document that came from `where`. Raises `DataError` that names it."""
    try:
        value = json.loads(text)
        json.check_characters(text, value)
    except DataError as e:
        raise DataError(f"{where}: {e.message}") from e
    return value


def read_document(path: str, *, regular: bool = False) -> bytes:
    """The bytes of a JSON document that the caller named; a pipe will do unless it is to be `regular`: in a bundle it
    would have us wait for ever. Raises `NotFound`, `UsageError`."""
    try:
        with open(path, "rb", opener=_open_at_once if regular else None) as file:
            if regular and not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise UsageError(f"{path}: is not a file")
            text = file.read(_LARGEST + 1)
    except FileNotFoundError:
        raise NotFound("file", path, hint="`knarr-runtime spec` writes a config.json to begin with") from None
    if len(text) > _LARGEST:
        raise UsageError(f"{path}: is larger than {_LARGEST >> 20} MiB")
    return text


def _open_at_once(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)


def _check_version(text: str) -> None:
    """config.md, Specification version: SemVer, and within one major version all are compatible."""
    numbers = text.partition("-")[0].partition("+")[0].split(".")
    if len(numbers) != 3 or not all(n.isascii() and n.isdecimal() for n in numbers):
        raise UsageError(f"ociVersion: {text[:80]!r} is not a version")
    if int(numbers[0]) != 1:
        raise UsageError(f"ociVersion: {text} is not supported", hint="version 1 is")
