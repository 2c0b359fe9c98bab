"""Who may import whom: this table is the architecture diagram. Changing it is a visible decision.

A row may import the packages it names, itself, and the ground (`GROUND`) all stand on. Rows only name rows below them:
imports go down, and packages of one tier do not know each other.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[2] / "src" / "knarr"

GROUND = ("errors", "record", "__version__")
MAY_IMPORT: dict[str, tuple[str, ...]] = {
    # the doors: translate, call what is below, translate back
    "runtime_cli": ("cli", "runtime", "host", "plan", "oci"),
    "cli": ("engine", "host", "plan", "oci"),
    # the verbs: the only place that puts the parts together
    "engine": ("network", "store", "registry", "runtime", "host", "plan", "oci"),
    # the parts: they do not know each other
    "runtime": ("host", "plan", "oci"),
    "network": ("host", "plan", "oci"),
    "store": ("host", "plan", "oci"),
    "registry": ("host", "oci"),
    # what this machine is, and the doors to it
    "host": ("plan", "oci"),
    # pure: documents and decisions
    "plan": ("oci",),
    "oci": (),
}
PURE = ("oci", "plan")
IMPURE = frozenset(
    "os sys.modules subprocess socket time _socket _posixsubprocess posix select fcntl signal threading ctypes "
    "shutil tempfile pathlib io random secrets asyncio urllib http".split()
)
# The command line's own door and the package's public one.
OUTSIDE = {
    "__main__": ("cli", "startup"),
    "__init__": tuple(MAY_IMPORT),
    "startup": ("bundling",),
    "bundling": ("startup",),
}


def modules(package: str) -> Iterator[Path]:
    yield from sorted((SOURCE / package).rglob("*.py"))


def imported(path: Path) -> Iterator[tuple[int, str]]:
    """Every module a file imports, wherever in it, and those named by `__import__("…")` and `import_module("…")`."""
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            if module == "knarr":
                yield from ((node.lineno, f"knarr.{alias.name}") for alias in node.names)
            else:
                yield node.lineno, module
        elif isinstance(node, ast.Call) and node.args and _name(node.func) in ("__import__", "import_module"):
            yield node.lineno, _text(node.args[0])


def _name(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def _text(node: ast.expr) -> str:
    """The beginning of a module name that is known in the source."""
    if isinstance(node, ast.JoinedStr) and node.values:
        node = node.values[0]
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def _part(module: str) -> str | None:
    words = module.split(".")
    return (words + [""])[1] if words[0] == "knarr" else None


def test_the_table_has_every_package() -> None:
    packages = {p.name for p in SOURCE.iterdir() if p.is_dir() and any(p.glob("*.py"))}
    assert packages == set(MAY_IMPORT)


def test_the_table_only_goes_down() -> None:
    order = list(MAY_IMPORT)
    for package, below in MAY_IMPORT.items():
        assert all(order.index(other) > order.index(package) for other in below), package


@pytest.mark.parametrize("package", list(MAY_IMPORT))
def test_imports_go_down_only(package: str) -> None:
    allowed = {package, *MAY_IMPORT[package], *GROUND}
    wrong = [
        f"{path.relative_to(SOURCE)}:{line} imports {module}"
        for path in modules(package)
        for line, module in imported(path)
        if (part := _part(module)) is not None and part not in allowed
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("path", sorted(SOURCE.glob("*.py")), ids=lambda p: p.stem)
def test_the_ground_stands_on_itself(path: Path) -> None:
    allowed = {*GROUND, *OUTSIDE.get(path.stem, ())}
    wrong = [
        f"line {line} imports {module}"
        for line, module in imported(path)
        if _part(module) not in {None, *allowed}
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("package", PURE)
def test_pure_packages_ask_the_machine_nothing(package: str) -> None:
    wrong = [
        f"{path.relative_to(SOURCE)}:{line} imports {module}"
        for path in modules(package)
        for line, module in imported(path)
        if module.partition(".")[0] in IMPURE
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("package", [p for p in MAY_IMPORT if p not in ("cli", "runtime_cli")])
def test_only_the_doors_print_and_exit(package: str) -> None:
    wrong = [
        f"{path.relative_to(SOURCE)}:{node.lineno} calls {name}"
        for path in modules(package)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and (name := _called(node.func)) in ("print", "sys.exit", "exit", "quit", "input")
    ]
    assert not wrong, "\n".join(wrong)


def _called(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        return f"{node.value.id}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def test_the_reader_of_imports_reads_all_forms(tmp_path: Path) -> None:
    """A test of the test: what it does not see, it cannot forbid."""
    file = tmp_path / "m.py"
    file.write_text(
        "import knarr.a\nfrom knarr.b import c\nfrom knarr import d\n"
        "def f():\n    import knarr.e as x\n    __import__(f'knarr.g.{x}')\n    importlib.import_module('knarr.h')\n"
    )
    assert [_part(module) for _, module in sorted(imported(file))] == ["a", "b", "d", "e", "g", "h"]
