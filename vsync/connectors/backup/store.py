"""Where a repository lies: objects by name, in a folder or in a bucket of S3.

A name is made of words with ``/`` between them. ``put`` leaves an object whole or not at all, and durable: what is
written after it, and names it, is there only if it is.
"""

from __future__ import annotations

import errno
import os
import re
from contextlib import contextmanager, suppress
from datetime import timedelta
from http import HTTPStatus
from pathlib import Path
from stat import S_ISREG
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol
from uuid import uuid4

from vsync.connectors.durable import cannot_write, sync_folder
from vsync.errors import ConflictError, SourceError, TargetError, TransientError, UsageError
from vsync.faults import around, passing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SECONDS = "60 seconds"
"""How long one request to S3 may take."""
OTHERS = 5
"""How often a file is begun again whose folder another vsync removed."""
PUT, DELETE = "store.put", "store.delete"
"""The names of the fault points."""
KEYS = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are the keys"
_LATER = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.CONFLICT, HTTPStatus.TOO_MANY_REQUESTS}
_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}
_REQUEST = re.compile(r".*Error performing [A-Z]+ (\w+://[^/]+)\S* in \S+ -")


class Found(NamedTuple):
    """An object: its name and its size in bytes."""

    name: str
    size: int


class Store(Protocol):
    """Objects by name. Used by several threads at once; raises TransientError, TargetError and SourceError."""

    @property
    def label(self) -> str:
        """The place for people, without anything secret."""

    def empty(self) -> bool:
        """Tell whether there is nothing at all, of whomever."""

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

    def tidy(self, prefix: str) -> None:
        """Remove what was on its way to a name below ``prefix/`` when somebody was killed; nobody writes there now."""


def open_store(place: str) -> Store:
    """Open a folder, or ``s3://BUCKET/PREFIX``; nothing need be there yet."""
    return _Bucket(place) if place.startswith("s3://") else _Folder(Path(place))


