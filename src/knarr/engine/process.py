"""The process of a container, or of an `exec` in it, as the specification's `process`: what docker would make of it."""

from __future__ import annotations

from knarr.engine import security
from knarr.errors import UsageError
from knarr.oci.spec import Capabilities, Process, Rlimit, User
from knarr.plan import defaults
from knarr.plan.capabilities import NUMBER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from knarr.engine.container_dir import ContainerConfig
    from knarr.engine.options import ContainerOptions, SecurityRequest
    from knarr.host.users import Identity
    from knarr.oci.image import RunConfig
    from knarr.plan.facts import HostFacts

DEFAULT_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_RLIMIT_INFINITY = (1 << 64) - 1


def container_process(
    config: ContainerConfig, account: Identity, hostname: str, facts: HostFacts, *, userns: bool
) -> Process:
    """The container's own process."""
    options, image = config.options, config.image_config
    return Process(
        cwd=options.workdir or image.working_dir or "/",
        args=command_of(config),
        terminal=options.tty,
        env=environment(config, hostname, account.home, ()),
        user=user_of(account),
        capabilities=capabilities(options.security, account.uid, facts, userns=userns),
        rlimits=tuple(
            Rlimit(f"RLIMIT_{u.name.upper()}", hard=_limit(u.hard), soft=_limit(u.soft))
            for u in options.ulimits
        ),
        no_new_privileges=security.no_new_privileges(options.security),
        apparmor_profile=security.apparmor_profile(options.security),
        selinux_label=security.selinux_label(options.security),
        oom_score_adj=options.security.oom_score_adj,
    )


def user_of(account: Identity) -> User:
    """The primary group is a supplementary one as well: else a process could leave it behind with setgid, and with it a
    file's refusal of that group (CVE-2022-2989)."""
    return User(account.uid, account.gid, None, tuple(dict.fromkeys((*account.groups, account.gid))))


def command_of(config: ContainerConfig) -> tuple[str, ...]:
    """Entrypoint and command as they will be executed."""
    return command_line(config.options, config.image_config)


def command_line(options: ContainerOptions, image: RunConfig) -> tuple[str, ...]:
    entrypoint = image.entrypoint if options.entrypoint is None else options.entrypoint
    # docker: an entrypoint given on the command line resets the image's command.
    return (*entrypoint, *(options.command or (image.cmd if options.entrypoint is None else ())))


def environment(config: ContainerConfig, hostname: str, home: str, extra: Sequence[str]) -> tuple[str, ...]:
    """docker's defaults, then the image's, then the container's, then `extra`; a later one of a name wins."""
    defaults = [DEFAULT_PATH, f"HOSTNAME={hostname}"]
    if config.options.tty:
        defaults.append("TERM=xterm")
    merged: dict[str, str] = {}
    for item in (*defaults, *config.image_config.env, *config.options.env, *extra):
        merged[item.partition("=")[0]] = item
    if home:
        merged.setdefault("HOME", f"HOME={home}")
    return tuple(merged.values())


def capabilities(request: SecurityRequest, uid: int, facts: HostFacts, *, userns: bool) -> Capabilities:
    """docker's sets: an ordinary user has them in the bounding set only. Raises `UsageError` for a name unknown."""
    every = request.privileged or any(_cap(c) == "ALL" for c in request.cap_add)
    names = list(defaults.all_capabilities(facts, in_userns=userns) if every else defaults.CAPABILITIES)
    dropped = {_cap(c) for c in request.cap_drop}
    added = [_cap(c) for c in request.cap_add if _cap(c) != "ALL"]
    for name in (*added, *(dropped - {"ALL"})):
        if name not in NUMBER:
            raise UsageError(f"unknown capability: {name}", hint="see capabilities(7)")
    if "ALL" in dropped:
        names = []
    names = [n for n in dict.fromkeys((*names, *added)) if n not in dropped]
    held = tuple(names)
    if uid == 0:
        return Capabilities(bounding=held, effective=held, permitted=held)
    # An ordinary user gets what was asked for by name, so that --cap-add means something for them.
    asked = tuple(n for n in added if n in held)
    return Capabilities(bounding=held, effective=asked, permitted=asked, inheritable=asked, ambient=asked)


def _cap(name: str) -> str:
    upper = name.upper()
    return upper if upper == "ALL" or upper.startswith("CAP_") else f"CAP_{upper}"


def _limit(value: int) -> int:
    return _RLIMIT_INFINITY if value < 0 else value
