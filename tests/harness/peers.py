"""Peers nobody here wrote: Debian's podman, buildah, skopeo, umoci, dockerd and containerd.

Each has its storage in this test process's directory; daemons run on a socket of their own in the private machine.
docker knows our runtime as `knarr`, podman is told `--runtime PATH`, ctr `--runc-binary PATH`.
"""

from __future__ import annotations

import contextlib
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from harness.capabilities import SKIPPED, has
from harness.command import Result
from harness.machine import FIRST_SUBID, MS_BIND, SUBIDS, UID, USER, Machine, mount, remove_tree

HERE = Path(__file__).parent
SPECIFICATIONS = {
    "image": "github.com/opencontainers/image-spec",
    "runtime": "github.com/opencontainers/runtime-spec",
}
STARTS_WITHIN_S = 60.0
RUNTIME = Path(sys.prefix, "bin/knarr-runtime")
# Ids for containers in user namespaces: podman takes them from this user's, dockerd from that one's. Not from its usual
# `dockremap`: that user it makes itself, and the machine's own files of users would be written.
SUBORDINATE = {"containers": 3_000_000, "knarr-remap": 4_000_000}


class Tool:
    """A peer's command line with its own storage. `identity` is what `subprocess` is told to be another user."""

    def __init__(
        self, prefix: Sequence[str], env: Mapping[str, str], identity: Mapping[str, Any] | None = None
    ) -> None:
        self.prefix = list(prefix)
        self.env = dict(env)
        self.identity = dict(identity or {})

    def __call__(self, *args: str, stdin: bytes | None = None) -> str:
        """Standard output; a failure is the test's, with what the tool said."""
        done = self.run(*args, stdin=stdin)
        assert done.code == 0, str(done)
        return done.stdout.strip()

    def run(self, *args: str, stdin: bytes | None = None) -> Result:
        """A command that may fail."""
        argv = (*self.prefix, *args)
        done = subprocess.run(
            argv, capture_output=True, env=self.env, input=stdin or b"", timeout=110, **self.identity
        )
        return Result(argv, done.returncode, done.stdout.decode(), done.stderr.decode())


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
    _set_limits(settings)
    yield home
    for line in reversed(Path("/proc/self/mounts").read_text().splitlines()):
        if line.split()[1].startswith(str(home)):
            subprocess.run(["umount", "-l", line.split()[1]], capture_output=True)
    remove_tree(home)


def _set_limits(settings: Path) -> None:
    """podman asks for more open files than a root without CAP_SYS_RESOURCE may give; runc then refuses to start."""
    kinds = (resource.RLIMIT_NOFILE, resource.RLIMIT_NPROC)
    files, processes = (min(resource.getrlimit(kind)[1] & 0xFFFFFFFF, 10_000) for kind in kinds)
    limits = f'default_ulimits = ["nofile={files}:{files}", "nproc={processes}:{processes}"]'
    (settings / "containers.conf").write_text(f"[containers]\n{limits}\n")


def _environment(home: Path) -> dict[str, str]:
    settings = home / ".config/containers"
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "TMPDIR": str(home),
        "CONTAINERS_CONF": str(settings / "containers.conf"),
        "CONTAINERS_STORAGE_CONF": str(settings / "storage.conf"),
        "CONTAINERS_REGISTRIES_CONF": str(settings / "registries.conf"),
    }


def _tool(name: str, home: Path, *options: str) -> Tool:
    if not has(name):
        pytest.skip(SKIPPED + name)
    return Tool([name, *options], _environment(home), {"cwd": home})  # conmon leaves a file where it is


