"""The flags `run` and `create` share, and how they become `ContainerOptions`."""

from __future__ import annotations

import os

from knarr.cli.options import Option
from knarr.engine import mount_forms, quantities
from knarr.engine.options import (
    ContainerOptions,
    DeviceRequest,
    Limits,
    LogRequest,
    NetworkRequest,
    SecurityRequest,
)
from knarr.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from knarr.cli.options import Parsed

OPTIONS = (
    Option("add-host", "Add a line to /etc/hosts", "many", metavar="HOST:IP"),
    Option("annotation", "Add an annotation to the runtime specification", "many", metavar="KEY=VALUE"),
    Option("cap-add", "Give a capability", "many", metavar="CAP"),
    Option("cap-drop", "Take a capability away", "many", metavar="CAP"),
    Option("cgroup-parent", "Cgroup the container's is made in", metavar="PATH"),
    Option("cgroupns", "Cgroup namespace: host or private", choices=("host", "private")),
    Option("cidfile", "Write the container's id to a file", metavar="FILE"),
    Option("cpu-period", "Period of the processor quota, microseconds"),
    Option("cpu-quota", "Processor time per period, microseconds"),
    Option("cpu-shares", "Relative weight of processor time", short="c"),
    Option("cpus", "Number of processors", metavar="NUMBER"),
    Option("cpuset-cpus", "Processors to run on (0-3, 0,1)"),
    Option("cpuset-mems", "Memory nodes to use (0-3, 0,1)"),
    Option("device", "Give a device of the host", "many", metavar="HOST[:INSIDE[:rwm]]"),
    Option("dns", "A name server", "many", metavar="IP"),
    Option("dns-option", "An option of the resolver", "many"),
    Option("dns-search", "A search domain", "many"),
    Option("domainname", "The container's NIS domain name"),
    Option("entrypoint", "In place of the image's entrypoint"),
    Option("env", "Set an environment variable", "many", "e", "KEY[=VALUE]"),
    Option("env-file", "Read environment variables from a file", "many", metavar="FILE"),
    Option("expose", "Expose a port or a range", "many", metavar="PORT"),
    Option("group-add", "Join an additional group", "many", metavar="GROUP"),
    Option("hostname", "The container's host name", short="h"),
    Option("init", "Process 1 reaps children and forwards signals", "flag"),
    Option("interactive", "Keep standard input open", "flag", "i"),
    Option("ip", "IPv4 address on the network"),
    Option("ipc", "IPC namespace: private, host, none, shareable or container:NAME"),
    Option("label", "Set a label", "many", "l", "KEY[=VALUE]"),
    Option("label-file", "Read labels from a file", "many", metavar="FILE"),
    Option("log-driver", "Where output is kept", choices=("k8s-file", "json-file", "local", "none")),
    Option("log-opt", "Option of the log driver: max-size, max-file", "many", metavar="KEY=VALUE"),
    Option("mac-address", "MAC address of the container's interface"),
    Option("memory", "Memory limit", short="m", metavar="BYTES"),
    Option("memory-reservation", "Soft memory limit", metavar="BYTES"),
    Option("memory-swap", "Memory and swap together, -1 for unlimited swap", metavar="BYTES"),
    Option("mount", "Attach a file system", "many", metavar="type=…,source=…,target=…"),
    Option("name", "The container's name"),
    Option("network", "Network: bridge, host, none or container:NAME", default="bridge"),
    Option("net", "The same as --network", default=""),
    Option("oom-kill-disable", "Never kill for want of memory", "flag"),
    Option("oom-score-adj", "How readily the kernel kills it (-1000 to 1000)"),
    Option("pid", "PID namespace: host or container:NAME"),
    Option("pids-limit", "Number of processes, -1 for unlimited"),
    Option("platform", "Platform of the image, as linux/arm64", metavar="OS/ARCH"),
    Option("privileged", "Give all capabilities and devices of the host", "flag"),
    Option("publish", "Publish a port", "many", "p", "[IP:][HOSTPORT:]PORT[/PROTO]"),
    Option("publish-all", "Publish every exposed port on a random one", "flag", "P"),
    Option("pull", "When to pull the image", choices=("always", "missing", "never"), default="missing"),
    Option("quiet", "Do not show the progress of a pull", "flag", "q"),
    Option("read-only", "The root file system is read-only", "flag"),
    Option("runtime", "Make it with another runtime: crun, runc, runsc, one of runtimes.toml, or a path"),
    Option("security-opt", "Security option", "many", metavar="KEY[=VALUE]"),
    Option("shm-size", "Size of /dev/shm", metavar="BYTES"),
    Option("stop-signal", "Signal that stops the container"),
    Option("stop-timeout", "Seconds until a stopping container is killed"),
    Option("sysctl", "Set a kernel parameter", "many", metavar="KEY=VALUE"),
    Option("tmpfs", "Mount a tmpfs", "many", metavar="PATH[:OPTIONS]"),
    Option("tty", "Give the container a terminal", "flag", "t"),
    Option("ulimit", "Set a resource limit", "many", metavar="NAME=SOFT[:HARD]"),
    Option("user", "User and group to run as", short="u", metavar="USER[:GROUP]"),
    Option("userns", "User namespace: host, auto or keep-id"),
    Option("uts", "UTS namespace: host or private"),
    Option("volume", "Mount a host path or a volume", "many", "v", "[SOURCE:]TARGET[:OPTIONS]"),
    Option("workdir", "Working directory", short="w", metavar="DIR"),
)


