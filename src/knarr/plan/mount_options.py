"""A mount's options sorted by what the kernel needs them as (config.md, Linux mount options; mount_setattr(2)).

`ro` of a bind is an attribute of that mount, `rro` of every mount below it too, `shared` a propagation,
`size=64m` data for the filesystem, `bind` says what kind of mount it is at all.
"""

from __future__ import annotations

from knarr.errors import UsageError
from knarr.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

# mount_setattr(2) MOUNT_ATTR_*
RDONLY, NOSUID, NODEV, NOEXEC = 0x1, 0x2, 0x4, 0x8
ATIME, NOATIME, STRICTATIME, NODIRATIME = 0x70, 0x10, 0x20, 0x80
NOSYMFOLLOW = 0x200000

# mount(2) MS_*, for propagation
MS_REC, MS_UNBINDABLE, MS_PRIVATE, MS_SLAVE, MS_SHARED = 0x4000, 1 << 17, 1 << 18, 1 << 19, 1 << 20

# option -> (attributes set, attributes cleared). An access time mode is a field of its own: the kernel
# wants the whole field cleared when any of it is set.
ATTRIBUTES = {
    "ro": (RDONLY, 0), "rw": (0, RDONLY),
    "nosuid": (NOSUID, 0), "suid": (0, NOSUID),
    "nodev": (NODEV, 0), "dev": (0, NODEV),
    "noexec": (NOEXEC, 0), "exec": (0, NOEXEC),
    "nodiratime": (NODIRATIME, 0), "diratime": (0, NODIRATIME),
    "noatime": (NOATIME, ATIME), "strictatime": (STRICTATIME, ATIME), "relatime": (0, ATIME),
    "atime": (0, ATIME), "norelatime": (0, ATIME), "nostrictatime": (0, ATIME),
    "nosymfollow": (NOSYMFOLLOW, 0), "symfollow": (0, NOSYMFOLLOW),
}  # fmt: skip
PROPAGATION = {
    "private": MS_PRIVATE, "rprivate": MS_PRIVATE | MS_REC,
    "shared": MS_SHARED, "rshared": MS_SHARED | MS_REC,
    "slave": MS_SLAVE, "rslave": MS_SLAVE | MS_REC,
    "unbindable": MS_UNBINDABLE, "runbindable": MS_UNBINDABLE | MS_REC,
}  # fmt: skip
# Flags of the superblock, which fsconfig(2) takes by name.
SUPERBLOCK = {
    "sync": "sync", "async": "async", "dirsync": "dirsync", "lazytime": "lazytime", "nolazytime": "nolazytime",
    "mand": "mand", "nomand": "nomand",
}  # fmt: skip
# Words without effect here: what they ask for is what happens anyway, or is only about messages. Filesystems that can
# count changes (`iversion`) do so unasked; fsconfig(2) has no word for it.
NOTHING = frozenset(
    ("defaults", "silent", "loud", "iversion", "noiversion", "acl", "noacl", "nofail", "auto", "noauto", "")
)
# Not the specification's: crun's, for links at either end of a bind. -> the plan's word for it.
LINKS = {"src-nofollow": "source-link", "dest-nofollow": "target-link", "copy-symlink": "copy-link"}


class Options(Record):
    """`attr_*` are `MOUNT_ATTR_*` of this mount, `rec_*` of it and all below; `data` is the filesystem's."""

    attr_set: int = 0
    attr_clear: int = 0
    rec_set: int = 0
    rec_clear: int = 0
    propagation: int = 0
    bind: bool = False
    recursive: bool = False
    remount: bool = False
    copy_up: bool = False
    idmap: bool = False
    idmap_recursive: bool = False
    data: tuple[str, ...] = ()
    superblock: tuple[str, ...] = ()
    links: tuple[str, ...] = ()  # words of `bind`'s kind


def read_options(words: Sequence[str], origin: str) -> Options:
    """Later words win over earlier ones. Raises `UsageError` for two propagations that contradict each other."""
    attr_set = attr_clear = rec_set = rec_clear = propagation = 0
    bind = recursive = remount = copy_up = idmap = idmap_recursive = False
    data: list[str] = []
    superblock: list[str] = []
    links: list[str] = []
    for word in words:
        if word in ATTRIBUTES:
            on, off = ATTRIBUTES[word]
            attr_set = attr_set & ~off & ~on | on
            attr_clear = attr_clear & ~on | off if not off & ATIME else attr_clear | off
        elif word in PROPAGATION:
            if propagation and propagation & ~MS_REC != PROPAGATION[word] & ~MS_REC:
                raise UsageError(f"{origin}.options: {word} contradicts an earlier propagation")
            propagation = PROPAGATION[word]
        elif word == "bind":
            bind = True
        elif word == "rbind":
            bind = recursive = True
        elif word in NOTHING:
            pass
        elif word in SUPERBLOCK:
            superblock.append(SUPERBLOCK[word])
        elif word[0] == "r" and word[1:] in ATTRIBUTES:
            on, off = ATTRIBUTES[word[1:]]
            rec_set = rec_set & ~off & ~on | on
            rec_clear = rec_clear & ~on | off if not off & ATIME else rec_clear | off
        elif word == "remount":
            remount = True
        elif word == "tmpcopyup":
            copy_up = True
        elif word == "idmap":
            idmap = True
        elif word == "ridmap":
            idmap = idmap_recursive = True
        elif word in LINKS:
            links.append(LINKS[word])
        else:
            data.append(word)
    return Options(
        attr_set, attr_clear, rec_set, rec_clear, propagation, bind, recursive, remount,
        copy_up, idmap, idmap_recursive, tuple(data), tuple(superblock), tuple(links),
    )  # fmt: skip
