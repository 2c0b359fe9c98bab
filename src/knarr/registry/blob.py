"""BlobReader: a blob as a stream that survives what happens on the way.

    read(n) → bytes        up to n bytes as they come, b"" at the end

When the connection is cut, stalls or the registry stumbles, it asks for the rest (`Range`), at the same place or
the next one that has the repository. It counts bytes against the descriptor's size; the digest is the reader's
to check, since the store hashes what it writes anyway and hashing twice would double the cost.
"""

from __future__ import annotations

from knarr.errors import DataError, RemoteError
from knarr.registry.failures import Transient, Unreachable
from knarr.registry.retry import Patience

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from knarr.oci.image import Descriptor
    from knarr.registry.transport import Answer

CHUNK = 256 * 1024
_PROGRESS = 64 * 1024  # bytes that count as progress: less between two failures, and patience runs out
_RESUMES_MAX = 100


class BlobReader:
    """`open_at(offset)` starts an answer with the blob's bytes from `offset` on, or from 0 (status 200)."""

    def __init__(
        self,
        descriptor: Descriptor,
        what: str,
        open_at: Callable[[int], Answer],
        patience: Patience,
        *,
        offset: int = 0,
    ) -> None:
        self.offset = offset
        self.resumed = 0
        self._size = descriptor.size
        self._what = what
        self._open_at = open_at
        self._patience = patience
        self._answer: Answer | None = None
        self._settled = offset  # where the last failure left us

    def read(self, size: int = CHUNK) -> bytes:
        """The next bytes, at most `size`. Raises `RemoteError`, `NotFound`, `DataError`."""
        while self.offset < self._size:
            try:
                if self._answer is None:
                    self._answer = self._start()
                chunk = self._answer.read1(min(size, CHUNK, self._size - self.offset) if size > 0 else CHUNK)
                if not chunk:
                    raise Transient(
                        f"{self._what}: the registry ended it {self._size - self.offset} bytes early"
                    )
            except Unreachable:
                raise
            except Transient as failure:
                self._recover(failure)
                continue
            self.offset += len(chunk)
            if self.offset > self._size:
                self.close()
                raise DataError(
                    f"{self._what}: the registry sends more than the {self._size} bytes its manifest says"
                )
            if self.offset == self._size:
                self._finish()
            return chunk
        return b""

    def close(self) -> None:
        if self._answer is not None:
            self._answer.close()
            self._answer = None

    def _start(self) -> Answer:
        answer = self._open_at(self.offset)
        try:
            if answer.encoded:
                raise DataError(
                    f"{self._what}: came encoded as {answer.encoded[:40]!r}, which was not asked for"
                )
            skip = self._position(answer)
            expected = self._size - self.offset + skip
            if answer.length is not None and answer.length != expected:
                raise DataError(
                    f"{self._what}: its manifest says {self._size} bytes, "
                    f"registry {answer.host} says {answer.length + self.offset - skip}"
                )
            while skip:
                chunk = answer.read1(min(skip, CHUNK))
                if not chunk:
                    raise Transient(f"{self._what}: registry {answer.host} ended it early")
                skip -= len(chunk)
        except BaseException:
            answer.close()
            raise
        return answer

    def _position(self, answer: Answer) -> int:
        """How many bytes come before those that were asked for. Raises when the answer is about others."""
        if answer.status == 200:
            return self.offset  # it ignores Range: what we have already is read past
        text = answer.headers.get("Content-Range", "")
        unit, _, rest = text.partition(" ")
        span, _, total = rest.partition("/")
        first, _, last = span.partition("-")
        wanted = (str(self.offset), str(self._size - 1))
        if unit != "bytes" or (first, last) != wanted or total not in (str(self._size), "*"):
            raise RemoteError(
                f"{self._what}: asked for bytes {self.offset}-{self._size - 1}, "
                f"registry {answer.host} sent {text[:60]!r}"
            )
        return 0

    def _recover(self, failure: Transient) -> None:
        self.close()
        self.resumed += 1
        if self.offset - self._settled >= _PROGRESS:
            self._patience.reset()
        self._settled = self.offset
        if self.resumed > _RESUMES_MAX:
            raise failure
        self._patience.again(failure)

    def _finish(self) -> None:
        """The last byte is here: is there one too many? Else the connection is free for the next request."""
        answer = self._answer
        self._answer = None
        if answer is None:
            return
        try:
            extra = answer.read1(1) if answer.length is None else b""
        except Transient:
            extra = b""  # all we wanted is here
        if extra:
            answer.close()
            raise DataError(
                f"{self._what}: the registry sends more than the {self._size} bytes its manifest says"
            )
        answer.release()