def container_options(parsed: Parsed) -> ContainerOptions:
    """What the command line asks for, checked. Raises `UsageError`."""
    image, command = parsed.args[0], parsed.args[1:]
    entrypoint: tuple[str, ...] | None = None
    if parsed.given("entrypoint"):
        entrypoint = (parsed.text("entrypoint"),) if parsed.text("entrypoint") else ()
    return ContainerOptions(
        image=image,
        command=command,
        name=parsed.text("name"),
        entrypoint=entrypoint,
        env=_environment(parsed),
        user=parsed.text("user"),
        workdir=parsed.text("workdir"),
        hostname=parsed.text("hostname"),
        domainname=parsed.text("domainname"),
        tty=parsed.flag("tty"),
        stdin=parsed.flag("interactive"),
        init=parsed.flag("init"),
        runtime=parsed.text("runtime"),
        labels=_labels(parsed),
        annotations=_pairs(parsed.many("annotation"), "annotation"),
        stop_signal=_stop_signal(parsed.text("stop-signal")),
        stop_timeout_s=parsed.integer("stop-timeout"),
        mounts=(
            *map(mount_forms.from_volume_flag, parsed.many("volume")),
            *map(mount_forms.from_mount_flag, parsed.many("mount")),
            *map(mount_forms.from_tmpfs_flag, parsed.many("tmpfs")),
        ),
        devices=tuple(map(_device, parsed.many("device"))),
        ulimits=tuple(map(quantities.ulimit, parsed.many("ulimit"))),
        shm_size_bytes=quantities.size(parsed.text("shm-size") or "64m", "--shm-size"),
        limits=_limits(parsed),
        network=_network(parsed),
        security=_security(parsed),
        log=_log(parsed),
        pid=parsed.text("pid"),
        ipc=parsed.text("ipc"),
        uts=parsed.text("uts"),
        cgroupns=parsed.text("cgroupns"),
        cgroup_parent=parsed.text("cgroup-parent"),
    )


def _limits(parsed: Parsed) -> Limits:
    def size(name: str) -> int | None:
        text = parsed.text(name)
        return quantities.size_or_unlimited(text, f"--{name}") if text else None

    if parsed.given("cpus") and (parsed.given("cpu-period") or parsed.given("cpu-quota")):
        raise UsageError("--cpus cannot be used with --cpu-period or --cpu-quota")
    memory, swap = size("memory"), size("memory-swap")
    if memory is not None and memory != -1 and 0 < memory < _LEAST_MEMORY:
        raise UsageError("the least memory limit is 512 KiB")
    if swap is not None and swap not in (-1, 0):
        if memory is None:
            raise UsageError("--memory-swap needs --memory as well")
        if swap < memory:
            raise UsageError("--memory-swap must not be less than --memory: it is memory and swap together")
    return Limits(
        memory=memory or None,
        memory_swap=swap or None,
        memory_reservation=size("memory-reservation") or None,
        nano_cpus=quantities.nano_cpus(parsed.text("cpus")) or None if parsed.text("cpus") else None,
        cpu_shares=parsed.integer("cpu-shares") or None,
        cpu_period=parsed.integer("cpu-period") or None,
        cpu_quota=parsed.integer("cpu-quota") or None,
        cpuset_cpus=parsed.text("cpuset-cpus"),
        cpuset_mems=parsed.text("cpuset-mems"),
        pids=parsed.integer("pids-limit") or None,
        oom_kill_disable=parsed.flag("oom-kill-disable"),
    )