@pytest.fixture(scope="session")
def subordinate_ids(machine: Machine) -> Iterator[None]:
    """The users that podman and dockerd take ids from, on the private machine: copies of its own, whatever is there."""
    assert machine.private
    ids = "".join(f"{name}:{first}:655360\n" for name, first in SUBORDINATE.items())
    files = {
        "passwd": "knarr-remap:x:47100:47100::/:/bin/false\n",
        "group": "knarr-remap:x:47100:\n",
        "subuid": f"{USER}:{FIRST_SUBID}:{SUBIDS}\n{ids}",
        "subgid": f"{USER}:{FIRST_SUBID}:{SUBIDS}\n{ids}",
    }
    folder = machine.state / "ids"
    folder.mkdir()
    for name, more in files.items():
        own = folder / name
        own.write_text((Path("/etc", name).read_text() if name in ("passwd", "group") else "") + more)
        own.chmod(0o644)
        mount(str(own), f"/etc/{name}", "", MS_BIND)
    yield
    for name in files:
        subprocess.run(["umount", "-l", f"/etc/{name}"], capture_output=True)


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
def user_podman(peers: Path, machine: Machine, subordinate_ids: None) -> Iterator[Tool]:
    """An ordinary user's podman."""
    if not has("podman"):
        pytest.skip(f"{SKIPPED}podman")
    home = machine.state / "user-peers"
    settings = home / ".config/containers"
    for folder in (home, home / "run", settings):
        folder.mkdir(mode=0o700, parents=True)
    for name in ("policy.json", "registries.conf", "containers.conf"):
        (settings / name).write_bytes((peers / ".config/containers" / name).read_bytes())
    (settings / "storage.conf").write_text('[storage]\ndriver = "vfs"\n')
    for path in (home, *home.rglob("*")):
        os.chown(path, UID, UID)
    identity = {"user": UID, "group": UID, "extra_groups": [], "cwd": home}
    env = {"PATH": os.environ["PATH"], "HOME": str(home), "USER": USER, "XDG_RUNTIME_DIR": str(home / "run")}
    tool = Tool(["podman", "--cgroup-manager", "cgroupfs", "--events-backend", "file"], env, identity)
    yield tool
    tool("system", "migrate")  # ends the process that keeps its user namespace
    tool("unshare", "rm", "-rf", f"{home}/.local")
    remove_tree(home)


@pytest.fixture(scope="session")
def private_run(machine: Machine) -> Iterator[None]:
    """Daemons make /run/docker, /run/containerd and friends: the machine's stay as they are."""
    mount("none", "/run", "tmpfs", 0, "mode=0755")
    yield
    subprocess.run(["umount", "-l", "/run"], capture_output=True)


@pytest.fixture(scope="session")
def docker(peers: Path, private_run: None) -> Iterator[Tool]:
    """A docker client of a dockerd of its own: no bridge, no iptables, its own containerd."""
    with _dockerd(peers / "docker") as tool:
        yield tool


@pytest.fixture
def remapped_docker(peers: Path, private_run: None, subordinate_ids: None) -> Iterator[Tool]:
    """The same with containers in user namespaces."""
    with _dockerd(peers / "remapped", "--userns-remap", "knarr-remap:knarr-remap") as tool:
        yield tool


@contextlib.contextmanager
def _dockerd(home: Path, *options: str) -> Iterator[Tool]:
    if not has("dockerd"):
        pytest.skip(f"{SKIPPED}dockerd")
    home.mkdir()
    socket = f"unix://{home}/docker.sock"
    argv = ["dockerd", "-H", socket, "--data-root", f"{home}/data", "--exec-root", f"{home}/exec"]
    argv += ["--pidfile", f"{home}/pid", "--bridge=none", "--iptables=false", "--ip6tables=false"]
    argv += ["--add-runtime", f"knarr={RUNTIME}", *options]
    tool = Tool(["docker", "-H", socket], _environment(home.parent))
    with _daemon(argv, tool, home / "log", "version"):
        yield tool


@pytest.fixture(scope="session")
def containerd(peers: Path, private_run: None) -> Iterator[Tool]:
    """`ctr` of a containerd of its own."""
    if not has("containerd"):
        pytest.skip(f"{SKIPPED}containerd")
    home = peers / "containerd"
    home.mkdir()
    (home / "config.toml").write_text(
        f'version = 2\nroot = "{home}/root"\nstate = "{home}/state"\n'
        f'disabled_plugins = ["io.containerd.grpc.v1.cri"]\n[grpc]\naddress = "{home}/socket"\n'
    )
    tool = Tool(["ctr", "-a", f"{home}/socket", "-n", "test"], _environment(peers))
    argv = ["containerd", "-c", f"{home}/config.toml"]
    with _daemon(argv, tool, home / "log", "version"):
        yield tool


@contextlib.contextmanager
def _daemon(argv: Sequence[str], tool: Tool, log: Path, *answers: str) -> Iterator[None]:
    """A server, until `tool` is answered; ended with the block."""
    with log.open("wb") as out:
        server = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=tool.env)
    try:
        deadline = time.monotonic() + STARTS_WITHIN_S
        while tool.run(*answers).code != 0:
            if server.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"{argv[0]} does not answer: {log.read_text()[-3000:]}")
            time.sleep(0.2)
        yield
    finally:
        server.terminate()
        server.wait(30)
