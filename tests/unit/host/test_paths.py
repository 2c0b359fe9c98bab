"""Where things are kept: the same for a user outside and inside their user namespace, and closed to others."""

from __future__ import annotations

import os
import pwd
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from knarr.errors import HostError
from knarr.host.paths import Paths, default_paths, make_directories


def test_root() -> None:
    assert default_paths(0, {"HOME": "/x"}) == Paths("/var/lib/knarr", "/run/knarr", ("/etc/knarr",))


def test_user() -> None:
    env = {"HOME": "/home/me", "XDG_RUNTIME_DIR": "/run/me", "XDG_DATA_HOME": "/d", "XDG_CONFIG_HOME": "/c"}
    assert default_paths(1000, env) == Paths("/d/knarr", "/run/me/knarr", ("/c/knarr", "/etc/knarr"))
    assert default_paths(1000, {"HOME": "/home/me"}).root == "/home/me/.local/share/knarr"


def test_the_same_inside_the_user_namespace() -> None:
    for env in ({"HOME": "/home/me"}, {"HOME": "/h", "XDG_RUNTIME_DIR": "/run/me"}, {}):
        assert default_paths(54321, env) == default_paths(0, {**env, "KNARR_USERNS": "54321"})


def test_without_home_the_passwd_entry_counts() -> None:
    someone = pwd.getpwnam("daemon")
    assert default_paths(someone.pw_uid, {}).root == f"{someone.pw_dir}/.local/share/knarr"


def test_overrides() -> None:
    paths = default_paths(0, {"KNARR_ROOT": "/a/../b", "KNARR_RUN": "/c/"})
    assert (paths.root, paths.run) == ("/b", "/c")


def test_directories_have_their_modes_whatever_the_umask(tmp_path: Path) -> None:
    paths = Paths(f"{tmp_path}/deep/down/root", f"{tmp_path}/run", ())
    before = os.umask(0o077)
    try:
        make_directories(paths)
        make_directories(paths)
    finally:
        os.umask(before)
    modes = {
        name: oct(stat.S_IMODE(os.stat(f"{tmp_path}/{name}").st_mode))
        for name in (
            "deep/down/root",
            "deep/down/root/containers",
            "deep/down/root/volumes",
            "deep/down/root/names",
            "run",
            "run/containers",
        )
    }
    assert modes == {
        "deep/down/root": "0o711",
        "deep/down/root/containers": "0o700",
        "deep/down/root/volumes": "0o700",
        "deep/down/root/names": "0o700",
        "run": "0o711",
        "run/containers": "0o711",
    }


def test_what_an_older_version_left_open_is_closed_and_a_root_of_ones_own_is_left_alone(
    tmp_path: Path,
) -> None:
    root = tmp_path / "root"
    (root / "containers").mkdir(parents=True)
    for directory in (root, root / "containers"):
        directory.chmod(0o755)
    make_directories(Paths(str(root), f"{tmp_path}/run", ()))
    assert stat.S_IMODE(root.stat().st_mode) == 0o755
    assert stat.S_IMODE((root / "containers").stat().st_mode) == 0o700


def test_a_place_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(HostError, match=r"cannot make .*: not a directory"):
        make_directories(Paths(f"{tmp_path}/file/root", f"{tmp_path}/run", ()))


def test_somebody_elses_directory_in_tmp_is_refused(tmp_path: Path) -> None:
    """Whoever is quicker could read and replace all we write there."""
    private = Path(f"/tmp/knarr-run-{os.getpid()}-test")
    paths = Paths(f"{tmp_path}/root", f"{private}/knarr", ())
    private.symlink_to(tmp_path)
    try:
        with pytest.raises(HostError, match="belongs to somebody else or is open to others"):
            make_directories(paths)
    finally:
        private.unlink()
    private.mkdir(mode=0o777)
    private.chmod(0o777)
    try:
        with pytest.raises(HostError, match="is open to others"):
            make_directories(paths)
        private.chmod(0o700)
        make_directories(paths)
    finally:
        shutil.rmtree(private)


def test_containers_are_spread_where_the_file_system_can(tmp_path: Path) -> None:
    """chattr(1), T: only on the two directories that containers come to and go from, and never a reason to fail."""
    make_directories(Paths(f"{tmp_path}/root", f"{tmp_path}/run", ()))
    if shutil.which("lsattr") is None:
        return
    shown = subprocess.run(
        ["lsattr", "-d", tmp_path / "root/containers", tmp_path / "root/names"],
        capture_output=True,
        text=True,
    )
    if shown.returncode == 0 and "e" in shown.stdout.split()[0]:  # extents: ext4
        containers, names = (line.split()[0] for line in shown.stdout.splitlines())
        assert ("T" in containers, "T" in names) == (True, False)