_FILE_CHARACTERS = 4 << 20  # an environment file may be /dev/zero
_LEAST_MEMORY = 512 << 10


def _network(parsed: Parsed) -> NetworkRequest:
    return NetworkRequest(
        mode=parsed.text("net") or parsed.text("network"),
        ports=parsed.many("publish"),
        publish_all=parsed.flag("publish-all"),
        expose=parsed.many("expose"),
        dns=parsed.many("dns"),
        dns_search=parsed.many("dns-search"),
        dns_options=parsed.many("dns-option"),
        add_hosts=parsed.many("add-host"),
        mac_address=parsed.text("mac-address"),
        ip=parsed.text("ip"),
    )


def _security(parsed: Parsed) -> SecurityRequest:
    return SecurityRequest(
        privileged=parsed.flag("privileged"),
        cap_add=parsed.many("cap-add"),
        cap_drop=parsed.many("cap-drop"),
        options=parsed.many("security-opt"),
        read_only=parsed.flag("read-only"),
        userns=parsed.text("userns"),
        sysctls=_pairs(parsed.many("sysctl"), "sysctl"),
        group_add=parsed.many("group-add"),
        oom_score_adj=parsed.integer("oom-score-adj"),
    )


def _log(parsed: Parsed) -> LogRequest:
    driver = parsed.text("log-driver") or "k8s-file"
    request = LogRequest("k8s-file" if driver == "local" else driver)
    for key, value in _pairs(parsed.many("log-opt"), "log-opt").items():
        if key == "max-size":
            request = request._replace(
                max_size_bytes=max(0, quantities.size_or_unlimited(value, "--log-opt max-size"))
            )
        elif key == "max-file" and value.isdecimal() and len(value) < 10 and int(value) > 0:
            request = request._replace(max_files=int(value))
        else:
            raise UsageError(
                f"invalid --log-opt {key}={value}", hint="known are max-size=BYTES and max-file=COUNT"
            )
    return request


def _device(text: str) -> DeviceRequest:
    source, _, rest = text.partition(":")
    target, _, access = rest.partition(":")
    if target and not target.startswith("/"):
        target, access = "", target
    if not source.startswith("/") or not set(access) <= set("rwm"):
        raise UsageError(f"invalid device {text!r}", hint="as /dev/HOST[:/dev/INSIDE[:rwm]]")
    return DeviceRequest(os.path.normpath(source), os.path.normpath(target or source), access or "rwm")


def _stop_signal(text: str) -> str:
    if text:
        from knarr.host import signals

        signals.number(text)
    return text


def _environment(parsed: Parsed) -> tuple[str, ...]:
    lines: list[str] = []
    for file in parsed.many("env-file"):
        lines += file_lines(file)
    return tuple(assignments((*lines, *parsed.many("env"))))


def assignments(items: Iterable[str]) -> list[str]:
    """`K=V` as given, `K` alone from our own environment (left out where it is unset)."""
    out = []
    for item in items:
        name, equals, _ = item.partition("=")
        if not name or any(c.isspace() for c in name):
            raise UsageError(f"invalid environment variable: {item!r}")
        if equals:
            out.append(item)
        elif item in os.environ:
            out.append(f"{item}={os.environ[item]}")
    return out


def _labels(parsed: Parsed) -> dict[str, str]:
    lines: list[str] = []
    for file in parsed.many("label-file"):
        lines += file_lines(file)
    return _pairs((*lines, *parsed.many("label")), "label", bare=True)


def _pairs(items: Sequence[str], what: str, *, bare: bool = False) -> dict[str, str]:
    pairs = {}
    for item in items:
        key, equals, value = item.partition("=")
        if not key or not (equals or bare):
            raise UsageError(f"invalid --{what} {item!r}: as KEY=VALUE")
        pairs[key] = value
    return pairs


def file_lines(path: str) -> list[str]:
    """Lines of an environment or label file, without blank lines and comments."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            text = file.read(_FILE_CHARACTERS + 1)
    except (OSError, ValueError) as e:
        raise UsageError(f"{path}: {(getattr(e, 'strerror', '') or str(e)).lower()}") from e
    if len(text) > _FILE_CHARACTERS:
        raise UsageError(f"{path}: longer than {_FILE_CHARACTERS >> 20} MiB")
    lines = [line.rstrip("\r").lstrip() for line in text.split("\n")]
    return [line for line in lines if line and not line.startswith("#")]
