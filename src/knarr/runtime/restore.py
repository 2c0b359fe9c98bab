"""`restore`: a container that criu has written to disk goes on.

As with `create` the id is taken first, and what would have to be removed is written down before it exists. criu runs in
the container's cgroup, and the container's first process becomes a child of ours, so that whoever stays in front can
wait for it. criu wants the root filesystem mounted: that is done in a mount namespace of our own, so that no end of
ours leaves it behind. (criu cannot have one for itself: it works in the directories that we have opened, and the kernel
only mounts in one's own namespace.)
"""

from __future__ import annotations

import _socket
import array
import os

from knarr.errors import HostError
from knarr.host import criu, native
from knarr.host.launch import launch
from knarr.plan.cgroup import SCOPE_PAUSE, CgroupPlacement
from knarr.plan.restore import is_bind, restore_plan
from knarr.record import Record
from knarr.runtime import criu_options as options
from knarr.runtime.create import described, write_pid_file
from knarr.runtime.criu_options import CriuFlags
from knarr.runtime.delete import destroy, kill_init
from knarr.runtime.descriptors import descriptors_of
from knarr.runtime.state_dir import Container, StateDir
from knarr.runtime.status import CREATED, state_document

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from knarr.host.criu import Criu, Notice
    from knarr.host.protobuf import Field
    from knarr.plan.facts import HostFacts
    from knarr.plan.step import Step
    from knarr.runtime.bundle import Bundle

_LOG = "restore.log"
_CHANNEL = 3
_CLONE_NEWNS = 0x20000
_JOINED = ("ipc", "uts", "time", "user")


class RestoreRequest(Record):
    """Descriptors: -1 is none."""

    id: str
    root: str
    flags: CriuFlags
    criu: str = ""
    pid_file: str = ""
    console_fd: int = -1
    systemd_cgroup: bool = False
    tcp_close: bool = False
    lsm_profile: str = ""
    lsm_mount_context: str = ""


class Restored(Record):
    """A container whose process is a child of ours."""

    directory: StateDir
    container: Container
    lock: int


def restore(
    request: RestoreRequest, bundle: Bundle, facts: HostFacts, warn: Callable[[str], None]
) -> Restored:
    """Raises `HostError` for what criu cannot do; nothing is left then. The caller closes the lock."""
    options.check_root("restore", facts.euid)
    program = criu.find(request.criu)
    options.read_descriptors(request.flags.image_path)  # before anything is made
    _own_mounts()
    directory = StateDir(request.root, request.id)
    lock = directory.claim()
    try:
        return Restored(directory, _Restoring(request, bundle, facts, directory, program, warn).run(), lock)
    except BaseException:
        container = directory.container()
        if container and container.pid:
            kill_init(container)
        destroy(directory, container, bundle.spec.hooks, warn)
        os.close(lock)
        raise


