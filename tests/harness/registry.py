"""A real registry: Debian's docker-registry on a free loopback port of the private machine, over HTTP."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from harness.capabilities import SKIPPED, has
from harness.images import MANIFEST, MadeImage, digest
from harness.machine import Machine

STARTS_WITHIN_S = 30.0


class Registry(NamedTuple):
    host: str  # "127.0.0.1:PORT"
    storage: Path

    def push(self, image: MadeImage, name: str) -> str:
        """Uploads an image as NAME:TAG; the reference to pull it by."""
        repository, _, tag = name.partition(":")
        for each, data in image.blobs.items():
            start = self._ask("POST", f"/v2/{repository}/blobs/uploads/", b"")
            place = urllib.parse.urlsplit(start)
            query = f"{place.query}&digest={each}".lstrip("&")
            self._ask("PUT", f"{place.path}?{query}", data, "application/octet-stream")
        self._ask("PUT", f"/v2/{repository}/manifests/{tag or 'latest'}", image.manifest, MANIFEST)
        return f"{self.host}/{repository}:{tag or 'latest'}"

    def by_digest(self, image: MadeImage, repository: str) -> str:
        return f"{self.host}/{repository}@{digest(image.manifest)}"

    def _ask(self, method: str, path: str, body: bytes, kind: str = "") -> str:
        headers = {"Content-Type": kind} if kind else {}
        request = urllib.request.Request(f"http://{self.host}{path}", body, headers, method=method)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return str(answer.headers.get("Location", ""))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(scope="session")
def registry(machine: Machine) -> Iterator[Registry]:
    """One for the session; give repositories names of your own."""
    if not has("docker-registry"):
        pytest.skip(f"{SKIPPED}docker-registry")
    storage = machine.state / "registry"
    storage.mkdir()
    host = f"127.0.0.1:{free_port()}"
    settings = storage / "config.yml"
    settings.write_text(
        "version: 0.1\n"
        "log: {level: error, accesslog: {disabled: true}}\n"
        f"storage: {{filesystem: {{rootdirectory: {storage}/data}}, delete: {{enabled: true}}}}\n"
        f"http: {{addr: '{host}'}}\n"
    )
    with (storage / "log").open("wb") as log:
        server = subprocess.Popen(
            ["docker-registry", "serve", str(settings)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={"PATH": os.environ["PATH"], "OTEL_TRACES_EXPORTER": "none"},
        )
    try:
        _wait_until_up(host, server, storage / "log")
        yield Registry(host, storage)
    finally:
        server.send_signal(signal.SIGTERM)
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _wait_until_up(host: str, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + STARTS_WITHIN_S
    while True:
        try:
            urllib.request.urlopen(f"http://{host}/v2/", timeout=5).close()
            return
        except OSError:
            if server.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"docker-registry does not answer: {log.read_text()[-2000:]}")
            time.sleep(0.05)
