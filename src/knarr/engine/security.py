"""`--security-opt`: system calls, guarded paths, privileges. docker's words, and podman's `mask` and `unmask`."""

from __future__ import annotations

from knarr.errors import UsageError
from knarr.plan import defaults

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from knarr.engine.options import SecurityRequest
    from knarr.oci.spec import Process, Seccomp
    from knarr.plan.facts import HostFacts


def settings(request: SecurityRequest) -> Iterator[tuple[str, str]]:
    """The options as pairs; docker takes `name=value` and the old `name:value`."""
    for option in request.options:
        name, equals, value = option.partition("=")
        if not equals:
            name, _, value = option.partition(":")
        if name not in _KNOWN:
            raise UsageError(
                f"invalid --security-opt {option!r}", hint=f"known are {', '.join(sorted(_KNOWN))}"
            )
        yield name, value


_KNOWN = frozenset(
    ("no-new-privileges", "seccomp", "apparmor", "label", "systempaths", "mask", "unmask", "writable-cgroups")
)


def no_new_privileges(request: SecurityRequest) -> bool:
    """Raises `UsageError` for a value that is no truth value."""
    wanted = False
    for name, value in settings(request):
        if name == "no-new-privileges":
            if value not in ("", "true", "false"):
                raise UsageError(f"invalid --security-opt no-new-privileges={value!r}")
            wanted = value != "false"
    return wanted


def apparmor_profile(request: SecurityRequest) -> str:
    """The profile asked for, "" for none."""
    return next((value for name, value in settings(request) if name == "apparmor"), "")


def selinux_label(request: SecurityRequest) -> str:
    """A whole label asked for by its parts, "" where labels are off or not asked for."""
    parts = {}
    for name, value in settings(request):
        if name == "label":
            key, _, part = value.partition(":")
            parts[key] = part
    if "disable" in parts or not parts:
        return ""
    order = (("user", "system_u"), ("role", "system_r"), ("type", "container_t"), ("level", "s0"))
    return ":".join(parts.get(key, default) for key, default in order)


def guarded_paths(request: SecurityRequest) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(masked, read-only) paths."""
    given = list(settings(request))
    if request.privileged or ("systempaths", "unconfined") in given or ("unmask", "ALL") in given:
        masked: list[str] = []
        readonly: list[str] = []
    else:
        masked, readonly = list(defaults.MASKED_PATHS), list(defaults.READONLY_PATHS)
    for name, value in given:
        paths = [p for p in value.split(":") if p and p != "ALL"]
        if name == "mask":
            masked += paths
        elif name == "unmask":
            masked = [p for p in masked if p not in paths]
            readonly = [p for p in readonly if p not in paths]
    return tuple(masked), tuple(readonly)


def seccomp_profile(request: SecurityRequest, process: Process, facts: HostFacts) -> Seccomp | None:
    """The system calls that are let through: docker's default profile, a file's, or `None` for all."""
    asked = next((value for name, value in settings(request) if name == "seccomp"), "")
    if asked == "unconfined" or (request.privileged and not asked):
        return None
    held = process.capabilities.bounding if process.capabilities else ()
    if asked and asked not in ("builtin", "default"):
        from knarr.engine.seccomp_file import read_profile

        return read_profile(asked, held, facts)
    from knarr.plan.seccomp_default import default_seccomp

    return default_seccomp(facts.arch, held, facts.kernel)