class _Restoring:
    """One restoration on its way: what criu is told when it stops to ask."""

    def __init__(
        self,
        request: RestoreRequest,
        bundle: Bundle,
        facts: HostFacts,
        directory: StateDir,
        program: Criu,
        warn: Callable[[str], None],
    ) -> None:
        self.request = request
        self.bundle = bundle
        self.facts = facts
        self.directory = directory
        self.program = program
        self.warn = warn
        self.channel = criu.Channel()
        self.namespaces: list[int] = []
        self.container = described(request.id, bundle, facts, systemd=request.systemd_cgroup)

    def run(self) -> Container:
        flags = self.request.flags
        opened = [options.directory(flags.image_path, make=False)]
        pid = 0
        try:
            if flags.work_path:
                opened.append(options.directory(flags.work_path, make=True))
            asked = [*self._asked(opened), *self._joined()]
            pid, last = self._launch()
            asked += self._cgroup_roots(pid)
            answer = self.channel.request(criu.RESTORE, [(2, asked)], self._on_notice)
            if not answer.succeeded:
                log = f"{flags.log_directory}/{_LOG}"
                raise options.failure("bring back", self.request.id, self.program, answer, log)
            self._is_back(answer.pid)
            if last:
                native.execute(last)
        finally:
            self.channel.close()
            if pid:
                native.wait_for(pid)
            for fd in (*opened, *self.namespaces):
                os.close(fd)
        return self.container

    def _asked(self, opened: list[int]) -> list[Field]:
        request, spec = self.request, self.bundle.spec
        rootfs = self.container.rootfs
        mounts = [(at, _source(self.bundle, m.source)) for at, m in options.bind_mounts(spec, rootfs)]
        mounts += list(options.cgroup_mounts(spec, self.container.place))
        mounts += [("/dev/null", "/dev/null"), *((path, path) for path in options.device_mounts(spec))]
        asked: list[Field] = [
            (1, opened[0]),
            (6, True),  # evasive_devices
            (13, rootfs),
            (26, True),  # rst_sibling
            (52, request.tcp_close),
            *options.fields(request.flags, self.container.annotations, _LOG),
            *options.external_mounts(mounts),
        ]
        asked += [(17, fd) for fd in opened[1:]]
        for number, text in ((53, request.lsm_profile), (63, request.lsm_mount_context)):
            if text:
                asked.append((number, text))
        for fd, name in enumerate(options.read_descriptors(request.flags.image_path)):
            if name.startswith("pipe:"):
                asked.append((27, [(1, name), (2, fd)]))
        return asked

    def _joined(self) -> list[Field]:
        """Namespaces that are there and that the container goes back into."""
        asked: list[Field] = []
        for i, namespace in enumerate(self.bundle.spec.linux.namespaces):
            if not namespace.path:
                continue
            origin = f"linux.namespaces[{i}]"
            if namespace.type in options.EXTERNAL_NAMESPACES:
                try:
                    self.namespaces.append(os.open(namespace.path, os.O_RDONLY | os.O_CLOEXEC))
                except OSError as e:
                    reason = os.strerror(e.errno or 0).lower()
                    raise HostError(f"{origin}.path: cannot open {namespace.path}: {reason}") from e
                name = options.EXTERNAL_NAMESPACES[namespace.type][1]
                asked.append((27, [(1, name), (2, _CHANNEL + len(self.namespaces))]))
            elif namespace.type in _JOINED:
                asked.append((39, [(1, namespace.type), (2, namespace.path)]))
            else:
                raise HostError(
                    f"{origin}: criu cannot bring a container back into a {namespace.type} namespace"
                )
        return asked

    def _launch(self) -> tuple[int, tuple[Step, ...]]:
        """criu, where the container will be; and the limits for later."""
        spec, place = self.bundle.spec, self.container.place
        sources = {m.source: _source(self.bundle, m.source) for m in spec.mounts if is_bind(m)}
        plan, last = restore_plan(
            spec,
            self.facts,
            place,
            self.container.rootfs,
            argv=(self.program.program, "swrk", str(_CHANNEL)),
            env=[f"{name}={value}" for name, value in os.environ.items()],
            descriptors=1 + len(self.namespaces),
            files=frozenset(given for given, path in sources.items() if not os.path.isdir(path)),
        )
        for text in plan.warnings:
            self.warn(text)
        self.directory.write("config.json", self.bundle.text)
        nothing_yet = CgroupPlacement() if place.scope else place
        self.directory.write_container(self.container._replace(place=nothing_yet))
        fds = {_CHANNEL: self.channel.theirs}
        fds |= {_CHANNEL + 1 + i: fd for i, fd in enumerate(self.namespaces)}
        return launch(plan.steps, fds=fds, on_pause=self._on_pause, on_warning=self.warn), last

    def _on_pause(self, label: str, pid: int) -> None:
        if label == SCOPE_PAUSE:
            from knarr.runtime import scope

            scope.start(self.container.place, pid, self.request.id, self.bundle.spec, self.facts)
            self.directory.write_container(self.container)

    def _cgroup_roots(self, pid: int) -> list[Field]:
        """Where criu is now is where the images' cgroups begin."""
        asked: list[Field] = []
        with open(f"/proc/{pid}/cgroup", encoding="utf-8", errors="surrogateescape") as file:
            for line in file:
                _, controllers, path = line.rstrip("\n").split(":", 2)
                names = [name.removeprefix("name=") for name in controllers.split(",")]
                asked += [(25, [(1, name), (2, path)]) for name in names]
        return asked

    def _on_notice(self, notice: Notice) -> None:
        if notice.script == "setup-namespaces":
            self.container = self.container._replace(pid=notice.pid)
            self._run_hooks()
        elif notice.script == "orphan-pts-master" and notice.fd >= 0:
            self._hand_over(notice.fd)

    def _run_hooks(self) -> None:
        hooks = self.bundle.spec.hooks
        if hooks and (hooks.prestart or hooks.create_runtime):
            from knarr.runtime.hooks import run_hooks

            state = state_document(self.container, CREATED)
            run_hooks("prestart", hooks.prestart, state, self.container)
            run_hooks("createRuntime", hooks.create_runtime, state, self.container)

    def _hand_over(self, master: int) -> None:
        """The terminal's master, to whoever takes it."""
        if self.request.console_fd < 0:
            return
        console = _socket.socket(fileno=os.dup(self.request.console_fd))
        try:
            rights = (_socket.SOL_SOCKET, _socket.SCM_RIGHTS, array.array("i", (master,)))
            console.sendmsg([b"/dev/ptmx"], [rights])
        finally:
            console.close()

    def _is_back(self, pid: int) -> None:
        self.container = self.container._replace(
            pid=pid, pid_start=native.start_time(pid), descriptors=descriptors_of(pid)
        )
        self.directory.write_container(self.container)
        if self.container.place.scope:
            from knarr.runtime import scope

            scope.limit_pids(self.container.place, self.bundle.spec.linux.resources, user=False)
        if self.request.pid_file:
            write_pid_file(self.request.pid_file, pid)


def _own_mounts() -> None:
    if hasattr(os, "unshare"):  # since Python 3.12
        os.unshare(_CLONE_NEWNS)
        return
    import ctypes

    library = ctypes.CDLL(None, use_errno=True)
    if library.unshare(_CLONE_NEWNS):
        reason = os.strerror(ctypes.get_errno()).lower()
        raise HostError(f"cannot make a mount namespace to restore the container in: {reason}")


def _source(bundle: Bundle, source: str) -> str:
    return os.path.normpath(os.path.join(bundle.path, source))
