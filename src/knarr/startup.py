"""The command's own imports from one file: knarr's modules, compiled, in `__pycache__/knarr.TAG.bundle`.

A command imports some ninety small modules. Finding, opening and checking ninety `.pyc` files is the largest part of
what knarr itself adds to the interpreter's start; from here it is one `stat` each, and one `pread` each or one for all
that a command needs. What a module imports at its top is loaded before it, without asking the import system module by
module, which costs as much again.

    8 bytes     length of the head, little-endian
    head        marshal: (key, bytes that follow, where the index is, {module: where its group's pieces are})
                where: offset from behind the head, length
    code        marshal of each module's code, without docstrings
    groups      marshal of ((module, entry, code), …): what is wanted once that module is imported, in a few pieces, in
                each of which names and constants stand once
    index       marshal of {module: entry}, read when a module is wanted that was in no group
                entry: source, is package, mtime ns, size, offset and length of the code, modules it imports first

It can never be wrong in a way that a `.pyc` cannot: a module is taken from here only if its source has the time and
size it was compiled from; else the bundle is deleted, Python's own importer does the work, and the next command makes
a new one. Where the directory cannot be written, or bytecode is not wanted, there is none. The library does without it.
"""

from __future__ import annotations

import _signal
import _thread
import gc
import marshal
import os
import sys
from _frozen_importlib import ModuleSpec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import CodeType, ModuleType
    from typing import Any

    Entry = tuple[str, bool, int, int, int, int, tuple[str, ...]]
    Index = dict[str, Entry]
    Where = tuple[int, int]

# Of the layout below and of what is Python's: another knarr or another Python finds a bundle that is not its own.
_KEY = f"knarr bundle 6, {sys.version}"
_INDEX_MAX = 1 << 20
_PACKAGE = os.path.dirname(os.path.abspath(__file__))


