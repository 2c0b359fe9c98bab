"""Reference: the name of an image, in docker's grammar and with docker's defaults.

    reference = [domain "/"] path [":" tag] ["@" digest]
    domain    = host [":" port]         taken as a domain when it has a "." or ":", is "localhost", or has capitals
    path      = component *("/" component);  component = [a-z0-9]+ joined by one of . _ __ -+
    tag       = [A-Za-z0-9_] [A-Za-z0-9_.-]{0,127}

What is left out is filled in: `busybox` is `docker.io/library/busybox:latest`. Written without `re`, whose
import costs more than all the parsing of a command line.
"""

from __future__ import annotations

from knarr.errors import DataError, UsageError
from knarr.oci.digest import Digest
from knarr.record import Record

DEFAULT_DOMAIN = "docker.io"
DEFAULT_TAG = "latest"
_OFFICIAL = "library/"
_PATH_MAX = 255
_TAG_MAX = 128

_LOWER = frozenset("abcdefghijklmnopqrstuvwxyz0123456789")
_ALNUM = _LOWER | frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
_WORD = _ALNUM | {"_"}
_TAG = _WORD | frozenset(".-")
_DIGITS = frozenset("0123456789")
_HEX = frozenset("0123456789abcdef")
_IPV6 = frozenset("0123456789abcdefABCDEF:.")


class Reference(Record):
    """A complete name: `domain` and `path` are never empty, and of `tag` and `digest` at least one is there."""

    domain: str
    path: str
    tag: str = ""
    digest: str = ""

    @property
    def name(self) -> str:
        """`docker.io/library/busybox`: the repository, without tag and digest."""
        return f"{self.domain}/{self.path}"

    @property
    def familiar_name(self) -> str:
        """The repository as people type it: `busybox`, `me/tool`, `quay.io/a/b`."""
        if self.domain != DEFAULT_DOMAIN or has_domain(self.path):  # docker.io/a.b/c is not a.b/c
            return self.name
        short = self.path.removeprefix(_OFFICIAL)
        return short if "/" not in short else self.path

    @property
    def familiar(self) -> str:
        """The whole reference as people type it: `busybox:latest`."""
        return self.familiar_name + self._suffix

    @property
    def version(self) -> str:
        """What a registry is asked for: the digest when there is one, else the tag."""
        return self.digest or self.tag

    @property
    def _suffix(self) -> str:
        return (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")

    def __str__(self) -> str:
        return self.name + self._suffix


def parse(text: str) -> Reference:
    """The reference a user typed, completed. Raises `UsageError` in docker's words."""
    name, tag, digest = split(text)
    if len(name) == 64 and _HEX.issuperset(name):
        raise UsageError(
            f"invalid repository name ({name}), cannot specify 64-byte hexadecimal strings",
            hint=f"an image's id is not a name to pull; write `sha256:{name[:12]}…` to mean an id",
        )
    domain, path = _split_domain(name)
    if path != path.lower() and _is_path(path.lower()):
        raise UsageError(f"invalid reference format: repository name ({path}) must be lowercase")
    if not _is_domain(domain) or not _is_path(path):
        raise _invalid(text)
    if len(path) > _PATH_MAX:
        raise UsageError(f"invalid reference: repository name must not be more than {_PATH_MAX} characters")
    return Reference(domain, path, tag or ("" if digest else DEFAULT_TAG), digest)


def has_domain(text: str) -> bool:
    """Whether the registry is spelled out: `localhost/a` and `quay.io/a` yes, `busybox` and `me/tool` no."""
    head, slash, _ = text.partition("/")
    return bool(slash) and ("." in head or ":" in head or head == "localhost" or head != head.lower())


def split(text: str) -> tuple[str, str, str]:
    """(name, tag, digest) as written; tag and digest are checked, the name is not."""
    rest, at, digest_text = text.partition("@")
    digest = ""
    if at:
        try:
            digest = Digest(digest_text)
        except DataError:
            raise _invalid(text, f"{digest_text[:160]!r} is not a digest") from None
    colon = rest.rfind(":")
    if colon <= rest.rfind("/"):  # a colon before the last slash belongs to a port
        return _named(rest, text), "", digest
    tag = rest[colon + 1 :]
    if not (0 < len(tag) <= _TAG_MAX and tag[0] in _WORD and _TAG.issuperset(tag)):
        raise _invalid(text)
    return _named(rest[:colon], text), tag, digest


def _named(name: str, text: str) -> str:
    if not name:
        raise _invalid(text)
    return name


def _invalid(text: str, why: str = "") -> UsageError:
    shown = repr(text) if len(text) <= 200 else f"{text[:80]!r}…"
    return UsageError(f"invalid reference format: {shown}" + (f": {why}" if why else ""))


def _split_domain(name: str) -> tuple[str, str]:
    if has_domain(name):
        domain, _, path = name.partition("/")
    else:
        domain, path = DEFAULT_DOMAIN, name
    if domain == "index.docker.io":  # what ~/.docker/config.json still calls it
        domain = DEFAULT_DOMAIN
    if domain == DEFAULT_DOMAIN and "/" not in path:
        path = _OFFICIAL + path
    return domain, path


def _is_domain(domain: str) -> bool:
    if domain.startswith("["):
        host, bracket, port = domain[1:].partition("]")
        if not bracket or not host or not _IPV6.issuperset(host):
            return False
        if not port:
            return True
        return port[0] == ":" and _is_port(port[1:])
    host, colon, port = domain.partition(":")
    if colon and not _is_port(port):
        return False
    return len(host) <= 253 and all(map(_is_label, host.split(".")))


def _is_port(port: str) -> bool:
    return 0 < len(port) <= 5 and _DIGITS.issuperset(port) and int(port) < 65536


def _is_label(label: str) -> bool:
    if not label or len(label) > 63 or label[0] == "-" or label[-1] == "-":
        return False
    return _ALNUM.issuperset(label.replace("-", ""))


def _is_path(path: str) -> bool:
    return all(map(_is_component, path.split("/")))


def _is_component(component: str) -> bool:
    """Alphanumeric runs joined by one separator each: `.`, `_`, `__`, or any number of `-`."""
    separator = ""
    if not component or component[0] not in _LOWER or component[-1] not in _LOWER:
        return False
    for c in component:
        if c in _LOWER:
            separator = ""
        elif c == "-":
            if separator.strip("-"):
                return False
            separator += c
        elif c == "_" and separator in ("", "_"):
            separator += c
        elif c == "." and not separator:
            separator = c
        else:
            return False
    return True
