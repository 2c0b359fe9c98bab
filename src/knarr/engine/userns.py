"""`--userns`: the id maps of a container's user namespace."""

from __future__ import annotations

from knarr.errors import UsageError
from knarr.oci.spec import IdMap
from knarr.plan import defaults

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from knarr.plan.facts import HostFacts

Maps = tuple[tuple[IdMap, ...], tuple[IdMap, ...]]


def id_maps(asked: str, facts: HostFacts, warnings: list[str]) -> Maps:
    """(uid maps, gid maps), empty for no user namespace. A user's container always has one. Raises `UsageError`."""
    if asked not in ("", "host", "keep-id", "nomap", "auto"):
        raise UsageError(f"invalid --userns {asked!r}", hint="host, auto, keep-id or nomap")
    if facts.euid == 0:
        if asked in ("", "host"):
            return (), ()
        raise UsageError(
            f"--userns {asked} is for users who are not root", hint="leave it away, or run rootless"
        )
    uids, gids, cost = defaults.user_maps(facts)
    if cost:
        warnings.append(cost)
    if asked == "keep-id":
        return _keep(uids, facts.euid), _keep(gids, facts.egid)
    if asked == "nomap":
        return _others(uids), _others(gids)
    return uids, gids


def _keep(maps: Sequence[IdMap], own: int) -> tuple[IdMap, ...]:
    """The caller keeps their own id inside; the subordinate ones fill the numbers around it."""
    kept: list[IdMap] = []
    inside = 0
    for _, start, count in maps[1:]:
        below = min(count, max(0, own - inside))
        if below:
            kept.append(IdMap(inside, start, below))
            inside += below
        if inside == own:
            inside += 1
        if count > below:
            kept.append(IdMap(inside, start + below, count - below))
            inside += count - below
    return (*kept, IdMap(own, maps[0].host_id, 1))


def _others(maps: Sequence[IdMap]) -> tuple[IdMap, ...]:
    """Without the caller's own id: root inside is the first subordinate one."""
    if len(maps) < 2:
        raise UsageError("--userns nomap needs subordinate ids", hint="`knarr doctor` says how to get them")
    inside, out = 0, []
    for _, start, count in maps[1:]:
        out.append(IdMap(inside, start, count))
        inside += count
    return tuple(out)
