"""The engines a benchmark compares, each as command lines. How to reach one is the environment's:

BENCH_PODMAN="sudo podman --root /scratch"      a prefix in place of the bare name; empty: leave it out
BENCH_KNARR, BENCH_DOCKER, BENCH_CTR, BENCH_RUNC, BENCH_CRUN      likewise
BENCH_IMAGE                                      an image with `true` and `sleep` that all of them have
BENCH_CTR_IMAGE …                                where one of them knows it by another name
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

IMAGE = os.environ.get("BENCH_IMAGE", "localhost/busybox:latest")


class Engine:
    """docker's command line; the others say where they differ."""

    networks = {"none": ("--network", "none"), "bridge": ("--network", "bridge")}

    def __init__(self, name: str, prefix: Sequence[str]) -> None:
        self.name = name
        self.prefix = tuple(prefix)
        self.image = os.environ.get(f"BENCH_{name.upper()}_IMAGE", IMAGE)

    def run(self, *command: str, network: str = "none", options: Sequence[str] = ("--rm",)) -> list[str]:
        return [*self.prefix, "run", *options, *self.networks[network], self.image, *command]

    def start(self, name: str, *command: str, network: str = "none") -> list[str]:
        """A detached container."""
        return self.run(*command, network=network, options=("-d", "--name", name))

    def exec(self, name: str, *command: str) -> list[str]:
        return [*self.prefix, "exec", name, *command]

    def ps(self) -> list[str]:
        return [*self.prefix, "ps"]

    def remove(self, names: Sequence[str]) -> None:
        """Kills and removes; what is not there is fine."""
        subprocess.run([*self.prefix, "rm", "-f", *names], capture_output=True)

    def pull(self, reference: str) -> list[str]:
        return [*self.prefix, "pull", "-q", reference]


class Podman(Engine):
    networks = {"none": ("--network", "none"), "bridge": ("--network", "podman")}

    def remove(self, names: Sequence[str]) -> None:
        subprocess.run([*self.prefix, "rm", "-f", "-t", "0", *names], capture_output=True)

    def pull(self, reference: str) -> list[str]:
        return [*self.prefix, "pull", "-q", "--tls-verify=false", reference]


class Ctr(Engine):
    networks = {"none": (), "bridge": ("--cni",)}

    _made = 0

    def run(self, *command: str, network: str = "none", options: Sequence[str] = ("--rm",)) -> list[str]:
        Ctr._made += 1
        return self._run(f"bench-{os.getpid()}-{Ctr._made}", command, network, options)

    def start(self, name: str, *command: str, network: str = "none") -> list[str]:
        return self._run(name, command, network, ("-d",))

    def _run(self, name: str, command: Sequence[str], network: str, options: Sequence[str]) -> list[str]:
        absolute = [f"/bin/{command[0]}", *command[1:]]
        return [*self.prefix, "run", *options, *self.networks[network], self.image, name, *absolute]

    def exec(self, name: str, *command: str) -> list[str]:
        return [*self.prefix, "task", "exec", "--exec-id", "bench", name, f"/bin/{command[0]}", *command[1:]]

    def ps(self) -> list[str]:
        return [*self.prefix, "task", "ls"]

    def remove(self, names: Sequence[str]) -> None:
        for name in names:
            subprocess.run([*self.prefix, "task", "rm", "-f", name], capture_output=True)
            subprocess.run([*self.prefix, "container", "rm", name], capture_output=True)

    def pull(self, reference: str) -> list[str]:
        return [*self.prefix, "images", "pull", "--plain-http", reference]


_KINDS = {"podman": Podman, "ctr": Ctr}


def engine(name: str) -> Engine | None:
    """The engine, or None when it is not there (or its variable is empty)."""
    prefix = shlex.split(os.environ.get(f"BENCH_{name.upper()}", _default(name)))
    if not prefix or shutil.which(prefix[0]) is None:
        return None
    return _KINDS.get(name, Engine)(name, prefix)


def engines(*names: str) -> list[Engine]:
    return [found for name in names if (found := engine(name))]


def _default(name: str) -> str:
    beside = Path(sys.executable).with_name("knarr")
    return shlex.quote(str(beside)) if name == "knarr" and beside.exists() else name
