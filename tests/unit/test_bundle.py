"""The bundle of compiled modules: made once, never believed against its sources."""

from __future__ import annotations

import marshal
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from knarr import bundling

SOURCE = Path(__file__).resolve().parents[2] / "src/knarr"


@pytest.fixture
def package(tmp_path: Path) -> Path:
    shutil.copytree(SOURCE, tmp_path / "knarr", ignore=shutil.ignore_patterns("__pycache__", "_native"))
    return tmp_path / "knarr"


def version(package: Path, **env: str) -> str:
    script = (
        "from knarr.startup import install; install(); from knarr.cli.main import main; main(['version'])"
    )
    clean = {"PATH": os.environ["PATH"], **env}
    done = subprocess.run(
        [sys.executable, "-s", "-c", script],
        env=clean,
        cwd=package.parent,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    return done.stdout


def bundles(package: Path) -> list[Path]:
    return list((package / "__pycache__").glob("*.bundle"))


def test_it_is_made_once_and_used(package: Path) -> None:
    first = version(package)
    (bundle,) = bundles(package)
    made = bundle.stat().st_mtime_ns
    assert version(package) == first
    assert bundle.stat().st_mtime_ns == made
    # From the second run on, nothing else is compiled or cached.
    assert not list((package / "cli" / "__pycache__").glob("*.pyc"))


def test_a_changed_source_wins(package: Path) -> None:
    version(package)
    source = package / "__init__.py"
    source.write_text(source.read_text().replace('__version__ = "', '__version__ = "9'))
    other = package / "cli/commands/version.py"
    other.write_text(other.read_text().replace("OCI runtime", "OCI spec"))
    assert "OCI spec" in version(package)
    assert "OCI spec" in version(package)


def test_a_torn_bundle_is_made_anew(package: Path) -> None:
    first = version(package)
    (bundle,) = bundles(package)
    for damaged in (b"", b"\xff" * 100, bundle.read_bytes()[:2000]):
        bundle.write_bytes(damaged)
        assert version(package) == first
    assert bundle.stat().st_size > 10_000


def test_a_bundle_of_another_knarr_is_made_anew(package: Path) -> None:
    first = version(package)
    (bundle,) = bundles(package)
    data = bundle.read_bytes()
    length = int.from_bytes(data[:8], "little")
    key, *others = marshal.loads(data[8 : 8 + length])
    older = marshal.dumps((key.replace("bundle ", "bundle 0"), *others))
    bundle.write_bytes(len(older).to_bytes(8, "little") + older + data[8 + length :])
    assert version(package) == first


def test_none_is_made_where_bytecode_is_unwanted_or_cannot_be(package: Path) -> None:
    version(package, PYTHONDONTWRITEBYTECODE="1")
    assert bundles(package) == []


def test_the_groups_name_modules_that_exist(package: Path) -> None:
    """A name that is gone would only cost speed, and nobody would see it."""
    for root, others in bundling._GROUPS.items():
        for name in (root, *others.split()):
            assert (package / f"{name.replace('.', '/')}.py").exists(), name
