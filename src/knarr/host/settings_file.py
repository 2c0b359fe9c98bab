"""A file of settings that the administrator or the user wrote (TOML)."""

from __future__ import annotations

from knarr.errors import DataError, HostError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any


def load(path: str) -> Mapping[str, Any] | None:
    """Its document, `None` when there is no such file. Raises `DataError`, `HostError`."""
    try:
        with open(path, "rb") as file:
            text = file.read()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as e:
        raise HostError(f"{path}: {(e.strerror or str(e)).lower()}") from e
    return parsed(text, path)


def parsed(text: bytes, path: str) -> Mapping[str, Any]:
    """Raises `DataError` that names the file."""
    import tomllib  # a tenth of the start of a pull, and most machines have no such file

    try:
        return tomllib.loads(text.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
        raise DataError(f"{path}: {e}") from e


def check_keys(table: Mapping[str, Any], known: tuple[str, ...], where: str) -> None:
    """A key that nobody reads is a mistake. Raises `DataError`."""
    for key in table:
        if key not in known:
            raise DataError(f"{where}: unknown key {key!r}; known are {', '.join(known)}")
