"""sd_notify(3): a container says READY=1, and the service manager outside hears it."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.runtime import Bundle, Runtime

pytestmark = pytest.mark.requires("root", "busybox")
# busybox has no client for datagram sockets of the file system: a static program of ours says it.
SAYS = """
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
int main(int argc, char **argv) {
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	strncpy(to.sun_path, getenv("NOTIFY_SOCKET"), sizeof to.sun_path - 1);
	int fd = socket(AF_UNIX, SOCK_DGRAM, 0);
	for (int i = 1; i < argc; i++)
		if (sendto(fd, argv[i], strlen(argv[i]), 0, (void *)&to, sizeof to) < 0) return 1;
	pause();
}
"""


class Manager:
    """A service manager's socket."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.socket.settimeout(30)

    @property
    def env(self) -> dict[str, str]:
        return {"NOTIFY_SOCKET": str(self.path)}

    def heard(self) -> str:
        data, fds, _, _ = socket.recv_fds(self.socket, 4096, 4)
        for fd in fds:
            os.close(fd)
        return data.decode()


@pytest.fixture
def manager(runtime: Runtime) -> Iterator[Manager]:
    made = Manager(runtime.home / "manager.sock")
    yield made
    made.socket.close()


@pytest.fixture(scope="session")
def says(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("says")
    (folder / "says.c").write_text(SAYS)
    subprocess.run(["cc", "-static", "-o", folder / "says", folder / "says.c"], check=True)
    return folder


def talking(bundle: Bundle, says: Path, *words: str) -> str:
    def change(config: dict[str, list[object]]) -> None:
        config["mounts"].append(
            {"destination": "/tmp", "type": "bind", "source": str(says), "options": ["bind"]}
        )

    return bundle("/tmp/says", *words, change=change)


@pytest.mark.requires("cc")
def test_start_returns_when_it_is_ready(
    runtime: Runtime, bundle: Bundle, manager: Manager, says: Path
) -> None:
    made = talking(bundle, says, "STATUS=waking", "MAINPID=7\nREADY=1")
    runtime.create("c1", made, env=manager.env)
    starting = runtime.popen("start", "c1", env=manager.env)
    pid = runtime.state("c1")["pid"]
    assert [manager.heard() for _ in range(3)] == ["READY=1", f"MAINPID={pid}", "BARRIER=1"]
    assert starting.wait(30) == 0
    assert runtime.status("c1") == "running"


@pytest.mark.requires("cc")
def test_run_in_front_is_the_main_process(
    runtime: Runtime, bundle: Bundle, manager: Manager, says: Path
) -> None:
    made = talking(bundle, says, "READY=1")
    running = runtime.popen("run", "-b", made, "c1", env=manager.env)
    assert [manager.heard() for _ in range(2)] == ["READY=1", f"MAINPID={running.pid}"]
    runtime.ok("kill", "c1", "KILL")
    assert running.wait(30) == 137


def test_one_that_ends_without_a_word(runtime: Runtime, bundle: Bundle, manager: Manager) -> None:
    made = bundle("sh", "-c", 'test -S "$NOTIFY_SOCKET"; echo $? $NOTIFY_SOCKET')
    file = runtime.create("c1", made, env=manager.env)
    starting = runtime.popen("start", "c1", env=manager.env)
    assert starting.wait(30) == 0
    assert file.read_text() == f"0 {manager.path}/notify\n"
    runtime.ok("delete", "c1")
    assert not list(runtime.containers.iterdir())