class _Folder:
    """A folder; each object is a file that was synced before it got its name."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.label = str(path)

    def empty(self) -> bool:
        try:
            return all(map(_on_its_way, self._path.iterdir()))
        except FileNotFoundError:
            return True
        except NotADirectoryError as error:
            raise ConflictError("there is a file", where=self.label, hint="name a folder") from error
        except OSError as error:
            raise SourceError(f"cannot be read: {error.strerror}", where=self.label) from error

    def put(self, name: str, data: bytes) -> None:
        with around(PUT):
            self._write(self._path / name, data, Path.replace)

    def put_new(self, name: str, data: bytes) -> bool:
        with around(PUT):
            return self._write(self._path / name, data, self._link)

    def _link(self, mine: Path, path: Path) -> bool:
        try:
            path.hardlink_to(mine)
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            what = "this file system has no hard links, which a repository needs"
            raise TargetError(what, where=self.label, hint="put it on another, or into S3") from error
        return True

    def _write(self, path: Path, data: bytes, land: Callable[[Path, Path], object]) -> bool:
        """Write a file. Where another vsync tidies up beside it, the folder may go under it: then it begins again."""
        try:
            for _ in range(OTHERS):
                with suppress(FileNotFoundError):
                    return self._write_once(path, data, land)
            return self._write_once(path, data, land)
        except OSError as error:
            raise cannot_write(path, error) from error

    def _write_once(self, path: Path, data: bytes, land: Callable[[Path, Path], object]) -> bool:
        """Write data under a name of this moment, so that of two who write one object neither disturbs the other."""
        mine = path.with_name(f".{uuid4().hex}.new")
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with mine.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            passing(f"{PUT}.written")
            landed = bool(land(mine, path))
            sync_folder(path.parent)
        finally:
            with suppress(OSError):
                mine.unlink(missing_ok=True)
        return landed

    def get(self, name: str) -> bytes:
        try:
            return (self._path / name).read_bytes()
        except FileNotFoundError as error:
            raise missing(self.label, name) from error
        except OSError as error:
            raise SourceError(f"cannot be read: {error.strerror}", where=str(self._path / name)) from error

    def size(self, name: str) -> int | None:
        try:
            found = (self._path / name).stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        return found.st_size if S_ISREG(found.st_mode) else None

    def list(self, prefix: str) -> Iterator[Found]:
        for path in sorted(Path(folder, name) for folder, _, names in os.walk(self._path / prefix) for name in names):
            found = path.relative_to(self._path).as_posix()
            if not _on_its_way(path) and (size := self.size(found)) is not None:  # it may be gone by now
                yield Found(found, size)

    def delete(self, name: str) -> None:
        with around(DELETE):
            self._remove(self._path / name)

    def tidy(self, prefix: str) -> None:
        for folder, _, names in os.walk(self._path / prefix):
            for path in filter(_on_its_way, map(Path(folder).joinpath, names)):
                self._remove(path)

    def _remove(self, path: Path) -> None:
        """Remove a file, and the folders that are empty then."""
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise cannot_write(path, error) from error
        for folder in path.parents:
            if folder == self._path:
                break
            with suppress(OSError):  # others lie in it
                folder.rmdir()


def _on_its_way(path: Path) -> bool:
    return path.name.startswith(".") and path.suffix == ".new"


class _Bucket:
    """A bucket of S3, or a prefix in it; keys, region and endpoint come from the usual AWS variables."""

    def __init__(self, place: str) -> None:
        try:
            import obstore
            from obstore.store import S3Store
        except ImportError as error:
            what = "a repository in S3 needs obstore, which is not installed"
            raise ConflictError(what, where=place, hint="pip install 'vsync[s3]'") from error
        bucket, _, prefix = place.removeprefix("s3://").partition("/")
        if not bucket:
            raise UsageError(f"{place} names no bucket", hint="s3://BUCKET/PREFIX")
        _refuse_endpoint(place)
        self._s3, self._bucket = obstore, bucket
        self.label = place
        with self._told("opening it"):
            # Retries are vsync's own, in one layer.
            self._store = S3Store(
                bucket,
                prefix=prefix.strip("/") or None,
                client_options={"timeout": SECONDS, "allow_http": True},
                retry_config={"max_retries": 0, "retry_timeout": timedelta(0)},
            )

    def empty(self) -> bool:
        with self._told("listing it"):
            return not any(len(some) for some in self._s3.list(self._store, chunk_size=1))

    def put(self, name: str, data: bytes) -> None:
        with around(PUT), self._told(f"writing {name}"):
            self._s3.put(self._store, name, data)

    def put_new(self, name: str, data: bytes) -> bool:
        try:
            with around(PUT), self._told(f"writing {name}"):
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
        with around(DELETE), suppress(SourceError), self._told(f"removing {name}"):
            self._s3.delete(self._store, name)

    def tidy(self, prefix: str) -> None:
        """Do nothing: here an object is whole, or was never there."""

    @contextmanager
    def _told(self, doing: str) -> Iterator[None]:
        """Put what obstore raises into words; what it says may hold a request, but no key."""
        known: Any = self._s3.exceptions
        try:
            yield
        except (known.AlreadyExistsError, known.PreconditionError) as error:
            raise _ThereError(f"{doing}: it is there", where=self.label) from error
        except (known.NotFoundError, FileNotFoundError) as error:
            what, _, name = doing.partition(" ")
            raise (self._no_bucket() if what == "writing" else missing(self.label, name)) from error
        except known.BaseError as error:
            raise self._in_words(doing, str(error)) from error

    def _in_words(self, doing: str, said: str) -> TargetError:
        """Tell what is wrong for good from what may work in a moment."""
        text = said.strip().splitlines()[0].partition(": <?xml")[0]
        found = re.search(r"status code: (\d+)", text)
        status = int(found[1]) if found else None
        if "/latest/api/token" in text:  # where a machine of Amazon's asks for the keys of its role
            return TargetError(f"{doing}: there are no keys", where=self.label, hint=KEYS)
        if status in {401, 403} or "AccessDenied" in text:
            hint = f"{KEYS}; may they do that, and is there a bucket {self._bucket}?"
            return TargetError(f"{doing}: not allowed", where=self.label, hint=hint)
        if status == HTTPStatus.NOT_FOUND:
            return self._no_bucket()
        what = f"{doing}: {_without_request(text)}"
        if status == HTTPStatus.NOT_IMPLEMENTED:
            hint = "the server has to know conditional writes, If-None-Match"
            return TargetError(what, where=self.label, hint=hint)
        if status is not None and status < HTTPStatus.INTERNAL_SERVER_ERROR and status not in _LATER:
            return TargetError(what, where=self.label, hint="are AWS_REGION and the bucket's name right?")
        return TransientError(what, where=self.label, hint="does the server run? AWS_ENDPOINT_URL names it")

    def _no_bucket(self) -> TargetError:
        return TargetError(f"there is no bucket {self._bucket}", where=self.label, hint="make it: vsync makes none")


class _ThereError(TargetError):
    """There is an object of that name."""


def _without_request(text: str) -> str:
    """Leave out what was asked, but for the server."""
    return _REQUEST.sub(r"\1:", text)[:300]


def _refuse_endpoint(place: str) -> None:
    """Raise UsageError where a variable is no address, which would end the process."""
    for name in ("AWS_ENDPOINT", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        address = os.environ.get(name)
        if address and not re.match(r"https?://[^/\s]+", address):
            what = f"{name} is {address!r}, which is no address"
            raise UsageError(what, where=place, hint="write it as https://HOST:PORT")


def missing(label: str, name: str) -> SourceError:
    """Say that an object is not there."""
    return SourceError(f"there is no {name}", where=label, hint="is it a repository? vsync verify tells what it lacks")
