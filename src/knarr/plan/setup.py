"""container_plan: a container's whole set-up, in order. Read this file first; the details are in its siblings.

Processes S and C are those of docs/plan.md: S sets up from the host's side, C becomes the container.
"""

from __future__ import annotations

from knarr.errors import UsageError
from knarr.plan import cgroup as cg
from knarr.plan.devices import device_steps, early_device_steps
from knarr.plan.idmap import denies_setgroups, idmap_steps, is_mapped
from knarr.plan.mounts import Where, closing_steps, early_steps, host_path, in_root, mount_steps
from knarr.plan.namespaces import clone_kinds, join_steps, loopback_step, read_namespaces, time_steps
from knarr.plan.process import (
    available_caps,
    groups_policy,
    identity_steps,
    oom_step,
    reset_affinity,
    rlimit_steps,
    scheduling_steps,
    seccomp_step,
)
from knarr.plan.rootfs import Rootfs, Seed, enter_root_steps, guard_steps, rootfs_steps, seed_steps
from knarr.plan.step import Step, quoted
from knarr.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from knarr.oci.spec import Process, Resources, Spec
    from knarr.plan.cgroup import CgroupPlacement
    from knarr.plan.facts import HostFacts
    from knarr.plan.namespaces import Namespaces

SIGKILL = 9
FAIL_UNKNOWN_CALL = "run.oci.seccomp_fail_unknown_syscall"  # an annotation of crun's


class Setting(Record):
    """What a plan needs that is not in the spec: where this container is on this machine. -1 is no descriptor."""

    rootfs: Rootfs | None = None  # None: the spec's root.path is a directory
    cgroup: CgroupPlacement | None = None
    bundle: str = ""  # relative paths of the spec start here
    container_id: str = ""  # for hooks and a seccomp agent
    network_host_steps: tuple[Step, ...] = ()  # S, once C exists
    network_child_steps: tuple[Step, ...] = ()  # C, in its namespaces
    pauses: tuple[str, ...] = ()  # labels: S reports and waits, once C exists
    mounted_pauses: tuple[str, ...] = ()  # labels: C reports and waits, when all its mounts are made
    own_null: bool = False  # its /dev/null, where its standard descriptors are the host's
    created_pause: str = ""  # label: C waits when there is nothing left to do but to start
    console_fd: int = -1  # socket that takes the terminal's master
    console_bare: bool = False  # line feeds are left to who takes the master
    stdio: tuple[str, str, str] | None = None  # descriptor numbers, "-" leaves one
    keyring: str = ""  # name of a session keyring of its own
    init_reaper: bool = False
    pdeathsig: bool = False  # C dies with the process that started S
    wait_fd: int = -1
    fifo_fd: int = -1
    preserve_fds: int = 0  # descriptors 3 … that the workload keeps
    no_pivot: bool = False
    host_mounts: bool = (
        False  # a container without a mount namespace mounts on the host; who asks for it undoes that
    )
    reset_affinity: bool = False  # the caller's CPU affinity is not the container's: that has its cpuset
    keep_groups: bool = False  # the caller's supplementary groups go with the process
    strict: bool = False  # a limit that cannot be applied is an error, as the specification has it
    seeds: tuple[Seed, ...] = ()  # volumes that may be empty


class Plan(Record):
    """Warnings are lines for the user: what was asked and will not be so."""

    steps: tuple[Step, ...]
    warnings: tuple[str, ...] = ()


