"""What a registry's answers and a network's troubles mean to a user: one clear line each, in docker's words."""

from __future__ import annotations

from knarr.errors import DataError, NotFound, RemoteError
from knarr.oci.json import loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from knarr.oci.reference import Reference

TRANSIENT = frozenset((408, 425, 429, 500, 502, 503, 504))
_TEXT_MAX = 300


class Transient(RemoteError):
    """Worth another attempt. `after_s` is what the server asked for, None when it did not say."""

    def __init__(
        self, message: str, *, hint: str = "", status: int = 0, after_s: float | None = None
    ) -> None:
        super().__init__(message, hint=hint, status=status)
        self.after_s = after_s


class Unreachable(Transient):
    """Nobody answered: the name is unknown, the port is closed. Not tried again unless the host has answered before."""


class WrongScheme(RemoteError):
    """The server speaks HTTP where HTTPS was tried, or the other way round."""


class NotThere(NotFound):
    """A manifest, blob or repository the registry does not have."""

    def __init__(self, message: str, *, kind: str, name: str, hint: str = "") -> None:
        super().__init__(kind, name, hint=hint)
        self.args = (message,)
        self.message = message


class Cancelled(RemoteError):
    """The pull was given up while a worker was waiting or reading."""

    def __init__(self) -> None:
        super().__init__("the pull was given up")


def manifest_failure(reference: Reference, host: str, status: int, body: bytes) -> RemoteError | NotThere:
    """The error for an answer other than 200 to a request for a manifest."""
    codes, said = errors_of(body)
    shown = reference.familiar
    if status in (401, 403) or "NAME_UNKNOWN" in codes or "DENIED" in codes:
        return denied(reference.familiar_name, reference.domain, said)
    if status == 404:
        return NotThere(
            f"manifest for {shown} not found" + (f": {said}" if said else ""), kind="manifest", name=shown,
            hint="" if reference.digest else "check the tag; `knarr pull` without one takes `latest`",
        )  # fmt: skip
    return answer_failure(f"manifest of {shown}", host, status, said)


def denied(name: str, domain: str, said: str) -> NotThere:
    """A registry does not say whether a repository is private or absent, and so neither can we."""
    message = f"pull access denied for {name}, repository does not exist or may require authorization"
    return NotThere(
        message + (f": {said}" if said else ""), kind="repository", name=name,
        hint=f"if it is private: `knarr login {domain}`",
    )  # fmt: skip


def blob_failure(
    reference: Reference, digest: str, host: str, status: int, body: bytes
) -> RemoteError | NotThere:
    """The error for an answer other than 200 or 206 to a request for a blob."""
    _, said = errors_of(body)
    short = digest[:19]
    if status == 404:
        return NotThere(
            f"blob {short} of {reference.familiar_name} is not in registry {host}, though its manifest names it",
            kind="blob", name=digest,
        )  # fmt: skip
    if status in (401, 403):
        return RemoteError(
            f"pull access denied for {reference.familiar_name}: registry {host} refused blob {short}"
            + (f": {said}" if said else ""),
            hint=f"`knarr login {reference.domain}`", status=status,
        )  # fmt: skip
    return answer_failure(f"blob {short} of {reference.familiar_name}", host, status, said)


def answer_failure(what: str, host: str, status: int, said: str, after_s: float | None = None) -> RemoteError:
    """For any other status; transient ones are `Transient`."""
    tail = f": {said}" if said else ""
    if status == 429:
        return Transient(
            f"{what}: too many requests to {host}{tail}", status=429, after_s=after_s,
            hint=f"wait, or `knarr login {host}` for a higher limit",
        )  # fmt: skip
    message = f"{what}: registry {host} answered {status}{_reason(status)}{tail}"
    if status in TRANSIENT:
        return Transient(message, status=status, after_s=after_s)
    return RemoteError(message, status=status)


def errors_of(body: bytes) -> tuple[frozenset[str], str]:
    """(codes, text) of an error answer (distribution-spec, Error Codes); nothing when it is not one."""
    try:
        document = loads(body)
    except DataError:
        return frozenset(), ""
    if not isinstance(document, dict):
        return frozenset(), ""
    listed = document.get("errors")
    if not isinstance(listed, list):
        return frozenset(), clean(
            document.get("details") or document.get("message")
        )  # token servers say it so
    codes: list[str] = []
    texts: list[str] = []
    for item in listed[:8]:
        if isinstance(item, dict):
            code, message = clean(item.get("code")), clean(item.get("message"))
            codes.append(code)
            words = message or code.lower().replace("_", " ")
            if words and words not in texts:
                texts.append(words)
    return frozenset(codes), "; ".join(texts)[:_TEXT_MAX]


def clean(value: object) -> str:
    """Text from outside as it may be shown on a terminal: one line, no control characters, not long."""
    if not isinstance(value, str):
        return ""
    return "".join(c if c.isprintable() else " " for c in value[:_TEXT_MAX]).strip()


def _reason(status: int) -> str:
    from http.client import responses

    return f" {responses[status]}" if status in responses else ""
