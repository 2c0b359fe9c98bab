"""`--userns`: the id maps of a container's user namespace."""

from __future__ import annotations

from knarr.errors import UsageError
from knarr.oci.spec import IdMap
from knarr.plan import defaults

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from knarr.engine.options import ContainerOptions
    from knarr.plan.facts import HostFacts

Maps = tuple[tuple[IdMap, ...], tuple[IdMap, ...]]


def id_maps(asked: str, facts: HostFacts, warnings: list[str]) -> Maps:
    """(uid maps, gid maps), empty for no user namespace. A user's container always has one. Raises `UsageError`."""
    if asked == "nomap":
        raise UsageError(
            "--userns nomap: the images' files are yours, and nobody but root could show them as somebody else's",
            hint="host, auto or keep-id",
        )
    if asked not in ("", "host", "keep-id", "auto"):
        raise UsageError(f"invalid --userns {asked!r}", hint="host, auto or keep-id")
    if facts.euid == 0:
        if asked in ("", "host"):
            return (), ()
        raise UsageError(
            f"--userns {asked} is for users who are not root", hint="leave it away, or run rootless"
        )
    uids, gids, cost = defaults.user_maps(facts)
    if cost:
        warnings.append(cost)
    if asked != "keep-id":
        return uids, gids
    if len(uids) < 2 or len(gids) < 2:
        raise UsageError("--userns keep-id needs subordinate ids", hint="`knarr doctor` says how to get them")
    return kept(uids, facts.euid), kept(gids, facts.egid)


def with_own_user(options: ContainerOptions, facts: HostFacts) -> ContainerOptions:
    """With keep-id the process is the caller, whoever the image would have it be; `--user` still counts. Pure."""
    if options.security.userns != "keep-id" or options.user or facts.euid == 0:
        return options
    return options._replace(user=f"{facts.euid}:{facts.egid}")


def kept(maps: Sequence[IdMap], own: int) -> tuple[IdMap, ...]:
    """The caller has their own number inside, and root is who would have had it. All others are who they are in the
    usual map, by which images were unpacked: their files stay theirs. Pure; wants more than one id."""
    (_, caller, _), *ranges = maps
    found = [IdMap(own, caller, 1)]
    displaced = -1
    for inside, host, count in ranges:
        before = own - inside
        if 0 <= before < count:
            displaced = host + before
            found += [IdMap(inside, host, before), IdMap(own + 1, displaced + 1, count - before - 1)]
        else:
            found.append(IdMap(inside, host, count))
    if displaced < 0:  # a number beyond all that is mapped: somebody has to be root
        inside, host, count = found.pop()
        displaced = host + count - 1
        found.append(IdMap(inside, host, count - 1))
    return tuple(sorted((IdMap(0, displaced, 1), *(m for m in found if m[2]))))
