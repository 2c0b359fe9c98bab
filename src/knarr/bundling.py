"""Making the bundle of modules that `knarr.startup` reads, and says the layout of."""

from __future__ import annotations
import __future__

import ast
import marshal
import os
from types import CodeType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from knarr.startup import Index, Where

# The groups: what a command imports at its top, and what it nearly always imports on its way. A name too many costs its
# share of one read, one too few a read of its own; what is a door's own already is not in its commands' groups.
_DOORS = ("knarr.cli.main", "knarr.runtime_cli.main")
_ANNOTATIONS = __future__.annotations.compiler_flag  # every module of knarr's asks for it, or has none
_PIECE = 128 << 10
_PLACES = "plan.cgroup_limits plan.cgroup_devices plan.cgroup_mounts"
_STARTS = f"engine.start host.facts plan.seccomp_default plan.seccomp_usual.x86_64 plan.sysctl cli.warnings {_PLACES}"
_GROUPS = {
    "cli.commands.run": f"engine.create engine.images store.store cli.cidfile {_STARTS}",
    "cli.commands.start": _STARTS,
    "cli.commands.exec": "engine.exec cli.detach_keys cli.warnings host.cgroups host.facts plan.seccomp_default "
    "plan.seccomp_usual.x86_64",
    "cli.commands.ps": "engine.listing host.cgroups",
    "runtime_cli.commands.create": f"host.users {_PLACES}",
    "runtime_cli.commands.run": f"host.users {_PLACES}",
    "runtime_cli.commands.exec": "host.users",
}


def write(path: str, package: str, key: str) -> bool:
    """Compile every module of the directory `package` into a bundle, written beside and renamed. False where that
    cannot be."""
    directory = os.path.dirname(path)
    if not os.access(directory if os.path.isdir(directory) else os.path.dirname(directory), os.W_OK):
        return False
    index: Index = {}
    codes: dict[str, CodeType] = {}
    parts: list[bytes] = []
    end = 0
    for source in _sources(package):
        name = "knarr." + os.path.relpath(source, package)[:-3].replace("/", ".")
        is_package = name.endswith(".__init__")
        name = name.removesuffix(".__init__")
        try:
            # Before it is read: a source that changes meanwhile has another time when it is asked for.
            now = os.stat(source)
            with open(source, "rb") as file:
                text = file.read()
            tree = ast.parse(text, source)
            codes[name] = compile(_without_future(tree), source, "exec", _ANNOTATIONS, True, 2)
        except (OSError, SyntaxError, ValueError):
            continue  # Python's own importer will say it
        parts.append(marshal.dumps(codes[name]))
        index[name] = (source, is_package, now.st_mtime_ns, now.st_size, end, len(parts[-1]), _imported(tree))
        end += len(parts[-1])
    index = {name: (*entry[:6], tuple(n for n in entry[6] if n in index)) for name, entry in index.items()}
    groups: dict[str, tuple[Where, ...]] = {}
    for root in (*_DOORS, *(f"knarr.{command}" for command in _GROUPS)):
        door = next((d for d in _DOORS if d.partition(".main")[0] == root.partition(".commands")[0]), "")
        known = _wanted(index, (door,)) if root != door else ()
        names = _wanted(index, (root, *(f"knarr.{n}" for n in _GROUPS.get(root[6:], "").split())))
        wheres: list[Where] = []
        for piece in _pieces(index, [n for n in names if n not in known]):
            parts.append(marshal.dumps(tuple((n, index[n], codes[n]) for n in piece)))
            wheres.append((end, len(parts[-1])))
            end += len(parts[-1])
        groups[root] = tuple(wheres)
    parts.append(marshal.dumps(index))
    head = marshal.dumps((key, end + len(parts[-1]), (end, len(parts[-1])), groups))
    beside = f"{path}.{os.getpid()}~"
    try:
        os.makedirs(directory, exist_ok=True)
        with open(beside, "wb") as file:
            file.writelines((len(head).to_bytes(8, "little"), head, *parts))
        os.rename(beside, path)
    except OSError:
        return False
    return True


def _wanted(index: Index, roots: Sequence[str]) -> dict[str, None]:
    """Modules and all they import at their tops, and the packages they are in, in no order that matters."""
    found: dict[str, None] = {}
    ahead = list(roots)
    while ahead:
        name = ahead.pop()
        if name in index and name not in found:
            found[name] = None
            ahead += (name.rpartition(".")[0], *index[name][6])
    return found


def _pieces(index: Index, names: Sequence[str]) -> list[list[str]]:
    """Each shorter than what malloc takes from memory it has: beyond 128 KiB every page of it would be a new one."""
    pieces: list[list[str]] = [[]]
    size = 0
    for name in names:
        size += index[name][5]
        if size > _PIECE and pieces[-1]:
            pieces.append([])
            size = index[name][5]
        pieces[-1].append(name)
    return pieces


def _sources(directory: str) -> list[str]:
    found = []
    for entry in os.scandir(directory):
        if entry.is_dir(follow_symlinks=False) and entry.name != "__pycache__":
            found += _sources(entry.path)
        elif entry.name.endswith(".py"):
            found.append(entry.path)
    return found


def _without_future(tree: ast.Module) -> ast.Module:
    """`from __future__ import annotations` is a flag to the compiler, and yet imports a module."""
    tree.body = [s for s in tree.body if not (isinstance(s, ast.ImportFrom) and s.module == "__future__")]
    return tree


def _imported(tree: ast.Module) -> tuple[str, ...]:
    """Names of knarr's that a module imports at its top, modules or not, in order."""
    found: list[str] = []
    for statement in tree.body:
        if isinstance(statement, ast.ImportFrom) and statement.module and not statement.level:
            names = [statement.module, *(f"{statement.module}.{alias.name}" for alias in statement.names)]
        elif isinstance(statement, ast.Import):
            names = [alias.name for alias in statement.names]
        else:
            continue
        found += [name for name in names if name.startswith("knarr.")]
    return tuple(dict.fromkeys(found))
