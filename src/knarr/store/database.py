"""`store.db`: what several processes must agree on while they change the store. SQLite in WAL, off the start-up path.

    layers  diff id, bytes of its files, bytes of its archive (0: not known), and the boot it was unpacked in while it
            is not yet synced to disk ("" after)
    blobs   a compressed layer's digest, the diff id it unpacks to, and the boot as above
    uses    which image needs which layer or blob
    pins    what a living session (knarr.store.session) relies on and no image names yet

What *exists* the directories say; a database that is lost or damaged is made again from the images.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time

from knarr.errors import HostError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_SCHEMA = 1
_TABLES = """
CREATE TABLE layers (diff_id TEXT PRIMARY KEY, size INTEGER NOT NULL, archive INTEGER NOT NULL,
  boot TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE blobs (digest TEXT PRIMARY KEY, diff_id TEXT NOT NULL, boot TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE uses (image TEXT, digest TEXT, PRIMARY KEY (image, digest)) WITHOUT ROWID;
CREATE TABLE pins (session TEXT, digest TEXT, PRIMARY KEY (session, digest)) WITHOUT ROWID;
"""
_PAUSE_S = 0.005
_BUSY_MS = 60_000  # transactions are short; a minute without one ending means something is stuck


class Database:
    """One connection; its methods are called from any thread, one at a time."""

    def __init__(self, root: str, rebuild: Callable[[Database], None]) -> None:
        """`rebuild` fills an empty one from what is on disk."""
        self._path = f"{root}/store.db"
        self._lock = threading.RLock()
        try:
            self._db = self._open(rebuild)
        except sqlite3.DatabaseError as e:
            if isinstance(e, sqlite3.OperationalError):
                raise self._failed(e) from e
            for suffix in ("", "-wal", "-shm"):  # not a database any more
                if os.path.exists(self._path + suffix):
                    os.replace(self._path + suffix, f"{self._path}.damaged{suffix}")
            self._db = self._open(rebuild)

    def _open(self, rebuild: Callable[[Database], None]) -> sqlite3.Connection:
        db = sqlite3.connect(
            self._path, timeout=_BUSY_MS / 1000, isolation_level=None, check_same_thread=False
        )
        _to_wal(db)
        db.execute("PRAGMA synchronous = NORMAL")
        if db.execute("PRAGMA user_version").fetchone()[0] != _SCHEMA:
            self._db = db
            with self.changing():
                if db.execute("PRAGMA user_version").fetchone()[0] != _SCHEMA:
                    for statement in _TABLES.split(";"):
                        db.execute(statement)
                    rebuild(self)
                    db.execute(f"PRAGMA user_version = {_SCHEMA}")
        return db

    def close(self) -> None:
        with self._lock:
            self._db.close()

    def changing(self, *, durable: bool = False) -> _Transaction:
        """`with db.changing():` one transaction that no other writer interleaves; `durable`: on disk when it ends."""
        return _Transaction(self, durable)

    def execute(self, statement: str, *values: object) -> list[tuple[object, ...]]:
        """All rows of one statement. Raises `HostError`."""
        with self._lock:
            try:
                return self._db.execute(statement, values).fetchall()
            except sqlite3.Error as e:
                raise self._failed(e) from e

    def insert(self, table: str, rows: Iterable[tuple[object, ...]]) -> None:
        """Insert or replace."""
        for row in rows:
            marks = ",".join("?" * len(row))
            self.execute(f"INSERT OR REPLACE INTO {table} VALUES ({marks})", *row)  # noqa: S608  # our own names

    def _failed(self, e: sqlite3.Error) -> HostError:
        # SQLite calls a full disk an I/O error where its shared memory is what does not fit.
        if "full" in str(e) or ("I/O" in str(e) and os.statvfs(os.path.dirname(self._path)).f_bavail == 0):
            return HostError(
                f"{self._path}: no space left on device",
                hint="free some space: `knarr rmi IMAGE`, `knarr rm CONTAINER`",
            )
        return HostError(f"{self._path}: {e}")


def _to_wal(db: sqlite3.Connection) -> None:
    """Of several processes that find a new file one makes it WAL; SQLite tells the others at once that it is busy."""
    until = time.monotonic() + _BUSY_MS / 1000
    while True:
        try:
            db.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as e:
            if e.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
        time.sleep(_PAUSE_S)


class _Transaction:
    def __init__(self, db: Database, durable: bool) -> None:
        self._database = db
        self._durable = durable

    def __enter__(self) -> None:
        self._database._lock.acquire()
        try:
            if self._durable:
                self._database.execute("PRAGMA synchronous = FULL")
            self._database.execute("BEGIN IMMEDIATE")
        except BaseException:
            self._database._lock.release()
            raise

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            self._database.execute("COMMIT" if kind is None else "ROLLBACK")
            if self._durable:
                self._database.execute("PRAGMA synchronous = NORMAL")
        finally:
            self._database._lock.release()


def boot_id() -> str:
    """Changes with every boot: what was not synced in an earlier one may be lost or half there."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()
