"""Where a repository lies: objects by name, in a folder or in a bucket of S3.

A name is made of words with ``/`` between them. ``put`` leaves an object whole or not at all, and durable: what is
written after it, and names it, is there only if it is.
"""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from vsync.connectors.durable import cannot_write, sync_folder, write_whole
from vsync.errors import ConflictError, SourceError, TargetError, TransientError

if TYPE_CHECKING:
    from collections.abc import Iterator

SECONDS = "60 seconds"
"""How long one request to S3 may take."""


class Found(NamedTuple):
    """An object: its name and its size in bytes."""

    name: str
    size: int


class Store(Protocol):
    """Objects by name. Used by several threads at once; raises TransientError, TargetError and SourceError."""

    @property
    def label(self) -> str:
        """The place for people, without anything secret."""

    def put(self, name: str, data: bytes) -> None:
        """Write an object, a new one or over an old one."""

    def put_new(self, name: str, data: bytes) -> bool:
        """Write an object where there is none of this name; tells whether it did."""

    def get(self, name: str) -> bytes:
        """Read an object; raises SourceError where it is not there."""

    def size(self, name: str) -> int | None:
        """Tell the size of an object; ``None`` where it is not there."""

    def list(self, prefix: str) -> Iterator[Found]:
        """List the objects whose names begin with ``prefix/``."""

    def delete(self, name: str) -> None:
        """Remove an object, where it is there."""


def open_store(place: str) -> Store:
    """Open a folder, or ``s3://BUCKET/PREFIX``; nothing need be there yet."""
    return _Bucket(place) if place.startswith("s3://") else _Folder(Path(place))


class _Folder:
    """A folder; each object is a file that was synced before it got its name."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.label = str(path)
        self._numbers = count()

    def put(self, name: str, data: bytes) -> None:
        write_whole(self._path / name, lambda file: file.write(data))

    def put_new(self, name: str, data: bytes) -> bool:
        path = self._path / name
        mine = path.with_name(f".{path.name}.{os.getpid()}.{next(self._numbers)}")
        write_whole(mine, lambda file: file.write(data))
        try:
            os.link(mine, path)
        except FileExistsError:
            return False
        except OSError as error:
            raise cannot_write(path, error) from error
        finally:
            mine.unlink()
        sync_folder(path.parent)
        return True

    def get(self, name: str) -> bytes:
        try:
            return (self._path / name).read_bytes()
        except FileNotFoundError as error:
            raise missing(self.label, name) from error
        except OSError as error:
            raise SourceError(f"cannot be read: {error.strerror}", where=str(self._path / name)) from error

    def size(self, name: str) -> int | None:
        try:
            return (self._path / name).stat().st_size
        except (FileNotFoundError, NotADirectoryError):
            return None

    def list(self, prefix: str) -> Iterator[Found]:
        for path in sorted((self._path / prefix).rglob("*")):
            # What begins with a dot, or ends so, was on its way to a name when somebody was killed.
            if path.is_file() and not path.name.startswith(".") and path.suffix != ".new":
                yield Found(path.relative_to(self._path).as_posix(), path.stat().st_size)

    def delete(self, name: str) -> None:
        path = self._path / name
        try:
            path.unlink(missing_ok=True)
            for folder in path.parents:
                if folder == self._path:
                    break
                with suppress(OSError):  # others lie in it
                    folder.rmdir()
        except OSError as error:
            raise cannot_write(path, error) from error


class _Bucket:
    """A bucket of S3, or a prefix in it; keys, region and endpoint come from the usual AWS variables."""

    def __init__(self, place: str) -> None:
        try:
            import obstore
            from obstore.store import S3Store
        except ImportError as error:
            hint = "pip install 'vsync[s3]'"
            raise ConflictError(
                "a repository in S3 needs obstore, which is not installed", where=place, hint=hint
            ) from error
        bucket, _, prefix = place.removeprefix("s3://").partition("/")
        self._s3 = obstore
        self.label = place
        with self._told("opening it"):
            # Retries are vsync's own, in one layer.
            self._store = S3Store(
                bucket,
                prefix=prefix.strip("/") or None,
                client_options={"timeout": SECONDS, "allow_http": True},
                retry_config={"max_retries": 0, "retry_timeout": _no_time()},
            )

    def put(self, name: str, data: bytes) -> None:
        with self._told(f"writing {name}"):
            self._s3.put(self._store, name, data)

    def put_new(self, name: str, data: bytes) -> bool:
        try:
            with self._told(f"writing {name}"):
                self._s3.put(self._store, name, data, mode="create")
        except _ThereError:
            return False
        return True

    def get(self, name: str) -> bytes:
        with self._told(f"reading {name}"):
            return bytes(self._s3.get(self._store, name).bytes())

    def size(self, name: str) -> int | None:
        try:
            with self._told(f"looking for {name}"):
                return int(self._s3.head(self._store, name)["size"])
        except SourceError:
            return None

    def list(self, prefix: str) -> Iterator[Found]:
        with self._told(f"listing {prefix}"):
            for some in self._s3.list(self._store, prefix):
                yield from sorted(Found(one["path"], int(one["size"])) for one in some)

    def delete(self, name: str) -> None:
        with suppress(SourceError), self._told(f"removing {name}"):
            self._s3.delete(self._store, name)

    @contextmanager
    def _told(self, doing: str) -> Iterator[None]:
        """Put what obstore raises into words; what it says may hold a request, but no key."""
        known: Any = self._s3.exceptions
        try:
            yield
        except (known.NotFoundError, FileNotFoundError) as error:
            raise missing(self.label, doing.rpartition(" ")[2]) from error
        except (known.AlreadyExistsError, known.PreconditionError) as error:
            raise _ThereError(f"{doing}: it is there", where=self.label) from error
        except (known.PermissionDeniedError, known.UnauthenticatedError) as error:
            hint = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or the profile that may"
            raise TargetError(f"{doing}: not allowed", where=self.label, hint=hint) from error
        except known.BaseError as error:
            hint = "is the address right? AWS_ENDPOINT_URL names a server that is not Amazon's"
            raise TransientError(f"{doing}: {_first_line(error)}", where=self.label, hint=hint) from error


class _ThereError(TargetError):
    """There is an object of that name."""


def missing(label: str, name: str) -> SourceError:
    """Say that an object is not there."""
    return SourceError(f"there is no {name}", where=label, hint="is it a repository? vsync verify tells what it lacks")


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:300]


def _no_time() -> Any:
    from datetime import timedelta

    return timedelta(0)
