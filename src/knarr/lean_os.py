"""`os` for the command, in two steps: what a command uses at once, and the whole of it when anything else is asked for.

Importing `os` is a third of what knarr's start adds to the interpreter's: it defines forty functions around those of
`posix`, and twenty-five abstract classes for the sake of `environ`. What knarr uses at once is `posix`'s own but for
three names. So until somebody asks for another one, the module `os` is `posix`, `posixpath` and those three; then the
interpreter's own `os` is executed in this very module, which is the standard one from there on.

Only where the launcher has started an interpreter that has not imported `os` yet, and carries it frozen (all do).
"""

from __future__ import annotations

import _imp
import posix
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def provide() -> None:
    """Be what `import os` finds, if nobody has imported it."""
    if "os" in sys.modules or not _imp.is_frozen("os"):
        return
    module = type(sys)("os")
    names = module.__dict__
    names.update((name, value) for name, value in vars(posix).items() if not name.startswith("_"))
    names.update(_exit=posix._exit, environ=_Environ(), fsencode=_fsencode, makedirs=_makedirs)
    names.update(SEEK_SET=0, SEEK_CUR=1, SEEK_END=2, name="posix", sep="/", pathsep=":", curdir=".")

    def whole(name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(f"module 'os' has no attribute {name!r}")
        names.pop("__getattr__", None)
        exec(_imp.get_frozen_object("os"), names)  # noqa: S102  # what importing it does
        return getattr(module, name)

    names["__getattr__"] = whole
    sys.modules["os"] = module
    import posixpath

    names["path"] = sys.modules["os.path"] = posixpath
    if hasattr(posixpath, "__file__"):
        names["__file__"] = posixpath.__file__.replace("posixpath", "os")


class _Environ(dict[str, str]):
    """`os.environ`: a change is the process's, and is found by the whole `os` when it makes its own."""

    def __init__(self) -> None:
        encoding = sys.getfilesystemencoding()
        for name, value in posix.environ.items():
            super().__setitem__(
                name.decode(encoding, "surrogateescape"), value.decode(encoding, "surrogateescape")
            )

    def __setitem__(self, name: str, value: str) -> None:
        posix.putenv(name, value)
        posix.environ[_fsencode(name)] = _fsencode(value)
        super().__setitem__(name, value)

    def __delitem__(self, name: str) -> None:
        super().__delitem__(name)
        posix.unsetenv(name)
        del posix.environ[_fsencode(name)]

    def pop(self, name: str, *default: Any) -> Any:
        value = super().pop(name, *default)
        if _fsencode(name) in posix.environ:
            posix.unsetenv(name)
            del posix.environ[_fsencode(name)]
        return value

    def setdefault(self, name: str, value: str = "") -> str:
        if name not in self:
            self[name] = value
        return self[name]

    def update(self, *others: Any, **more: str) -> None:
        for name, value in dict(*others, **more).items():
            self[name] = value

    def clear(self) -> None:
        for name in list(self):
            del self[name]

    __ior__ = popitem = None  # type: ignore[assignment]  # nobody's, and dict's would not reach the process


def _fsencode(name: Any) -> bytes:
    """os.fsencode"""
    name = posix.fspath(name)
    return name.encode(sys.getfilesystemencoding(), "surrogateescape") if isinstance(name, str) else name


def _makedirs(name: str, mode: int = 0o777, exist_ok: bool = False) -> None:
    """os.makedirs, for text."""
    from posixpath import dirname, isdir

    above = dirname(name.rstrip("/"))
    if above and not isdir(above):
        _makedirs(above, exist_ok=True)
    try:
        posix.mkdir(name, mode)
    except OSError:
        if not exist_ok or not isdir(name):
            raise
