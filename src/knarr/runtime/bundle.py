"""A bundle (bundle.md): a directory with a `config.json`, and the root filesystem that it names."""

from __future__ import annotations

import os
import stat

from knarr.errors import NotFound, UsageError
from knarr.oci import json
from knarr.oci.document import decode
from knarr.oci.spec import Spec
from knarr.record import Record

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
    text = read_document(os.path.join(path, config), regular=True)
    value = json.loads(text)
    json.check_characters(text, value)
    spec = decode(Spec, value)
    _check_version(spec.oci_version)
    return Bundle(path, spec, text)


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
