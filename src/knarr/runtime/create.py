"""`create` and `run`: from a bundle to a process (runtime.md, Lifecycle, steps 1 to 7).

The order is what makes a kill at any moment harmless. The id is taken first, and what would have to be removed is
written down before the first of it exists. The container's process waits twice: for the hooks, when its root filesystem
is complete, and when it is complete itself, until its pid is written down. Who dies before that takes it along: it
waits for an answer, and gives up when there is nobody to give one.
"""

from __future__ import annotations

import os

from knarr.errors import HostError, UsageError
from knarr.host import clock, native
from knarr.host.launch import launch
from knarr.oci.spec import Hooks, Process
from knarr.plan.cgroup import SCOPE_PAUSE, CgroupPlacement
from knarr.plan.setup import Plan, Setting, container_plan
from knarr.plan.step import to_wire
from knarr.record import Record
from knarr.runtime import ahead, delegate, placing
from knarr.runtime.delete import destroy, mount_id
from knarr.runtime.descriptors import PIDFD_RECEIVER, Handed, descriptors_of, send_pidfd
from knarr.runtime.process import completed, keeps_groups
from knarr.runtime.state_dir import Container, StateDir
from knarr.runtime.status import CREATED, state_document

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from knarr.oci.spec import Spec
    from knarr.plan.facts import HostFacts
    from knarr.plan.step import Step
    from knarr.runtime.bundle import Bundle
    from knarr.runtime.notify import Notices

_NOBODY = Process("/", args=("/",))  # what a container without a process would fail to execute
_HOOKS, _DONE = "hooks", "created"


class CreateRequest(Record):
    """What the command line asks for. Descriptors: -1 is none."""

    id: str
    root: str
    console_fd: int = -1  # connected socket that takes the terminal's master
    console_bare: bool = False  # its line feeds are made lines where they are shown
    pid_file: str = ""
    pidfd_socket: str = ""  # takes a pidfd of the container's process
    preserve_fds: int = 0
    listen_fds: int = 0  # of systemd's socket activation (sd_listen_fds(3)): the first of those preserved
    no_pivot: bool = False
    new_keyring: bool = True
    systemd_cgroup: bool = False
    waits: bool = True  # for `start`; without, it is started at once
    pdeathsig: bool = False
    notify_socket: str = ""  # of the service manager: the container is given one that leads there


class Created(Record):
    """A container whose process is a child of ours."""

    directory: StateDir
    container: Container
    lock: int
    notices: Notices | None = None  # of one that is started already


def create(request: CreateRequest, bundle: Bundle, facts: HostFacts, warn: Callable[[str], None]) -> Created:
    """Make the container. Raises the failed step's error; nothing is left then. The caller closes the lock."""
    directory = StateDir(request.root, request.id)
    lock = directory.claim()
    try:
        making = _Making(request, bundle, facts, directory, warn)
        return Created(directory, making.run(), lock, making.notices)
    except BaseException:
        destroy(directory, directory.container(), bundle.spec.hooks, warn)
        os.close(lock)
        raise


def described(container_id: str, bundle: Bundle, facts: HostFacts, *, systemd: bool) -> Container:
    """What is known of a container before any of it exists."""
    return Container(
        container_id,
        bundle.path,
        bundle.rootfs,
        clock.now(),
        bundle.spec.oci_version,
        owner_uid=os.getuid(),
        place=placing.place(facts, container_id, bundle.spec, systemd=systemd),
        annotations=bundle.spec.annotations,
    )


