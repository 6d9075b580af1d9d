"""Where a repository of backups lies: a folder and a bucket of a real S3 server keep to the same contract."""

from __future__ import annotations

import errno
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
import s3_server

from vsync.connectors.backup.store import Found, Store, open_store
from vsync.errors import ConflictError, SourceError, TargetError, TransientError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from s3_server import S3Server

MORE_THAN_A_PAGE = 1_100
"""S3 lists a thousand at once."""
LARGE = 12 << 20
"""More than is sent in one part."""


@pytest.fixture(params=["folder", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Give a place that is not there yet."""
    return str(tmp_path / "repo") if request.param == "folder" else str(request.getfixturevalue("bucket"))


@pytest.fixture
def store(place: str) -> Store:
    return open_store(place)


def test_what_is_put_is_read_and_told_as_it_is(store: Store) -> None:
    store.put("a/b", b"one")
    assert (store.get("a/b"), store.size("a/b")) == (b"one", 3)
    store.put("a/b", b"")
    assert (store.get("a/b"), store.size("a/b")) == (b"", 0)
    large = bytes(range(256)) * (LARGE // 256)
    store.put("large", large)
    assert store.get("large") == large


def test_what_is_not_there_is_said(store: Store) -> None:
    store.put("a/b/c", b"")
    for name in ("nothing", "a", "a/b/c/d"):
        assert store.size(name) is None
    with pytest.raises(SourceError, match="there is no nothing/here"):
        store.get("nothing/here")
    store.delete("nothing/here")
    assert list(store.list("nothing")) == []


def test_of_many_that_put_a_new_one_exactly_one_does(place: str) -> None:
    stores = [open_store(place) for _ in range(4)]

    def put(number: int) -> bool:
        return stores[number % len(stores)].put_new("mark", str(number).encode())

    for _ in range(3):
        with ThreadPoolExecutor(8) as threads:
            did = list(threads.map(put, range(16)))
        assert did.count(True) == 1
        assert stores[0].get("mark") == str(did.index(True)).encode()
        stores[0].delete("mark")
    large = b"x" * LARGE
    assert stores[0].put_new("mark", large)
    assert not stores[1].put_new("mark", b"other")
    assert stores[1].get("mark") == large


def test_a_list_has_all_below_a_name_in_order(store: Store) -> None:
    for name in ("list/b", "list/a/2", "list/a/1", "lists/c", "other"):
        store.put(name, name.encode())
    assert list(store.list("list")) == [Found("list/a/1", 8), Found("list/a/2", 8), Found("list/b", 6)]
    assert [one.name for one in store.list("list/a")] == ["list/a/1", "list/a/2"]
    store.delete("list/a/1")
    assert [one.name for one in store.list("list/a")] == ["list/a/2"]
    store.delete("list/a/2")
    assert list(store.list("list/a")) == []
    store.put("list/a", b"a name may be what was a folder")
    assert [one.name for one in store.list("list")] == ["list/a", "list/b"]


def test_a_long_list_has_all(bucket: str) -> None:
    store = open_store(bucket)
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda number: store.put(f"many/{number:05}", b""), range(MORE_THAN_A_PAGE)))
    assert [one.name for one in store.list("many")] == [f"many/{number:05}" for number in range(MORE_THAN_A_PAGE)]


def test_what_was_on_its_way_when_somebody_was_killed_is_not_listed(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    store.put("objects/one", b"1")
    (tmp_path / "objects" / ".two.new").write_bytes(b"2")
    assert [one.name for one in store.list("objects")] == ["objects/one"]
    store.tidy("objects")
    assert [path.name for path in (tmp_path / "objects").iterdir()] == ["one"]


def test_a_file_system_without_hard_links_is_refused_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_self: Path, _target: Path) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr("pathlib.Path.hardlink_to", refuse)
    with pytest.raises(TargetError, match="this file system has no hard links, which a repository needs; put it on"):
        open_store(str(tmp_path)).put_new("config.json", b"")
    assert list(tmp_path.iterdir()) == []


CALLS: list[Callable[[Store], object]] = [
    lambda store: store.get("a"),
    lambda store: store.size("a"),
    lambda store: list(store.list("a")),
    lambda store: store.put("a", b""),
    lambda store: store.put_new("b", b""),
    lambda store: store.delete("a"),
]


def refused(store: Store, *calls: Callable[[Store], object]) -> list[TargetError]:
    """Give what each call is refused with."""
    errors = []
    for call in calls:
        with pytest.raises(TargetError) as caught:
            call(store)
        assert str(caught.value).count("\n") == 0
        errors.append(caught.value)
    return errors


@pytest.mark.parametrize(
    ("name", "value"),
    [("AWS_SECRET_ACCESS_KEY", "wrong"), ("AWS_ACCESS_KEY_ID", "nobody")],
    ids=["a wrong secret", "a key of nobody"],
)
def test_wrong_keys_are_refused_for_good(bucket: str, monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    open_store(bucket).put("a", b"")
    monkeypatch.setenv(name, value)
    for error in refused(open_store(bucket), *CALLS):
        assert (error.exit_code, "not allowed; AWS_ACCESS_KEY_ID" in str(error)) == (1, True), error
        assert s3_server.SECRET not in str(error)


def test_keys_that_may_only_read_do(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    open_store(bucket).put("a", b"1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3_server.READER)
    reading = open_store(bucket)
    assert (reading.get("a"), reading.size("a"), list(reading.list("a"))) == (b"1", 1, [])
    for error in refused(reading, *CALLS[3:]):
        assert (error.exit_code, "not allowed" in str(error)) == (1, True), error
    assert reading.get("a") == b"1"


def test_no_keys_at_all_are_asked_for(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", "http://127.0.0.1:1")  # Amazon's own is not for tests to ask
    for error in refused(open_store(bucket), *CALLS):
        assert (error.exit_code, "there are no keys; AWS_ACCESS_KEY_ID" in str(error)) == (1, True), error


def test_a_bucket_that_is_not_there_is_named(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert bucket
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3_server.WRITER)
    nowhere = open_store("s3://nowhere/at/all")
    for error in refused(nowhere, lambda store: list(store.list("a")), lambda store: store.put("a", b"")):
        assert (error.exit_code, "bucket nowhere" in str(error)) == (1, True), error


def test_a_server_that_is_away_may_come_back(s3: S3Server, bucket: str) -> None:
    store = open_store(bucket)
    store.put("a", b"1")
    s3.kill()
    for error in refused(store, *CALLS):
        assert isinstance(error, TransientError)
        assert f"{s3.uri}: " in str(error)
        assert str(error).endswith("does the server run? AWS_ENDPOINT_URL names it")
    s3.start()
    assert store.get("a") == b"1"


def test_what_cannot_be_a_place_is_refused_as_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("obstore")
    with pytest.raises(UsageError, match="s3:///prefix names no bucket"):
        open_store("s3:///prefix")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "localhost:8333")
    with pytest.raises(UsageError, match="AWS_ENDPOINT_URL is 'localhost:8333', which is no address"):
        open_store("s3://bucket/prefix")


def test_without_obstore_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(ConflictError, match=r"needs obstore, which is not installed; pip install 'vsync\[s3\]'"):
        open_store("s3://bucket/prefix")