def container_plan(spec: Spec, facts: HostFacts, where: Setting) -> Plan:
    """Compiles a spec for this machine. Raises `UsageError` naming the field that is wrong."""
    process, ns = checked_process(spec), read_namespaces(spec.linux)
    spec = _with_id_maps(spec, ns, facts)
    check_possible(spec, process, ns, host_mounts=where.host_mounts)
    in_userns, warnings, steps = ns.own("user"), list[str](), list[Step]()
    place = where.cgroup or cg.CgroupPlacement()
    resources = _as_its_version_means(spec)
    limits, last_limits = cg.resource_steps(resources, place, facts, warnings, strict=where.strict)
    agent, agent_told = agent_state(spec, where.container_id, where.bundle)
    strict_names = spec.annotations.get(FAIL_UNKNOWN_CALL, "0") != "0"
    seccomp = spec.linux.seccomp and seccomp_step(
        spec.linux.seccomp, facts.arch, agent_told, known_only=strict_names
    )
    groups = groups_policy(
        denied="user" in ns.new and denies_setgroups(spec.linux, facts), kept=where.keep_groups
    )
    warnings += _unlabelled(spec, facts)
    add = steps.extend

    # S, on the host, alone.
    add(cg.make_steps(place))  # before its limits, which are files in it
    add(limits)  # before anything runs in it
    add(_ownership(spec, process, ns, place))
    add(_rdt_steps(spec, facts, where.container_id))
    add(cg.join_steps(place))  # while S still sees the host's files and has its rights; C is born inside
    add(early_steps(spec, ns, facts, where.bundle))  # while S sees the host's files with its own rights
    add(early_device_steps(spec, ns, facts))
    add(agent)  # likewise; C inherits the connection
    add(_net_device_steps(spec, ns, joined=True))  # while S sees the host's devices
    add(join_steps(ns, facts))  # before clone: a pid namespace is only entered by children
    add(
        time_steps(ns, spec.linux, facts, in_child=False)
    )  # likewise, and its offsets freeze with the first child
    add((Step("clone", (clone_kinds(ns),), "linux.namespaces"),))
    # S, with C waiting.
    add(
        idmap_steps(spec.linux, facts) if "user" in ns.new else ()
    )  # before C does anything: it is nobody until then
    add(oom_step(process, facts))  # with S's rights, before C can allocate much
    add(last_limits)  # the number of processes: S counted as one of them at clone
    add(_net_device_steps(spec, ns, joined=False))
    add(where.network_host_steps)  # the namespace exists; C is to find its interface
    add(Step("pause", (label,), "setting.pauses") for label in where.pauses)  # hooks: see everything above
    add((Step("enter", (), "linux.namespaces"),))
    # C, in its namespaces, with the host's root filesystem.
    add(_become_steps(where, in_userns))  # before anything that needs rights in them
    add(
        (Step("unshare", ("cgroup",), "linux.namespaces"),) if "cgroup" in ns.new else ()
    )  # C is where it stays
    add(time_steps(ns, spec.linux, facts, in_child=True))
    add(_name_steps(spec, ns))
    add(where.network_child_steps or _loopback(ns))  # before sysctls, which name its interfaces
    add(rootfs_steps(spec, where.rootfs, ns, where.bundle))  # before everything that lies in it
    add(seed_steps(where.seeds))  # volumes get what the image has there, before they cover it
    add(
        mount_steps(spec, ns, facts, Where(where.bundle, where.cgroup, where.strict))
    )  # before devices: /dev is one of them
    add(device_steps(spec, ns, facts))  # before masks: they are made of /dev/null
    add(Step("pause", (label,), "setting.pauses") for label in where.mounted_pauses)  # hooks of the runtime
    add(_hook_steps(spec, where, started=False))  # see the mounts, and may still add to them
    add(label_steps(process, facts, warnings))  # what is executed from here on is the container's
    add(_sysctl_steps(spec, ns))  # before /proc/sys becomes read-only
    add(_working_directory(process))  # before the root becomes read-only
    add(
        _console_steps(process, where)
    )  # needs the container's devpts; before the host's /dev is out of sight
    add((Step("own-null", (), "process"),) if where.own_null else ())  # likewise
    add(closing_steps(spec))  # after everything that is made in them
    add(guard_steps(spec))  # after everything that writes there
    add(enter_root_steps(spec, ns, where.no_pivot))  # the host's files are gone from here on
    # C, in its root: from root to the process asked for.
    add((Step("stdio", where.stdio, "setting.stdio"),) if where.stdio else ())
    if where.reset_affinity:
        steps.append(reset_affinity("linux.resources.cpu.cpus"))
    add(scheduling_steps(process, spec.linux))  # needs CAP_SYS_NICE
    add(
        (Step("chdir", (process.cwd,), "process.cwd"),)
    )  # with root's rights: the user may not pass its parents
    add(rlimit_steps(process, facts, in_userns, warnings))  # late: they would limit the set-up too
    add(identity_steps(process, seccomp, available_caps(facts, in_userns), groups, warnings))
    add(_last_steps(process, where))  # with no more rights than the workload
    add(_hook_steps(spec, where, started=True))  # somebody has asked for the start
    add((Step("exec", process.args, "process.args"),))
    return Plan(tuple(steps), tuple(warnings))


