"""The ways to start a container, so that an attack is written once: `knarr`, `knarr-runtime`, a peer."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from harness.command import Knarr, Result
from harness.images import layer_of, make_image, write_archive
from harness.runtime import Runtime

PATIENCE_S = 30
CAPABILITIES = (
    "CAP_CHOWN CAP_DAC_OVERRIDE CAP_FSETID CAP_FOWNER CAP_MKNOD CAP_NET_RAW CAP_SETGID CAP_SETUID CAP_SETFCAP "
    "CAP_SETPCAP CAP_NET_BIND_SERVICE CAP_SYS_CHROOT CAP_KILL CAP_AUDIT_WRITE"
).split()
MASKED = ["/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/sched_debug", "/sys/firmware"]
READONLY = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]


def specification(*argv: str, terminal: bool = False) -> dict[str, Any]:
    """A config.json as engines write it for a container that is not trusted."""
    hidden = ["nosuid", "noexec", "nodev"]
    held = list(CAPABILITIES)
    return {
        "ociVersion": "1.2.0",
        "root": {"path": "rootfs"},
        "hostname": "tested",
        "process": {
            "terminal": terminal,
            "user": {"uid": 0, "gid": 0},
            "cwd": "/",
            "args": list(argv) or ["sh"],
            "env": ["PATH=/bin", "TERM=xterm", "HOME=/root"],
            "capabilities": {"bounding": held, "effective": held, "permitted": held},
        },
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {
                "destination": "/dev",
                "type": "tmpfs",
                "source": "tmpfs",
                "options": ["nosuid", "mode=755", "size=64k"],
            },
            {
                "destination": "/dev/pts",
                "type": "devpts",
                "source": "devpts",
                "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"],
            },
            {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": [*hidden, "ro"]},
        ],
        "linux": {
            "namespaces": [{"type": kind} for kind in ("pid", "mount", "ipc", "uts", "network", "cgroup")],
            "maskedPaths": list(MASKED),
            "readonlyPaths": list(READONLY),
        },
    }


def make_bundle(path: Path, rootfs: Path, *argv: str, config: Mapping[str, Any] | None = None) -> Path:
    """A bundle whose root is `rootfs`, used as it is."""
    path.mkdir(parents=True, exist_ok=True)
    document = dict(config or specification(*argv))
    document["root"] = {**document.get("root", {}), "path": str(rootfs)}
    (path / "config.json").write_text(json.dumps(document))
    return path


class Peer(Runtime):
    """Another runtime with the same command line."""

    def __init__(self, home: Path, *words: str) -> None:
        super().__init__(home)
        self.words = words

    @property
    def argv(self) -> tuple[str, ...]:
        return (*self.words, "--root", str(self.containers))


class Asked(NamedTuple):
    """What a container is started with."""

    volumes: Sequence[tuple[Path, str]] = ()
    tmpfs: Sequence[str] = ()
    cwd: str = ""
    user: str = ""
    caps: Sequence[str] = ()
    env: Mapping[str, str] = {}
    sysctl: Mapping[str, str] = {}
    host_network: bool = False


class Running(Protocol):
    @property
    def pid(self) -> int: ...
    @property
    def exec(self) -> Callable[..., Result]: ...
    @property
    def end(self) -> Callable[[], object]: ...
    @property
    def output(self) -> Callable[[], str]: ...


class Engine(Protocol):
    name: str

    def image(self, change: Callable[[Path], None] | None = None) -> str: ...
    def run(self, image: str, *argv: str, options: Mapping[str, Any] = {}, **asked: Any) -> Result: ...
    def start(self, image: str, *argv: str, **asked: Any) -> Running: ...


def copy_root(source: Path, target: Path, change: Callable[[Path], None] | None) -> Path:
    shutil.copytree(source, target, symlinks=True)
    if change:
        change(target)
    return target


class Started(NamedTuple):
    """A container in the background."""

    pid: int
    exec: Callable[..., Result]
    end: Callable[[], object]
    output: Callable[[], str]


class KnarrEngine:
    name = "knarr"

    def __init__(self, cli: Knarr, rootfs: Path, scratch: Path) -> None:
        self.cli = cli
        self.rootfs = rootfs
        self.scratch = scratch
        self.images = 0

    def image(self, change: Callable[[Path], None] | None = None) -> str:
        self.images += 1
        name = f"localhost/hostile:{self.images}"
        root = copy_root(self.rootfs, self.scratch / f"image{self.images}", change)
        archive = write_archive(make_image([layer_of(root)]), name, self.scratch / f"image{self.images}.tar")
        self.cli.ok("load", "-i", str(archive))
        return name

    def run(self, image: str, *argv: str, options: Mapping[str, Any] = {}, **asked: Any) -> Result:
        return self.cli("run", "--rm", *self._flags(Asked(**asked)), image, *argv, **options)

    def start(self, image: str, *argv: str, **asked: Any) -> Started:
        cid = self.cli.ok("run", "-d", *self._flags(Asked(**asked)), image, *argv)

        def execute(*words: str, cwd: str = "", user: str = "", **options: Any) -> Result:
            flags = [*(["-w", cwd] if cwd else []), *(["-u", user] if user else [])]
            return self.cli("exec", *flags, cid, *words, **options)

        pid = int(self.cli.ok("inspect", "--format", "{{.State.Pid}}", cid))
        return Started(pid, execute, lambda: self.cli.ok("rm", "-f", cid), lambda: self.cli.ok("logs", cid))

    def _flags(self, asked: Asked) -> list[str]:
        words = ["--network", "host" if asked.host_network else "none"]
        words += [f"-v={source}:{target}" for source, target in asked.volumes]
        words += [f"--tmpfs={target}" for target in asked.tmpfs]
        words += [f"--cap-add={cap}" for cap in asked.caps]
        words += [f"--env={name}={value}" for name, value in asked.env.items()]
        words += [f"--sysctl={name}={value}" for name, value in asked.sysctl.items()]
        return (
            words + ([f"-w={asked.cwd}"] if asked.cwd else []) + ([f"-u={asked.user}"] if asked.user else [])
        )


class RuntimeEngine:
    def __init__(self, name: str, runtime: Runtime, rootfs: Path, scratch: Path) -> None:
        self.name = name
        self.runtime = runtime
        self.rootfs = rootfs
        self.scratch = scratch
        self.made = 0

    def image(self, change: Callable[[Path], None] | None = None) -> str:
        self.made += 1
        return str(copy_root(self.rootfs, self.scratch / f"root{self.made}", change))

    def bundle(self, image: str, *argv: str, config: Mapping[str, Any] | None = None, **asked: Any) -> Path:
        self.made += 1
        document = config or _configured(specification(*argv), Asked(**asked))
        return make_bundle(self.scratch / f"bundle{self.made}", Path(image), config=document)

    def run(self, image: str, *argv: str, options: Mapping[str, Any] = {}, **asked: Any) -> Result:
        bundle = self.bundle(image, *argv, **asked)
        return self.runtime("run", "--bundle", str(bundle), bundle.name, **options)

    def start(self, image: str, *argv: str, **asked: Any) -> Started:
        bundle = self.bundle(image, *argv, **asked)
        cid, log = bundle.name, bundle / "log"
        with log.open("wb") as out:
            words = ("run", "--detach", "--bundle", str(bundle), cid)
            with self.runtime.popen(*words, stdin=subprocess.DEVNULL, stdout=out, stderr=out) as process:
                code = process.wait(60)
        assert code == 0, log.read_text()

        def execute(*words: str, cwd: str = "", user: str = "", **options: Any) -> Result:
            flags = [*(["--cwd", cwd] if cwd else []), *(["--user", user] if user else [])]
            return self.runtime("exec", *flags, cid, *words, **options)

        pid = int(self.runtime.state(cid)["pid"])
        return Started(pid, execute, lambda: self.runtime.ok("delete", "--force", cid), log.read_text)


def _configured(config: dict[str, Any], asked: Asked) -> dict[str, Any]:
    process, linux = config["process"], config["linux"]
    for source, target in asked.volumes:
        options = ["rbind", "rprivate"]
        config["mounts"].append(
            {"destination": target, "type": "bind", "source": str(source), "options": options}
        )
    config["mounts"] += [{"destination": t, "type": "tmpfs", "source": "tmpfs"} for t in asked.tmpfs]
    process["cwd"] = asked.cwd or "/"
    if asked.user:
        uid, _, gid = asked.user.partition(":")
        process["user"] = {"uid": int(uid), "gid": int(gid or 0)}
    for kind in ("bounding", "effective", "permitted"):
        process["capabilities"][kind] = [*process["capabilities"][kind], *(f"CAP_{c}" for c in asked.caps)]
    process["env"] += [f"{name}={value}" for name, value in asked.env.items()]
    if asked.sysctl:
        linux["sysctl"] = dict(asked.sysctl)
    if asked.host_network:
        linux["namespaces"] = [n for n in linux["namespaces"] if n["type"] != "network"]
    return config


def config_of(*argv: str, **asked: Any) -> dict[str, Any]:
    """A config.json to change further."""
    return json.loads(json.dumps(_configured(specification(*argv), Asked(**asked))))  # type: ignore[no-any-return]
