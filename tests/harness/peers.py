"""Peers nobody here wrote: Debian's podman, buildah, skopeo, umoci and dockerd.

Each has its storage in this test process's directory; dockerd runs on a socket of its own in the private machine.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from harness.capabilities import SKIPPED, has
from harness.machine import Machine, mount, remove_tree

HERE = Path(__file__).parent
SPECIFICATIONS = {
    "image": "github.com/opencontainers/image-spec",
    "runtime": "github.com/opencontainers/runtime-spec",
}
STARTS_WITHIN_S = 60.0


class Tool:
    """A peer's command line with its own storage."""

    def __init__(self, prefix: Sequence[str], env: Mapping[str, str]) -> None:
        self.prefix = list(prefix)
        self.env = dict(env)

    def __call__(self, *args: str, stdin: bytes | None = None) -> str:
        """Standard output; a failure is the test's, with what the tool said."""
        argv = [*self.prefix, *args]
        done = subprocess.run(argv, capture_output=True, env=self.env, input=stdin, timeout=110)
        assert done.returncode == 0, f"{' '.join(argv)}\n{done.stdout.decode()}{done.stderr.decode()}"
        return done.stdout.decode().strip()


@pytest.fixture(scope="session")
def peers(machine: Machine) -> Iterator[Path]:
    """The peers' directory and HOME, with the few settings all of containers/* ask for."""
    home = machine.state / "peers"
    settings = home / ".config/containers"
    settings.mkdir(parents=True)
    (settings / "policy.json").write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
    (settings / "registries.conf").write_text("unqualified-search-registries = []\n")
    (settings / "storage.conf").write_text(
        f'[storage]\ndriver = "overlay"\ngraphroot = "{home}/storage"\nrunroot = "{home}/run"\n'
    )
    yield home
    for line in reversed(Path("/proc/self/mounts").read_text().splitlines()):
        if line.split()[1].startswith(str(home)):
            subprocess.run(["umount", "-l", line.split()[1]], capture_output=True)
    remove_tree(home)


def _environment(home: Path) -> dict[str, str]:
    settings = home / ".config/containers"
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "TMPDIR": str(home),
        "CONTAINERS_STORAGE_CONF": str(settings / "storage.conf"),
        "CONTAINERS_REGISTRIES_CONF": str(settings / "registries.conf"),
    }


def _tool(name: str, home: Path, *options: str) -> Tool:
    if not has(name):
        pytest.skip(SKIPPED + name)
    return Tool([name, *options], _environment(home))


@pytest.fixture(scope="session")
def podman(peers: Path) -> Tool:
    return _tool("podman", peers, "--cgroup-manager", "cgroupfs", "--events-backend", "file")


@pytest.fixture(scope="session")
def buildah(peers: Path) -> Tool:
    return _tool("buildah", peers)


@pytest.fixture(scope="session")
def skopeo(peers: Path) -> Tool:
    return _tool("skopeo", peers, "--policy", str(peers / ".config/containers/policy.json"))


@pytest.fixture(scope="session")
def umoci(peers: Path) -> Tool:
    return _tool("umoci", peers)


@pytest.fixture(scope="session")
def docker(peers: Path) -> Iterator[Tool]:
    """A docker client of a dockerd of its own: no bridge, no iptables, its own containerd."""
    if not has("dockerd"):
        pytest.skip(f"{SKIPPED}dockerd")
    home = peers / "docker"
    home.mkdir()
    socket = f"unix://{home}/docker.sock"
    # dockerd makes /var/run/docker and friends: the machine's stay as they are.
    mount("none", "/run", "tmpfs", 0, "mode=0755")
    log = (home / "log").open("wb")
    server = subprocess.Popen(
        ["dockerd", "-H", socket, "--data-root", f"{home}/data", "--exec-root", f"{home}/exec"]
        + ["--pidfile", f"{home}/pid", "--bridge=none", "--iptables=false", "--ip6tables=false"],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        env=_environment(home),
    )
    tool = Tool(["docker", "-H", socket], _environment(home))
    try:
        deadline = time.monotonic() + STARTS_WITHIN_S
        while subprocess.run([*tool.prefix, "version"], capture_output=True, env=tool.env).returncode != 0:
            if server.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"dockerd does not answer: {(home / 'log').read_text()[-3000:]}")
            time.sleep(0.2)
        yield tool
    finally:
        server.terminate()
        server.wait(30)
        log.close()
        subprocess.run(["umount", "-l", "/run"], capture_output=True)