def checked_process(spec: Spec) -> Process:
    """The kernel would notice these too, but not say which field."""
    process = spec.process
    if process is None:
        raise UsageError("process: is required to start a container")
    if not process.cwd.startswith("/"):
        raise UsageError(f"process.cwd: {quoted(process.cwd)} is not absolute")
    if not process.args:
        raise UsageError("process.args: is empty: no command to run")
    return process


def check_possible(spec: Spec, process: Process, ns: Namespaces, *, host_mounts: bool = False) -> None:
    """What would harm the host, and what the specification wants refused rather than left out."""
    linux = spec.linux
    if spec.hooks:
        from knarr.plan.hooks import check_hooks

        check_hooks(spec.hooks)
    if "" in spec.annotations:
        raise UsageError("annotations: a key is empty")
    if not ns.own("mnt"):
        if not host_mounts:
            raise UsageError("linux.namespaces: a mount namespace is required")
        if linux.rootfs_propagation:
            raise UsageError(
                "linux.rootfsPropagation: needs a mount namespace in linux.namespaces, else it would be the host's"
            )
    if "user" in ns.new:
        for name, number, maps in (
            ("uid", process.user.uid, linux.uid_mappings),
            ("gid", process.user.gid, linux.gid_mappings),
        ):
            if maps and not is_mapped(maps, number):
                raise UsageError(
                    f"process.user.{name}: {number} does not exist in the container's user namespace",
                    hint="give this user subordinate ids in /etc/subuid and /etc/subgid, and install uidmap",
                )


def _become_steps(where: Setting, in_userns: bool) -> Iterator[Step]:
    if in_userns:
        yield Step("become-root", ("keep",) if where.keep_groups else (), "linux.namespaces")
    if where.pdeathsig:
        yield Step(
            "pdeathsig", (str(SIGKILL),), "setting.pdeathsig"
        )  # after become-root, which would clear it
    yield Step("new-session", (), "process")
    if where.keyring:
        yield Step("keyring", (where.keyring,), "process")


def _with_id_maps(spec: Spec, ns: Namespaces, facts: HostFacts) -> Spec:
    """A new user namespace without maps, which the specification leaves open, has the ids the caller may give it."""
    linux = spec.linux
    if "user" not in ns.new or linux.uid_mappings or linux.gid_mappings:
        return spec
    from knarr.plan.defaults import user_maps

    uids, gids, _ = user_maps(facts)
    return spec._replace(linux=linux._replace(uid_mappings=uids, gid_mappings=gids))


def _as_its_version_means(spec: Spec) -> Resources:
    """Before 1.3.0 the specification did not say that a limit of 0 processes is one, and nobody took it for that."""
    resources = spec.linux.resources
    if (
        resources.pids
        and resources.pids.limit == 0
        and spec.oci_version.startswith(("0.", "1.0.", "1.1.", "1.2."))
    ):
        return resources._replace(pids=None)
    return resources


def _loopback(ns: Namespaces) -> Iterator[Step]:
    """A new network namespace comes with `lo` switched off, which no program expects."""
    if "net" in ns.new:
        yield loopback_step()


def _name_steps(spec: Spec, ns: Namespaces) -> Iterator[Step]:
    for op, name in (("hostname", spec.hostname), ("domainname", spec.domainname)):
        if name:
            if not ns.own("uts"):
                raise UsageError(
                    f"{op}: needs a uts namespace in linux.namespaces, else it would rename the host"
                )
            if len(name) > 64:
                raise UsageError(f"{op}: {quoted(name)} is longer than 64 characters")
            yield Step(op, (name,), op)


def label_steps(process: Process, facts: HostFacts, warnings: list[str]) -> Iterator[Step]:
    for kind, label, present, field in (
        ("apparmor", process.apparmor_profile, facts.apparmor, "apparmorProfile"),
        ("selinux", process.selinux_label, facts.selinux, "selinuxLabel"),
    ):
        if label and present:
            yield Step("label", (kind, label), f"process.{field}")
        elif label and label != "unconfined":
            warnings.append(f"process.{field}: {label} not applied: this kernel does not have {kind} enabled")


def _unlabelled(spec: Spec, facts: HostFacts) -> Iterator[str]:
    if spec.linux.mount_label and not facts.selinux:
        yield f"linux.mountLabel: {spec.linux.mount_label} not applied: this kernel does not have selinux enabled"


def _sysctl_steps(spec: Spec, ns: Namespaces) -> Iterator[Step]:
    if not spec.linux.sysctl:
        return
    from knarr.plan.sysctl import sysctl_steps  # few containers set any

    yield from sysctl_steps(spec.linux.sysctl, ns, spec.domainname)


