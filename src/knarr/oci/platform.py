"""Platforms: which manifest of a multi-platform index is for this machine.

`linux/arm64/v8` is os, architecture, variant (image-index.md; names are Go's GOOS and GOARCH). Matching is
containerd's: names are normalised first, then a machine takes what it can run, the closest first: arm/v7 takes
v7, v6, v5; arm64 takes 32-bit arm after its own; amd64/v3 takes v3, v2, v1, then 386.
"""

from __future__ import annotations

from knarr.errors import UsageError
from knarr.oci.image import Platform

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from knarr.oci.image import Descriptor

_ARCHITECTURES = {
    "x86_64": ("amd64", ""), "x86-64": ("amd64", ""), "i386": ("386", ""), "i486": ("386", ""), "i586": ("386", ""),
    "i686": ("386", ""), "aarch64": ("arm64", ""), "armhf": ("arm", "v7"), "armel": ("arm", "v6"),
    "armv5l": ("arm", "v5"), "armv5tel": ("arm", "v5"), "armv6l": ("arm", "v6"), "armv7l": ("arm", "v7"),
    "armv8l": ("arm", "v8"), "loongarch64": ("loong64", ""),
}  # fmt: skip
_KNOWN = frozenset(
    "386 amd64 arm arm64 loong64 mips mips64 mips64le mipsle ppc64 ppc64le riscv64 s390x wasm".split()
)
_SYSTEMS = frozenset(
    "aix android darwin dragonfly freebsd illumos linux netbsd openbsd solaris windows wasip1".split()
)
_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-")


def parse(text: str, machine: str) -> Platform:
    """A platform as written after `--platform`: `os`, `architecture`, `os/architecture[/variant]`.

    What is left out comes from `machine`, the kernel's word for this one (`os.uname().machine`).
    Raises `UsageError`.
    """
    parts = text.split("/")
    if not 1 <= len(parts) <= 3 or not all(p and _PLAIN.issuperset(p) for p in parts):
        raise UsageError(
            f"platform {text[:80]!r} is not of the form os[/architecture[/variant]]",
            hint="for example `--platform linux/arm64/v8`",
        )
    if len(parts) == 1:
        here = host(machine)
        word = normalize(Platform(os=parts[0])).os
        if word in _SYSTEMS:
            return here._replace(os=word)
        found = normalize(Platform(os="linux", architecture=parts[0]))
        if found.architecture in _KNOWN:
            return found
        raise UsageError(f"platform {text!r}: neither an operating system nor an architecture known to knarr")
    return normalize(Platform(os=parts[0], architecture=parts[1], variant="".join(parts[2:])))


def host(machine: str) -> Platform:
    """The platform of a Linux machine by `os.uname().machine`: `x86_64` is linux/amd64."""
    return normalize(Platform(os="linux", architecture=machine))


def normalize(platform: Platform) -> Platform:
    """One spelling for each platform: lower case, Go's names, default variants left out (arm: v7 filled in)."""
    system = platform.os.lower()
    arch = platform.architecture.lower()
    variant = platform.variant.lower()
    arch, implied = _ARCHITECTURES.get(arch, (arch, ""))
    variant = variant or implied
    if variant.isdecimal():
        variant = "v" + variant
    if arch == "arm" and not variant:
        variant = "v7"
    elif (arch, variant) in (("arm64", "v8"), ("amd64", "v1")):
        variant = ""
    return platform._replace(os="darwin" if system == "macos" else system, architecture=arch, variant=variant)


def shown(platform: Platform) -> str:
    """`linux/arm/v7`."""
    return "/".join(p for p in (platform.os, platform.architecture, platform.variant) if p)


def runnable(platform: Platform) -> tuple[Platform, ...]:
    """Every platform whose images this one can run, the best first."""
    first = normalize(platform)
    found = [first]
    level = first.variant[1:]
    if first.architecture == "amd64":
        if level.isdecimal():
            found += [first._replace(variant=f"v{n}" if n > 1 else "") for n in range(int(level) - 1, 0, -1)]
        found.append(first._replace(architecture="386", variant=""))
    elif first.architecture == "arm" and level.isdecimal():
        found += [first._replace(variant=f"v{n}") for n in range(int(level) - 1, 4, -1)]
    elif first.architecture == "arm64":
        found += [first._replace(architecture="arm", variant=f"v{n}") for n in (8, 7, 6, 5)]
    return tuple(found)


def matches(wanted: Platform, offered: Platform) -> bool:
    """Whether an image for `offered` runs on `wanted`."""
    return _key(offered) in map(_key, runnable(wanted))


def select(descriptors: Iterable[Descriptor], wanted: Platform) -> Descriptor | None:
    """The manifest of an index that suits `wanted` best; of equals the first (image-index.md, `manifests`)."""
    order = {_key(p): rank for rank, p in reversed(list(enumerate(runnable(wanted))))}
    best: Descriptor | None = None
    best_rank = len(order)
    for descriptor in descriptors:
        if descriptor.platform is None:
            continue
        rank = order.get(_key(descriptor.platform), best_rank)
        if rank < best_rank:
            best, best_rank = descriptor, rank
    return best


def _key(platform: Platform) -> tuple[str, str, str]:
    p = normalize(platform)
    return p.os, p.architecture, p.variant
