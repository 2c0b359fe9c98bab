"""`runtime`: the real knarr-runtime in a subprocess, and bundles for it. `user_runtime`: without privilege.

def test_exit_code(runtime, bundle):
    assert runtime("run", "-b", bundle("sh", "-c", "exit 3"), "c1").code == 3
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.command import Knarr, with_state
from harness.machine import UID, Machine, remove_tree

CAPABILITIES = ["CAP_CHOWN", "CAP_KILL", "CAP_SETUID", "CAP_SETGID", "CAP_NET_BIND_SERVICE"]
ISOLATED = ("pid", "mount", "ipc", "uts", "network", "cgroup")

Bundle = Callable[..., str]


class Runtime(Knarr):
    """One user's containers below a root of their own."""

    program = "knarr-runtime"
    flags: tuple[str, ...] = ()  # global ones, for every command

    @property
    def argv(self) -> tuple[str, ...]:
        return (*super().argv, "--root", str(self.containers), *self.flags)

    @property
    def containers(self) -> Path:
        return self.home / "containers"

    def state(self, container_id: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.ok("state", container_id))
        return found

    def status(self, container_id: str) -> str:
        return str(self.state(container_id)["status"])

    def create(
        self, container_id: str, bundle: str, *words: str, before: tuple[str, ...] = (), **options: Any
    ) -> Path:
        """A container that waits for its start; the file that takes what it prints, which nobody waits for.

        `before` are global flags.
        """
        output = self.home / f"{container_id}.out"
        with output.open("wb") as file:
            argv = (*before, "create", "-b", bundle, *words, container_id)
            process = self.popen(*argv, stdin=subprocess.DEVNULL, stdout=file, **options)
            assert process.wait(60) == 0
        return output

    def until(self, container_id: str, status: str) -> None:
        """Waits, but not for ever, until the container is said to be so."""
        deadline = time.monotonic() + 20
        while status not in (now := self("state", container_id)).stdout:
            assert time.monotonic() < deadline, f"{container_id} is not {status}: {now}"
            time.sleep(0.02)

    def clear(self) -> None:
        for name in os.listdir(self.containers) if self.containers.exists() else ():
            self("delete", "--force", name)


@pytest.fixture
def runtime(machine: Machine) -> Iterator[Runtime]:
    """As whoever runs the tests."""
    yield from with_state(Runtime(machine.state / "runtime"))


@pytest.fixture
def user_runtime(machine: Machine) -> Iterator[Runtime]:
    """As an ordinary user with subordinate ids."""
    yield from with_state(Runtime(machine.state / "user-runtime", uid=UID if machine.private else None))


@pytest.fixture
def bundle(machine: Machine, busybox_rootfs: Path) -> Iterator[Bundle]:
    """Makes bundles of busybox: `bundle("sh", "-c", "id", hostname="x", change=function)`; the directory's path.

    Keywords are fields of config.json; `process=` and `linux=` are laid over the usual ones; `change` gets the whole
    document last.
    """
    place = machine.state / "bundles"
    place.mkdir(mode=0o755)
    made = 0

    def make(
        *args: str, change: Callable[[dict[str, Any]], object] = lambda config: None, **fields: Any
    ) -> str:
        nonlocal made
        made += 1
        directory = place / str(made)
        directory.mkdir(mode=0o755)
        config = usual_config(str(busybox_rootfs), args)
        for name in ("process", "linux"):
            config[name] |= fields.pop(name, {})
        config |= fields
        change(config)
        (directory / "config.json").write_text(json.dumps(config))
        return str(directory)

    yield make
    remove_tree(place)


def usual_config(rootfs: str, args: tuple[str, ...]) -> dict[str, Any]:
    hidden = ["nosuid", "noexec", "nodev"]
    return {
        "ociVersion": "1.2.0",
        "root": {"path": rootfs, "readonly": True},
        "hostname": "bundled",
        "process": {
            "cwd": "/",
            "args": list(args),
            "env": ["PATH=/bin:/usr/bin:/sbin"],
            "user": {"uid": 0, "gid": 0},
            "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), CAPABILITIES),
            "noNewPrivileges": True,
        },
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc", "options": hidden},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
            {
                "destination": "/dev/pts",
                "type": "devpts",
                "source": "devpts",
                "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"],
            },
            {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"},
        ],
        "linux": {
            "namespaces": [{"type": kind} for kind in ISOLATED],
            "maskedPaths": ["/proc/kcore"],
            "readonlyPaths": ["/proc/sys"],
        },
    }