def _working_directory(process: Process) -> Iterator[Step]:
    if process.cwd != "/":
        yield Step("make-dir", (in_root(process.cwd, "process.cwd"), "755", "0", "0"), "process.cwd")


def _console_steps(process: Process, where: Setting) -> Iterator[Step]:
    if not process.terminal:
        return
    if where.console_fd < 0:
        raise UsageError("process.terminal: there is no console socket to send the terminal to")
    size = process.console_size
    rows, columns = (size.height, size.width) if size else (0, 0)
    bare = ("1",) if where.console_bare else ()
    yield Step("console", (str(where.console_fd), str(rows), str(columns), "1", *bare), "process.terminal")


def _ownership(spec: Spec, process: Process, ns: Namespaces, place: CgroupPlacement) -> Iterator[Step]:
    """The container's user gets a cgroup that it sees as the root of a writable hierarchy, and no other
    (config-linux.md, Cgroup ownership)."""
    if not place.v2 or place.v1 or "user" not in ns.new or "cgroup" not in ns.new:
        return
    if any(
        m.source == "cgroup" and m.destination == "/sys/fs/cgroup" and "ro" not in m.options
        for m in spec.mounts
    ):
        from knarr.plan.idmap import host_id

        owner = host_id(spec.linux.uid_mappings, process.user.uid, "process.user.uid")
        yield Step("cgroup-own", (place.v2, str(owner)), "linux.cgroupsPath")


def _rdt_steps(spec: Spec, facts: HostFacts, container_id: str) -> Iterator[Step]:
    if spec.linux.intel_rdt is None:
        return
    from knarr.plan.intel_rdt import rdt_steps

    yield from rdt_steps(spec.linux.intel_rdt, facts, container_id)


def _net_device_steps(spec: Spec, ns: Namespaces, *, joined: bool) -> Iterator[Step]:
    if not spec.linux.net_devices:
        return
    from knarr.plan.net_devices import net_device_steps

    yield from net_device_steps(spec.linux.net_devices, ns, joined=joined)


def agent_state(
    spec: Spec, container_id: str, bundle: str, pid: int = 0
) -> tuple[tuple[Step, ...], tuple[str, ...]]:
    """The steps that connect to a seccomp agent, and what it is told; nothing when the filter has none to ask.
    `pid`: of the container that another process is started in."""
    seccomp = spec.linux.seccomp
    if not seccomp or not any(rule.action == "SCMP_ACT_NOTIFY" for rule in seccomp.syscalls):
        return (), ()
    from knarr.plan.state import CREATING, RUNNING, process_state_parts

    origin = "linux.seccomp.listenerPath"
    if not seccomp.listener_path:
        raise UsageError(f"{origin}: is required for SCMP_ACT_NOTIFY")
    told = process_state_parts(spec, container_id, bundle, RUNNING if pid else CREATING, pid=pid)
    return (Step("seccomp-listener", (host_path(seccomp.listener_path, bundle),), origin),), told


def _hook_steps(spec: Spec, where: Setting, *, started: bool) -> Iterator[Step]:
    if not spec.hooks:
        return
    from knarr.plan.hooks import create_container_steps, start_container_steps  # few containers have any

    make = start_container_steps if started else create_container_steps
    yield from make(spec, where.container_id, where.bundle)


def _last_steps(process: Process, where: Setting) -> Iterator[Step]:
    if where.pdeathsig:
        yield Step("pdeathsig", (str(SIGKILL),), "setting.pdeathsig")  # the change of user cleared it
    if where.init_reaper:
        yield Step("reap", (), "setting.init_reaper")  # process 1 then is as confined as what it reaps
    yield Step("close-fds", (str(3 + where.preserve_fds),), "process")
    yield Step("env", process.env, "process.env")
    if where.wait_fd >= 0 or where.fifo_fd >= 0:
        # Creating a container tells what is wrong with it, not starting it days later.
        yield Step("find-command", process.args[:1], "process.args")
    if where.created_pause:
        yield Step("pause", (where.created_pause,), "setting.pauses")
    if where.wait_fd >= 0:
        yield Step("wait", (str(where.wait_fd),), "setting.wait_fd")
    if where.fifo_fd >= 0:
        yield Step("wait-fifo", (str(where.fifo_fd),), "setting.fifo_fd")
