"""Every type and option of a server, exported or backed up and brought back: as it was, bit for bit."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

import applies
import every_type
import pytest
import reader
import yaml
from conftest import Endpoint, fresh_database
from every_type import LITE, MILVUS, OLD, PARTITION

from vsync.schema import DataType

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

FIXTURES = {LITE: "lite_server", MILVUS: "milvus", OLD: "lite25"}
BACK = "_back"
COMPRESSIONS = ("none", "gzip", "bitshuffle-lz4", "zstd")
SOON = {(LITE, "none"), (LITE, "zstd"), (OLD, "none"), (LITE, "backup"), (OLD, "backup")}


def ways(*words: str) -> list[Any]:
    """Each server with each word; the slow ones with --all only."""
    return [
        pytest.param(
            server,
            word,
            id=f"{server}-{word}".replace(" ", ""),
            marks=[pytest.mark.slow] * ((server, word) not in SOON),
        )
        for server in every_type.ALL
        for word in words
    ]


@pytest.fixture(scope="module")
def sources(request: pytest.FixtureRequest) -> Iterator[Callable[[str], Endpoint]]:
    """Make all collections on a server, once; give where."""
    made: dict[str, Endpoint] = {}
    with contextlib.ExitStack() as stack:

        def source(server: str) -> Endpoint:
            if server not in made:
                running = request.getfixturevalue(FIXTURES[server])
                name = "default" if server == OLD else stack.enter_context(fresh_database(running))
                made[server] = Endpoint(running.uri, name, server)
                every_type.make(made[server], server)
            return made[server]

        yield source


@pytest.fixture
def target(request: pytest.FixtureRequest) -> Iterator[Callable[[str], Endpoint]]:
    """Give an empty database of a server; Lite 2.5 has only one, and what a test brings there is taken away again."""
    with contextlib.ExitStack() as stack:

        def database(server: str) -> Endpoint:
            running = request.getfixturevalue(FIXTURES[server])
            if server != OLD:
                return Endpoint(running.uri, stack.enter_context(fresh_database(running)), server)
            endpoint = Endpoint(running.uri, "default", server)
            stack.callback(_drop, endpoint)
            return endpoint

        yield database


def _drop(endpoint: Endpoint) -> None:
    with reader.client_of(endpoint) as client:
        for name in client.list_collections():
            if name.endswith(BACK):
                client.drop_collection(name)


def compare(server: str, source: Endpoint, target: Endpoint) -> None:
    """Compare what came back with what is in the source, and with what was written there."""
    with reader.client_of(source) as there, reader.client_of(target) as here:
        for name in every_type.NAMES[server]:
            fields = [c.field for c in every_type.cases(server, name) if not c.field.computed]
            was = every_type.held(there, source, name, fields)
            got = every_type.held(here, target, name + BACK, fields)
            for case in (c for c in every_type.cases(server, name) if not c.field.computed):
                assert got[case.field.name] == was[case.field.name], (name, case.row)
                if case.field.type is not DataType.JSON and not case.field.auto_id:
                    assert got[case.field.name] == every_type.expected(case), (name, case.row)
            if every_type.collection(server, name).partitions:
                assert here.query(
                    name + BACK, filter="n >= 0", partition_names=[PARTITION], output_fields=["count(*)"],
                    consistency_level="Strong",
                )[0]["count(*)"] == 3  # fmt: skip


@pytest.mark.parametrize(("server", "compression"), ways(*COMPRESSIONS))
def test_what_is_exported_is_imported_by_the_spec_beside_it(
    server: str,
    compression: str,
    tmp_path: Path,
    sources: Callable[[str], Endpoint],
    target: Callable[[str], Endpoint],
) -> None:
    source = sources(server)
    exports = {"hdf5": {"path": "exports", "compression": compression}}
    connection = {"uri": source.uri, "database": source.database}
    copy = [{"from": {"milvus": {"at": connection, "collections": list(every_type.NAMES[server])}}}]
    (tmp_path / "vsync.yaml").write_text(json.dumps({"version": 1, "target": exports, "copy": copy}))
    applies.apply(tmp_path)
    applies.assert_no_changes(tmp_path)
    assert applies.vsync(tmp_path, "check", "--full").code == 0

    to = target(server)
    said = yaml.safe_load((tmp_path / "exports" / "import.yaml").read_text("utf-8"))
    said["target"] = {"milvus": {"uri": to.uri, "database": to.database}}
    said["collections"] = {name + BACK: one for name, one in said["collections"].items()}
    for one in said["collections"].values():
        one.pop("aliases", None)
    folder = tmp_path / "exports"
    (folder / "vsync.yaml").write_text(json.dumps(said))
    applies.apply(folder)
    applies.assert_no_changes(folder)
    assert applies.vsync(folder, "check", "--full").code == 0
    compare(server, source, to)


@pytest.mark.parametrize(("server", "backup"), ways("backup"))
def test_what_is_backed_up_is_restored(
    server: str,
    backup: str,
    tmp_path: Path,
    sources: Callable[[str], Endpoint],
    target: Callable[[str], Endpoint],
) -> None:
    source = sources(server)
    done = applies.vsync(tmp_path, backup, "--from", source.uri, "--database", source.database, "repo")
    assert done.code == 0, done.err
    to = target(server)
    restore = ["restore", "repo", "--to", to.uri, "--database", to.database, "--rename", "{collection}" + BACK]
    if server == OLD:  # it does not tell which function computes a field
        restore += ["--accept-loss", f"collection.wide{BACK}.field.bm25"]
    done = applies.vsync(tmp_path, *restore, "--auto-approve")
    assert done.code == 0, done.err
    compare(server, source, to)
    again = applies.vsync(tmp_path, *restore, "--plan")
    assert "No changes" in again.out, again.out + again.err
    (tmp_path / "vsync.yaml").write_text(applies.vsync(tmp_path, *restore, "--show-spec").out)
    checked = applies.vsync(tmp_path, "check", "--full")
    assert checked.code == 0, checked.out + checked.err