class _Making:
    """One creation on its way: what the container's process is told when it stops to ask."""

    def __init__(
        self,
        request: CreateRequest,
        bundle: Bundle,
        facts: HostFacts,
        directory: StateDir,
        warn: Callable[[str], None],
    ) -> None:
        self.request = request
        self.bundle = bundle
        self.facts = facts
        self.directory = directory
        self.warn = warn
        self.hooks = bundle.spec.hooks or Hooks()
        self.pid = 0
        self.notices: Notices | None = None
        self.container = described(request.id, bundle, facts, systemd=request.systemd_cgroup)._replace(
            users_systemd=request.systemd_cgroup and facts.rootless,
            host_mount=0 if _has_mount_namespace(bundle.spec) else mount_id(bundle.rootfs),
        )
        self.delegated = delegate.delegated(bundle.spec.annotations, self.container.place)

    def _note_rdt(self) -> None:
        """Where its processes are in resctrl, and what of that goes with it."""
        if self.bundle.spec.linux.intel_rdt is None:
            return
        from knarr.plan.intel_rdt import rdt_group, rdt_teardown_steps

        asked = (self.bundle.spec.linux.intel_rdt, self.facts, self.request.id)
        made = tuple(step.args[0] for step in rdt_teardown_steps(*asked))
        self.container = self.container._replace(rdt_group=rdt_group(*asked), rdt_made=made)

    def run(self) -> Container:
        self._note_rdt()
        placing.check_free(self.container.place)  # before it is written down as ours, to be removed
        fds = Handed(self.request.preserve_fds)
        opened: list[int] = []
        try:
            fifo = -1
            if self.request.waits:
                opened.append(self.directory.make_fifo())
                fifo = fds.give(opened[-1])
                opened.append(self.directory.hold_start())
                fds.give(opened[-1])
            console = fds.give(self.request.console_fd)
            plan = self._plan(fifo, console)
            if self.bundle.spec.process is None:
                plan = plan._replace(steps=tuple(s for s in plan.steps if s.op != "find-command"))
            for text in plan.warnings:
                self.warn(text)
            wire = to_wire(plan.steps)
            self.directory.write("config.json", self.bundle.text)
            if self.request.waits:
                self.directory.write("plan", wire)
            # From here on `destroy` knows what there may be. A scope may be another's until systemd has made ours.
            nothing_yet = CgroupPlacement() if self.container.place.scope else self.container.place
            self.directory.write_container(self.container._replace(place=nothing_yet))
            opened.append(native.sealed("knarr-plan", wire))
            self._launch(plan.steps, fds, opened[-1])
        finally:
            for fd in opened:
                os.close(fd)
        return self.container

    def _launch(self, steps: tuple[Step, ...], fds: Handed, plan: int) -> None:
        try:
            pid = launch(
                steps,
                fds=fds.map,
                plan=plan,
                on_pid=self._has_pid,
                on_pause=self._on_pause,
                on_warning=self.warn,
            )
        except HostError:
            self._check_memory()
            raise
        if pid != self.pid:
            raise UsageError("the executor named two processes")

    def _check_memory(self) -> None:
        """Raises `HostError` when it was the limit that ended the start: the kernel kills without a word."""
        from knarr.host.cgroups import oom_kills

        counter = self.container.place.oom_file
        if counter and oom_kills(counter.rpartition("/")[0]):
            memory = self.bundle.spec.linux.resources.memory
            limit = f"memory.limit: {memory.limit} bytes are" if memory and memory.limit else "memory: it is"
            raise HostError(f"linux.resources.{limit} too little to start") from None

    def _plan(self, fifo: int, console: int) -> Plan:
        request = self.request
        spec = self.bundle.spec
        process = spec.process
        if process is None:
            if not request.waits:
                raise UsageError("process: is required to start a container")
            process = _NOBODY  # config.md, Process: only required at `start`, which refuses
        process = completed(process, self.bundle.rootfs, request.listen_fds)
        spec = spec._replace(process=process)
        if request.notify_socket:
            from knarr.runtime.notify import Notices, with_socket

            spec = with_socket(spec, self.directory, request.notify_socket)
            self.notices = None if request.waits else Notices(self.directory, request.notify_socket)
        where = Setting(
            cgroup=self.container.place,
            bundle=self.bundle.path,
            container_id=request.id,
            mounted_pauses=(_HOOKS,) if self.hooks.prestart or self.hooks.create_runtime else (),
            created_pause=_DONE,
            own_null=True,
            console_fd=console,
            console_bare=self.request.console_bare,
            keyring=f"_ses.{request.id}" if request.new_keyring else "",
            fifo_fd=fifo,
            preserve_fds=request.preserve_fds,
            no_pivot=request.no_pivot,
            host_mounts=True,
            reset_affinity=True,
            strict=bool(self.facts.cgroups_v1 or self.facts.cgroup_v2),
            keep_groups=keeps_groups(spec.annotations),
            pdeathsig=request.pdeathsig,
        )
        return container_plan(spec, self.facts, where)

    def _has_pid(self, pid: int) -> None:
        self.pid = pid
        self.container = self.container._replace(pid=pid, pid_start=native.start_time(pid))

    def _on_pause(self, label: str, pid: int) -> None:
        if label == _HOOKS:
            state = state_document(
                self.container, CREATED
            )  # runtime.md, State: "after step 2 in the lifecycle"
            self._run_hooks("prestart", state)
            self._run_hooks("createRuntime", state)
        elif label == SCOPE_PAUSE:
            from knarr.runtime import scope

            place = self.container.place
            scope.start(place, pid, self.container.id, self.bundle.spec, self.facts)
            self.directory.write_container(self.container)
        elif label == _DONE:
            if self.container.place.scope:
                from knarr.runtime import scope

                resources = self.bundle.spec.linux.resources
                scope.limit_pids(self.container.place, resources, user=self.facts.rootless)
            if self.delegated:
                delegate.move_down(self.delegated, self.container.place, self.bundle.spec)
            self.container = self.container._replace(descriptors=descriptors_of(self.pid))
            self.directory.write_container(self.container)
            if self.request.waits and not self.request.notify_socket:
                self.directory.write(
                    ahead.NAME, ahead.written_ahead(self.container, self.bundle.spec).encode()
                )
            if self.request.pid_file:
                write_pid_file(self.request.pid_file, self.pid)
            if socket := self.request.pidfd_socket or self.bundle.spec.annotations.get(PIDFD_RECEIVER, ""):
                send_pidfd(socket, self.pid)

    def _run_hooks(self, kind: str, state: dict[str, Any]) -> None:
        hooks = self.hooks.prestart if kind == "prestart" else self.hooks.create_runtime
        if hooks:
            from knarr.runtime.hooks import run_hooks

            run_hooks(kind, hooks, state, self.container)


def _has_mount_namespace(spec: Spec) -> bool:
    return any(namespace.type == "mount" for namespace in spec.linux.namespaces)


def write_pid_file(path: str, pid: int) -> None:
    """Beside, renamed: who waits for the file finds the whole number in it. Where others may write too (/tmp), what
    they have put there is not written to. Raises `HostError`."""
    directory, _, name = os.path.abspath(path).rpartition("/")
    beside = f"{directory}/.{name}~"
    try:
        if os.path.lexists(beside):
            os.unlink(beside)  # of a command that was killed
        fd = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        try:
            os.write(fd, str(pid).encode())
        finally:
            os.close(fd)
        os.rename(beside, path)
    except OSError as e:
        raise HostError(f"cannot write the pid file {path}: {os.strerror(e.errno or 0).lower()}") from e
