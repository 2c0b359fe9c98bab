"""A seccomp profile from a file, in docker's form, whose conditions are resolved for this container and machine."""

from __future__ import annotations

from knarr.errors import UsageError
from knarr.oci import json
from knarr.oci.document import decode, document
from knarr.oci.spec import Seccomp, SeccompArg, SyscallRule
from knarr.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from knarr.plan.facts import HostFacts

_PROFILE_BYTES = 4 << 20
_GOARCH = {"x86_64": "amd64", "aarch64": "arm64"}


@document(min_kernel="minKernel")
class Condition(Record):
    arches: tuple[str, ...] = ()
    caps: tuple[str, ...] = ()
    min_kernel: str = ""


class FileRule(Record):
    """A rule of docker's profile; the old form has one `name`."""

    action: str
    names: tuple[str, ...] = ()
    name: str = ""
    errno_ret: int | None = None
    args: tuple[SeccompArg, ...] = ()
    includes: Condition = Condition()
    excludes: Condition = Condition()


@document(sub_architectures="subArchitectures")
class ArchMap(Record):
    architecture: str
    sub_architectures: tuple[str, ...] = ()


class FileProfile(Record):
    default_action: str
    default_errno_ret: int | None = None
    arch_map: tuple[ArchMap, ...] = ()
    architectures: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    syscalls: tuple[FileRule, ...] = ()


def read_profile(path: str, capabilities: Sequence[str], facts: HostFacts) -> Seccomp:
    """The profile at `path` for this container and machine. Raises `UsageError`, `DataError`."""
    try:
        with open(path, "rb") as file:
            text = file.read(_PROFILE_BYTES + 1)
    except (OSError, ValueError) as e:
        cause = getattr(e, "strerror", "") or str(e)
        raise UsageError(f"--security-opt seccomp={path}: {cause.lower()}") from e
    if len(text) > _PROFILE_BYTES:
        raise UsageError(f"--security-opt seccomp={path}: longer than {_PROFILE_BYTES >> 20} MiB")
    profile = decode(FileProfile, json.loads(text))
    own = {"x86_64": "SCMP_ARCH_X86_64", "aarch64": "SCMP_ARCH_AARCH64"}.get(facts.arch, "")
    architectures = profile.architectures
    for entry in profile.arch_map:
        if entry.architecture == own:
            architectures = (own, *entry.sub_architectures)
    return Seccomp(
        profile.default_action,
        profile.default_errno_ret,
        architectures,
        profile.flags,
        syscalls=tuple(
            SyscallRule(rule.names or (rule.name,), rule.action, rule.errno_ret, rule.args)
            for rule in profile.syscalls
            if _holds(rule.includes, capabilities, facts)
            and not _excluded(rule.excludes, capabilities, facts)
        ),
    )


def _holds(condition: Condition, capabilities: Sequence[str], facts: HostFacts) -> bool:
    arch = _GOARCH.get(facts.arch, facts.arch)
    if condition.arches and arch not in condition.arches:
        return False
    if any(cap not in capabilities for cap in condition.caps):
        return False
    return not condition.min_kernel or facts.kernel >= _version(condition.min_kernel)


def _excluded(condition: Condition, capabilities: Sequence[str], facts: HostFacts) -> bool:
    arch = _GOARCH.get(facts.arch, facts.arch)
    if arch in condition.arches or any(cap in capabilities for cap in condition.caps):
        return True
    return bool(condition.min_kernel) and facts.kernel >= _version(condition.min_kernel)


def _version(text: str) -> tuple[int, int]:
    major, _, minor = text.partition(".")
    if not (major.isdecimal() and minor.isdecimal()):
        raise UsageError(f"seccomp profile: minKernel {text!r} is no version")
    return int(major), int(minor)
