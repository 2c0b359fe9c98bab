"""`knarr`: the real command line in a subprocess, with its own HOME, XDG_* and state. `user`: without privilege.

def test_exit_code(knarr, busybox):
    assert knarr("run", "--rm", busybox, "sh", "-c", "exit 3").code == 3

def test_rootless(user, busybox_archive):
    user.ok("load", "-i", str(busybox_archive))
"""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple, TypeVar

import pytest

from harness.capabilities import SKIPPED, has
from harness.images import BUSYBOX
from harness.machine import REPOSITORY, UID, USER, Machine, remove_tree

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Result(NamedTuple):
    argv: tuple[str, ...]
    code: int
    stdout: str
    stderr: str

    def __str__(self) -> str:
        return f"$ {' '.join(self.argv)}\n{self.stdout}{self.stderr}→ {self.code}"


class Knarr:
    """One user's knarr with its own state. Calling it runs a command to its end."""

    program = "knarr"

    def __init__(self, home: Path, *, uid: int | None = None) -> None:
        self.home = home
        self.uid = uid
        self.root = home / "root"
        self.run = home / "run"
        self.env = {
            "PATH": PATH,
            "HOME": str(home),
            "USER": USER if uid else "root",
            "LANG": "C.UTF-8",
            "PYTHONPATH": str(REPOSITORY / "src"),
            "PYTHONWARNINGS": "error",
            "KNARR_ROOT": str(self.root),
            "KNARR_RUN": str(self.run),
            "XDG_RUNTIME_DIR": str(home / "xdg"),
            "XDG_CONFIG_HOME": str(home / ".config"),
            "XDG_DATA_HOME": str(home / ".local/share"),
            "XDG_CACHE_HOME": str(home / ".cache"),
        }
        for folder in (home, self.root, self.run, home / "xdg", home / ".config"):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if uid is not None:
                os.chown(folder, uid, uid)

    @property
    def argv(self) -> tuple[str, ...]:
        """The installed command of this environment, or the tree's when it is not installed."""
        script = Path(sys.prefix, "bin", self.program)
        own = (sys.executable, str(REPOSITORY / "bin/knarr-py"), self.program)
        return (str(script),) if script.exists() else own

    def __call__(
        self,
        *args: str,
        stdin: str | bytes = b"",
        env: Mapping[str, str] | None = None,
        timeout: float = 60,
        **options: Any,
    ) -> Result:
        """Exit code, standard output and error as text (bytes that are not UTF-8 as surrogates)."""
        data = stdin.encode() if isinstance(stdin, str) else stdin
        with self.popen(
            *args,
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            **options,
        ) as process:
            try:
                out, err = process.communicate(data, timeout)
            except BaseException:
                process.kill()
                raise
        return Result(
            (self.program, *args),
            process.returncode,
            out.decode("utf-8", "surrogateescape"),
            err.decode("utf-8", "surrogateescape"),
        )

    def ok(self, *args: str, **options: Any) -> str:
        """Runs a command that must succeed; its standard output without the last newline."""
        result = self(*args, **options)
        assert result.code == 0, str(result)
        return result.stdout.removesuffix("\n")

    def popen(
        self, *args: str, env: Mapping[str, str] | None = None, **options: Any
    ) -> subprocess.Popen[bytes]:
        """A command that goes on; the test ends it."""
        everything = {**self.identity, "env": {**self.env, **(env or {})}, **options}
        return subprocess.Popen([*self.argv, *args], **everything)

    @property
    def identity(self) -> dict[str, Any]:
        """What `subprocess` is told to be this user."""
        if self.uid is None:
            return {}
        return {"user": self.uid, "group": self.uid, "extra_groups": [], "cwd": self.home}

    def open(self, path: str, mode: str = "r") -> IO[Any]:
        """A file below the command's HOME, whoever owns it."""
        return (self.home / path).open(mode)

    def clear(self) -> None:
        """Removes every container, running or not."""
        listed = self("ps", "-aq", "--no-trunc")
        if listed.code == 0 and listed.stdout.split():
            self("rm", "-f", *listed.stdout.split())


@pytest.fixture
def knarr(machine: Machine, request: pytest.FixtureRequest) -> Iterator[Knarr]:
    """The command line as whoever runs the tests."""
    yield from with_state(Knarr(machine.state / "knarr"))


@pytest.fixture
def user(machine: Machine, request: pytest.FixtureRequest) -> Iterator[Knarr]:
    """The command line as an ordinary user with subordinate ids; the user exists on the private machine only."""
    if not machine.private:
        if os.geteuid() == 0 or not has("userns"):
            pytest.skip(f"{SKIPPED}{'root' if os.geteuid() == 0 else 'userns'}")
        yield from with_state(Knarr(machine.state / "user"))
        return
    assert pwd.getpwnam(USER).pw_uid == UID
    yield from with_state(Knarr(machine.state / "user", uid=UID))


C = TypeVar("C", bound=Knarr)


def with_state(command: C) -> Iterator[C]:
    """The command, and afterwards none of its containers and files."""
    try:
        yield command
        command.clear()
    finally:
        remove_tree(command.home)


@pytest.fixture
def busybox(knarr: Knarr, busybox_archive: Path) -> str:
    """The busybox image in `knarr`'s store; its name."""
    knarr.ok("load", "-i", str(busybox_archive))
    return BUSYBOX


@pytest.fixture
def user_busybox(user: Knarr, busybox_archive: Path) -> str:
    """The busybox image in `user`'s store; its name."""
    user.ok("load", "-i", str(busybox_archive))
    return BUSYBOX