class Bundle:
    """A finder and loader of the import system (importlib.abc) for the modules in an open bundle."""

    __slots__ = ("_base", "_codes", "_fd", "_groups", "_index", "_path", "_under_way", "_unread")

    def __init__(
        self, path: str, fd: int, base: int, index: Where, groups: dict[str, tuple[Where, ...]]
    ) -> None:
        self._path = path
        self._fd = fd
        self._groups = groups
        self._base = base
        self._unread: Where | None = index
        self._index: Index = {}
        self._codes: dict[str, CodeType] = {}
        self._under_way: set[str] = set()

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if not name.startswith("knarr"):
            return None
        if name in self._groups:
            self._read_group(name)
        entry = self._entry(name)
        if entry is None:
            return None
        source, package, mtime_ns, size = entry[:4]
        try:
            now = os.stat(source)
        except OSError:
            now = None
        if now is None or now.st_mtime_ns != mtime_ns or now.st_size != size:
            self._retire()
            return None
        # It has what importlib asks of a loader, without the base class, whose module costs what this file saves.
        spec = ModuleSpec(name, self, origin=source, is_package=package)  # type: ignore[arg-type]
        spec.has_location = True
        if package:
            spec.submodule_search_locations = [os.path.dirname(source)]
        return spec

    def _entry(self, name: str) -> Entry | None:
        entry = self._index.get(name)
        if entry is None and self._unread:
            self._index = self._read(*self._unread)
            self._unread = None
            entry = self._index.get(name)
        return entry

    def _read_group(self, name: str) -> None:
        for where in self._groups.pop(name):
            for other, entry, code in self._read(*where):
                self._codes[other] = code
                if self._unread:
                    self._index[other] = entry

    def create_module(self, spec: ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        name = module.__name__
        entry = self._index[name]
        # The import system's locks are passed by below: only while there is no second thread.
        if _thread._count() == 0:
            self._under_way.add(name)
            for other in entry[6]:
                self._load(other)
        self._execute(name, entry[4], entry[5], module)

    def _load(self, name: str) -> None:
        """Import a module and first what it imports at its top, as the import system would. What is not in the bundle
        any more is left to that."""
        if name in sys.modules or name in self._under_way:
            return
        self._under_way.add(name)
        parent, _, child = name.rpartition(".")
        if parent not in sys.modules:
            self._load(parent)
        spec = self.find_spec(name)
        if spec is None or parent not in sys.modules:
            return
        _, package, _, _, offset, length, needed = self._index[name]
        for other in needed:
            self._load(other)
        module = type(sys)(name)
        module.__spec__, module.__loader__, module.__file__ = spec, self, spec.origin  # type: ignore[assignment]
        module.__package__ = name if package else parent
        if package:
            module.__path__ = spec.submodule_search_locations or []
        sys.modules[name] = module
        try:
            self._execute(name, offset, length, module)
        except BaseException:
            del sys.modules[name]
            raise
        setattr(sys.modules[parent], child, module)

    def _execute(self, name: str, offset: int, length: int, module: ModuleType) -> None:
        code = self._codes.pop(name, None) or self._read(offset, length)
        # What importing means: this is Python's own import system, reading what it compiled itself.
        exec(code, module.__dict__)  # noqa: S102

    def _read(self, offset: int, length: int) -> Any:
        return marshal.loads(os.pread(self._fd, length, self._base + offset))

    def _retire(self) -> None:
        self._index, self._groups, self._unread = {}, {}, None
        try:
            os.unlink(self._path)
        except OSError:
            return


class _Site:
    """The last finder of an interpreter started without `site`: that is run when something is imported that neither the
    bundle nor the standard library has, so that whatever it would have brought is there then."""

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if path is not None:
            return None
        sys.meta_path.remove(_Site)
        import site
        from _frozen_importlib_external import PathFinder

        site.main()
        return PathFinder.find_spec(name)


def enter(program: str) -> None:
    """Be `knarr` or `knarr-runtime`; does not come back. What bin/knarr-py and `python -m knarr` do."""
    # Until the door can catch it, Ctrl-C ends this as it ends any program: without a word. Where it is ignored it stays
    # so.
    if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
        _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
    _signal.pthread_sigmask(_signal.SIG_UNBLOCK, (_signal.SIGINT,))  # the launcher had it wait for this
    # A command lives for milliseconds; looking for cycles among its imports costs two of them.
    gc.set_threshold(100_000)
    install()
    door = {"knarr": "knarr.cli.main", "knarr-runtime": "knarr.runtime_cli.main"}.get(program)
    if door is None:
        sys.exit(f"{program}: knarr and knarr-runtime are the programs of this package")
    __import__(door)
    sys.modules[door].entry()


def install() -> None:
    """Let this process import knarr from the bundle; make the bundle first where it is missing."""
    if sys.flags.no_site:
        sys.meta_path.append(_Site)
    if sys.flags.ignore_environment:
        _heed_environment()
    _open_standard_descriptors()
    path = _bundle_path()
    bundle = _open(path)
    if bundle is None and not sys.dont_write_bytecode:
        from knarr.bundling import write

        bundle = _open(path) if write(path, _PACKAGE, _KEY) else None
    if bundle is not None:
        sys.meta_path.insert(0, bundle)


def _heed_environment() -> None:
    """The launcher's interpreter is isolated: nothing that is set for Python decides what a command of root's imports.
    Two variables that cannot do that hold all the same."""
    if os.environ.get("PYTHONDONTWRITEBYTECODE"):
        sys.dont_write_bytecode = True
    if os.environ.get("PYTHONWARNINGS"):
        sys.warnoptions += os.environ["PYTHONWARNINGS"].split(",")
        __import__("warnings")  # reads them


def _open_standard_descriptors() -> None:
    """A caller may have closed them: no file that we open from here on may become a container's input or output."""
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            os.open("/dev/null", os.O_RDWR)  # takes the lowest free number
            os.set_inheritable(fd, True)
    # Python has looked at them already.
    if sys.stdout is None:
        sys.stdout = open(1, "w", closefd=False)
    if sys.stderr is None:
        sys.stderr = open(2, "w", closefd=False)


def _bundle_path() -> str:
    cache = f"{_PACKAGE}/__pycache__"
    if sys.pycache_prefix:
        cache = sys.pycache_prefix + _PACKAGE
    return f"{cache}/knarr.{sys.implementation.cache_tag}.bundle"


def _open(path: str) -> Bundle | None:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        head = os.pread(fd, 1 << 12, 0)
        base = 8 + int.from_bytes(head[:8], "little")
        if base > _INDEX_MAX:
            raise ValueError(base)
        if len(head) < base:
            head += os.pread(fd, base - len(head), len(head))
        key, following, index, groups = marshal.loads(head[8:base])
        # It is not synced when it is written: after a power cut a part may be missing.
        if key == _KEY and os.fstat(fd).st_size == base + following:
            return Bundle(path, fd, base, index, groups)
    except (EOFError, ValueError, TypeError):
        pass  # torn or of another time: made anew
    os.close(fd)
    return None
