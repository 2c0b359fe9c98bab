"""`-v`, `--mount` and `--tmpfs` as docker writes them, to mount requests.

-v [SOURCE:]TARGET[:OPTIONS]              a SOURCE with a slash is a host path (made when missing), else a volume's name
--mount type=bind,source=…,target=…,…     a missing host path is refused
--tmpfs TARGET[:OPTIONS]
"""

from __future__ import annotations

import os

from knarr.engine.options import MountRequest
from knarr.engine.quantities import size
from knarr.errors import UsageError

_PROPAGATION = frozenset(("shared", "slave", "private", "rshared", "rslave", "rprivate"))
_VOLUME_OPTIONS = _PROPAGATION | frozenset(
    ("ro", "rw", "z", "Z", "nocopy", "copy", "cached", "delegated", "consistent", "exec", "noexec", "dev")
    + ("nodev", "suid", "nosuid", "rbind", "bind")
)
_NAME = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-")


def from_volume_flag(text: str) -> MountRequest:
    """One `-v`. Raises `UsageError`."""
    parts = text.split(":")
    if len(parts) > 3 or not all(parts) or "\0" in text:
        raise UsageError(f"invalid volume specification: {text!r}", hint="as [SOURCE:]TARGET[:OPTIONS]")
    source = parts[0] if len(parts) > 1 else ""
    target = _target(parts[-1] if len(parts) == 1 else parts[1], text)
    options = tuple(parts[2].split(",")) if len(parts) == 3 else ()
    for option in options:
        if option not in _VOLUME_OPTIONS:
            raise UsageError(f"invalid volume specification: {text!r}: unknown mode {option!r}")
    if "ro" in options and "rw" in options:
        raise UsageError(f"invalid volume specification: {text!r}: both ro and rw")
    kept = tuple(o for o in options if o not in ("ro", "rw"))
    if "/" not in source and source not in (".", "..", "~"):
        return MountRequest("volume", target, volume_name(source), "ro" in options, kept)
    return MountRequest("bind", target, os.path.abspath(source), "ro" in options, kept, make_source=True)


def from_tmpfs_flag(text: str) -> MountRequest:
    """One `--tmpfs`."""
    target, _, options = text.partition(":")
    return MountRequest("tmpfs", _target(target, text), options=tuple(o for o in options.split(",") if o))


def from_mount_flag(text: str) -> MountRequest:
    """One `--mount`. Raises `UsageError` for a key docker does not know."""
    kind, source, target, read_only = "volume", "", "", False
    options: list[str] = []
    for field in _csv(text):
        key, equals, value = field.partition("=")
        key = key.strip().lower()
        if key == "type":
            kind = value
        elif key in ("source", "src"):
            source = value
        elif key in ("target", "destination", "dst"):
            target = value
        elif key in ("readonly", "ro"):
            read_only = not equals or value in ("1", "true")
        elif key in ("bind-propagation", "consistency"):
            options += [value] if value in _PROPAGATION else []
        elif key == "volume-nocopy":
            options += ["nocopy"] if not equals or value in ("1", "true") else []
        elif key == "bind-nonrecursive":
            options += ["bind"] if not equals or value in ("1", "true") else []
        elif key == "tmpfs-size":
            options.append(f"size={size(value, '--mount tmpfs-size')}")
        elif key == "tmpfs-mode":
            options.append(f"mode={value}")
        elif key != "volume-driver" or value != "local":
            raise UsageError(f"invalid argument {text!r} for --mount: unexpected key {key!r}")
    if kind not in ("bind", "volume", "tmpfs"):
        raise UsageError(f"invalid argument {text!r} for --mount: unknown type {kind!r}")
    target = _target(target, text)
    if kind == "bind":
        if not source:
            raise UsageError(f"invalid argument {text!r} for --mount: type bind needs a source")
        source = os.path.abspath(source)
    elif kind == "tmpfs" and source:
        raise UsageError(f"invalid argument {text!r} for --mount: type tmpfs takes no source")
    elif kind == "volume":
        source = volume_name(source)
    return MountRequest(kind, target, source, read_only, tuple(options))


def volume_name(text: str) -> str:
    """A volume's name, checked: it becomes a directory. Empty stays empty (an anonymous volume)."""
    if text and (not _NAME.issuperset(text) or not text[0].isalnum() or len(text) > 255):
        raise UsageError(
            f"invalid volume name {text!r}: only letters, digits and _.- are allowed, at least one letter first",
            hint="a path on the host begins with / or ./",
        )
    return text


def _target(text: str, whole: str) -> str:
    clean = os.path.normpath(text)
    if not clean.startswith("/") or clean.strip("/") == "":
        raise UsageError(f"invalid mount {whole!r}: the target must be an absolute path and not /")
    return "/" + clean.lstrip("/")


def _csv(text: str) -> list[str]:
    """Comma-separated fields; a field in double quotes may hold commas (as docker reads it)."""
    fields, current, quoted = [], "", False
    for c in text:
        if c == '"':
            quoted = not quoted
        elif c == "," and not quoted:
            fields.append(current)
            current = ""
        else:
            current += c
    return [f for f in (*fields, current) if f]
