"""The tests' own ground: a skip cannot hide, a leftover is a failure, the machine's network is out of reach."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.machine import hierarchies

TESTS = Path(__file__).resolve().parents[1]
PLUGINS = "capabilities machine clean images registry command peers schemas".split()


def run_tests(tmp_path: Path, source: str, *, ci: bool = False) -> str:
    """Runs a test file under the harness in a pytest of its own, in a directory called e2e; its output."""
    folder = tmp_path / "e2e"
    folder.mkdir(exist_ok=True)
    (folder / "test_it.py").write_text(
        "import os, subprocess, socket\nfrom pathlib import Path\nimport pytest\n" + source
    )
    env = {name: value for name, value in os.environ.items() if name not in ("CI", "PYTEST_ADDOPTS")}
    env |= {"PYTHONPATH": str(TESTS), "TMPDIR": str(tmp_path)} | ({"CI": "1"} if ci else {})
    plugins = [word for name in PLUGINS for word in ("-p", f"harness.{name}")]
    argv = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        f"--rootdir={tmp_path}",
        *plugins,
        str(folder),
    ]
    done = subprocess.run(argv, capture_output=True, text=True, env=env, cwd=tmp_path, timeout=100)
    return done.stdout + done.stderr


def test_a_skip_in_ci_needs_a_missing_capability(tmp_path: Path) -> None:
    shown = run_tests(tmp_path, "def test_a():\n    pytest.skip('not today')\n", ci=True)
    assert "1 failed" in shown
    assert "skipped without a missing capability" in shown


def test_elsewhere_a_skip_is_a_skip(tmp_path: Path) -> None:
    assert "1 skipped" in run_tests(tmp_path, "def test_a():\n    pytest.skip('not today')\n")


def test_a_missing_capability_skips(tmp_path: Path) -> None:
    source = """
from harness import capabilities
capabilities.PROBES["wings"] = lambda: False
@pytest.mark.requires("wings")
def test_a():
    raise AssertionError
"""
    assert "1 skipped" in run_tests(tmp_path, source, ci=True)


def test_an_unknown_capability_is_an_error(tmp_path: Path) -> None:
    shown = run_tests(tmp_path, "@pytest.mark.requires('wigns')\ndef test_a():\n    pass\n")
    assert "unknown capability 'wigns'" in shown


@pytest.mark.requires("root")
def test_what_a_test_leaves_is_its_failure_and_is_ended(tmp_path: Path) -> None:
    source = """
started = []
def test_leaves(machine):
    started.append(subprocess.Popen(["sleep", "1000"]))
    subprocess.run(["ip", "link", "add", "left0", "type", "veth", "peer", "left1"], check=True)
    subprocess.run(["mount", "-t", "tmpfs", "none", "/mnt"], check=True)
    for top in machine.cgroups:
        (top / "left").mkdir()
def test_the_next_one_starts_clean(machine):
    assert started[0].wait(10) == -9
    assert not os.path.ismount("/mnt")
    assert not any((top / "left").exists() for top in machine.cgroups)
"""
    shown = run_tests(tmp_path, "from harness import clean\nclean.SETTLE_S = 0.1\n" + source)
    assert "2 passed, 1 error" in shown, shown
    assert "sleep 1000" in shown
    assert "mounts: /mnt" in shown
    assert "links: left0" in shown
    assert not list(tmp_path.glob("knarr-test-*"))


@pytest.mark.requires("root", "cgroup-v1")
def test_leftovers_of_an_aborted_run_are_swept(tmp_path: Path) -> None:
    source = """
def test_aborted(machine):
    subprocess.Popen(["sleep", "1000"])
    Path(os.environ["TMPDIR"], "left").write_text(f"{machine.state.name} {len(machine.cgroups)}")
    os._exit(1)
"""
    run_tests(tmp_path, source)
    name, count = (tmp_path / "left").read_text().split()
    assert len(cgroups_named(name)) == int(count)
    assert (tmp_path / name).exists()
    run_tests(tmp_path, "def test_a():\n    pass\n")
    assert not cgroups_named(name)
    assert not (tmp_path / name).exists()


def cgroups_named(name: str) -> list[Path]:
    return [path for hierarchy in hierarchies() for path in hierarchy.top.rglob(name)]


@pytest.mark.requires("root")
def test_its_cgroup_is_the_root_of_each_hierarchy(tmp_path: Path) -> None:
    source = """
def test_a(machine):
    assert machine.cgroups
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        assert line.endswith((":/", "::/tests")), line
    for top in machine.cgroups:
        (top / "knarr").mkdir()  # what the engine keeps is no leftover
"""
    assert "1 passed" in run_tests(tmp_path, source)


@pytest.mark.requires("root", "newuidmap")
def test_the_user_has_subordinate_ids_and_a_home(tmp_path: Path) -> None:
    source = """
def test_user(user):
    done = subprocess.run(["unshare", "-U", "--map-root-user", "--map-auto", "cat", "/proc/self/uid_map"],
        user=user.uid, group=user.uid, extra_groups=[], capture_output=True, text=True)
    assert done.stdout.split() == ["0", "47011", "1", "1", "2000000", "65535"], done
    assert os.stat(user.home).st_uid == user.uid
"""
    assert "1 passed" in run_tests(tmp_path, source)
