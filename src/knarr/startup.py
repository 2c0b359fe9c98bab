"""The command's own imports from one file: knarr's modules, compiled, in `__pycache__/knarr.TAG.bundle`.

A command imports some ninety small modules. Finding, opening and checking ninety `.pyc` files is the largest part of
what knarr itself adds to the interpreter's start; from here it is one `pread` and one `stat` each. What a module
imports at its top is loaded before it, without asking the import system module by module, which costs as much again.

    8 bytes     length of the index, little-endian
    index       marshal: (key, bytes of code, {module: entry})
                entry: source, is package, mtime ns, size, offset, length, modules it imports first
    code        marshal of each module's code, without docstrings, at its offset

It can never be wrong in a way that a `.pyc` cannot: a module is taken from here only if its source has the time and
size it was compiled from; else the bundle is deleted, Python's own importer does the work, and the next command makes
a new one. Where the directory cannot be written, or bytecode is not wanted, there is none. The library does without it.
"""

from __future__ import annotations

import _thread
import marshal
import os
import sys
from _frozen_importlib import ModuleSpec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType

    Index = dict[str, tuple[str, bool, int, int, int, int, tuple[str, ...]]]

# Of the layout below and of what is Python's: another knarr or another Python finds a bundle that is not its own.
_KEY = f"knarr bundle 2, {sys.version}"
_INDEX_MAX = 1 << 20
_PACKAGE = os.path.dirname(os.path.abspath(__file__))


class Bundle:
    """A finder and loader of the import system (importlib.abc) for the modules in an open bundle."""

    __slots__ = ("_base", "_fd", "_index", "_path", "_under_way")

    def __init__(self, path: str, fd: int, index: Index, base: int) -> None:
        self._path = path
        self._fd = fd
        self._index = index
        self._base = base
        self._under_way: set[str] = set()

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        entry = self._index.get(name)
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

    def create_module(self, spec: ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        entry = self._index[module.__name__]
        # The import system's locks are passed by below: only while there is no second thread.
        if _thread._count() == 0:
            self._under_way.add(module.__name__)
            for name in entry[6]:
                self._load(name)
        self._execute(entry[4], entry[5], module)

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
            self._execute(offset, length, module)
        except BaseException:
            del sys.modules[name]
            raise
        setattr(sys.modules[parent], child, module)

    def _execute(self, offset: int, length: int, module: ModuleType) -> None:
        # What importing means: this is Python's own import system, reading what it compiled itself.
        exec(marshal.loads(os.pread(self._fd, length, self._base + offset)), module.__dict__)  # noqa: S102

    def _retire(self) -> None:
        self._index = {}
        try:
            os.unlink(self._path)
        except OSError:
            return


def install() -> None:
    """Let this process import knarr from the bundle; make the bundle first where it is missing."""
    _open_standard_descriptors()
    path = _bundle_path()
    bundle = _open(path)
    if bundle is None and not sys.dont_write_bytecode and _write(path):
        bundle = _open(path)
    if bundle is not None:
        sys.meta_path.insert(0, bundle)


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
        head = os.pread(fd, 1 << 16, 0)
        base = 8 + int.from_bytes(head[:8], "little")
        if base > _INDEX_MAX:
            raise ValueError(base)
        if len(head) < base:
            head += os.pread(fd, base - len(head), len(head))
        key, code_bytes, index = marshal.loads(head[8:base])
        # It is not synced when it is written: after a power cut a part may be missing.
        if key == _KEY and os.fstat(fd).st_size == base + code_bytes:
            return Bundle(path, fd, index, base)
    except (EOFError, ValueError, TypeError):
        pass  # torn or of another time: made anew
    os.close(fd)
    return None


def _write(path: str) -> bool:
    """Compile every module of the package into a bundle, written beside and renamed. False where that cannot be."""
    directory = os.path.dirname(path)
    if not os.access(directory if os.path.isdir(directory) else os.path.dirname(directory), os.W_OK):
        return False
    index: Index = {}
    code: list[bytes] = []
    offset = 0
    for source in _sources(_PACKAGE):
        name = "knarr." + os.path.relpath(source, _PACKAGE)[:-3].replace("/", ".")
        package = name.endswith(".__init__")
        try:
            # Before it is read: a source that changes meanwhile has another time when it is asked for.
            now = os.stat(source)
            with open(source, "rb") as file:
                text = file.read()
            compiled = marshal.dumps(compile(text, source, "exec", dont_inherit=True, optimize=2))
        except (OSError, SyntaxError, ValueError):
            continue  # Python's own importer will say it
        index[name.removesuffix(".__init__")] = (
            source, package, now.st_mtime_ns, now.st_size, offset, len(compiled), _imported(text),
        )  # fmt: skip
        code.append(compiled)
        offset += len(compiled)
    index = {name: (*entry[:6], tuple(n for n in entry[6] if n in index)) for name, entry in index.items()}
    head = marshal.dumps((_KEY, offset, index))
    beside = f"{path}.{os.getpid()}~"
    try:
        os.makedirs(directory, exist_ok=True)
        with open(beside, "wb") as file:
            file.writelines((len(head).to_bytes(8, "little"), head, *code))
        os.rename(beside, path)
    except OSError:
        return False
    return True


def _sources(directory: str) -> list[str]:
    found = []
    for entry in os.scandir(directory):
        if entry.is_dir(follow_symlinks=False) and entry.name != "__pycache__":
            found += _sources(entry.path)
        elif entry.name.endswith(".py"):
            found.append(entry.path)
    return found


def _imported(text: bytes) -> tuple[str, ...]:
    """Names of knarr's that a module imports at its top, modules or not, in order."""
    import ast

    found: list[str] = []
    for statement in ast.parse(text).body:
        if isinstance(statement, ast.ImportFrom) and statement.module and not statement.level:
            names = [statement.module, *(f"{statement.module}.{alias.name}" for alias in statement.names)]
        elif isinstance(statement, ast.Import):
            names = [alias.name for alias in statement.names]
        else:
            continue
        found += [name for name in names if name.startswith("knarr.")]
    return tuple(dict.fromkeys(found))
