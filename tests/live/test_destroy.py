"""``vsync destroy``: what vsync made goes where that is allowed, and nothing else does; killed, it goes on."""

from __future__ import annotations

import os
import signal
import subprocess
from typing import TYPE_CHECKING

import applies
import glove
import pytest
import reader

import vsync
from vsync.errors import ConflictError

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Endpoint

SPEC = """
version: 1
target: {milvus: {uri: URI, database: DATABASE}}
collections:
  words: {from: {hdf5: words.h5}, aliases: [lexicon]}
  notes: {fields: {id: {type: int64, primary: true}, vector: {type: float_vector, dim: 4}}}
  theirs: {fields: {id: {type: int64, primary: true}, vector: {type: float_vector, dim: 4}}}
"""


@pytest.fixture
def made(tmp_path: Path, target: Endpoint) -> Endpoint:
    """Two collections that vsync made, and one of somebody else's, all in the spec."""
    with reader.client_of(target) as client:
        client.create_collection("theirs", dimension=4)
    glove.write_hdf5(tmp_path / "words.h5", glove.rows(0, 200))
    alias = f"lexicon_{target.database}"
    text = SPEC.replace("URI", target.uri).replace("DATABASE", target.database).replace("lexicon", alias)
    (tmp_path / "vsync.yaml").write_text(text)
    applies.apply(tmp_path)
    return target


def destroy(folder: Path, *names: str, code: int = 0, auto: bool = True) -> applies.Done:
    allowed = [word for name in names for word in ("--allow-destroy", f"collection.{name}")]
    done = applies.vsync(folder, "destroy", *allowed, *(["--auto-approve"] if auto else []))
    assert done.code == code, done
    return done


def test_what_vsync_made_goes_and_nothing_else(tmp_path: Path, made: Endpoint) -> None:
    refused = destroy(tmp_path, code=12).err
    assert "collection.words would be dropped, with 200 rows" in refused
    assert "--allow-destroy collection.notes" in refused
    assert "theirs" not in refused
    assert "no terminal" in destroy(tmp_path, "words", code=12, auto=False).err
    assert "did you mean collection.words" in destroy(tmp_path, "word", code=64).err
    with reader.client_of(made) as client:
        assert sorted(client.list_collections()) == ["notes", "theirs", "words"], "nothing was dropped yet"
    done = destroy(tmp_path, "words", "theirs").out
    assert "Destroyed: 1 collection." in done
    assert "- alias lexicon" in done
    assert "? collection.theirs" in done, "it is not vsync's, whatever is allowed"
    with reader.client_of(made) as client:
        assert sorted(client.list_collections()) == ["notes", "theirs"]
    assert "There is nothing to destroy." in destroy(tmp_path, "words").out
    assert "copy 200 rows" in applies.plan(tmp_path, code=2), "the state has forgotten it"
    applies.apply(tmp_path)
    applies.assert_no_changes(tmp_path)


def test_what_the_spec_no_longer_names_can_go(tmp_path: Path, made: Endpoint) -> None:
    spec = tmp_path / "vsync.yaml"
    spec.write_text("\n".join(line for line in spec.read_text().splitlines() if "words" not in line))
    assert "vsync destroy --allow-destroy collection.words drops it" in applies.plan(tmp_path)
    destroy(tmp_path, "words")
    with reader.client_of(made) as client:
        assert sorted(client.list_collections()) == ["notes", "theirs"]
    assert "collection.words" not in applies.plan(tmp_path)


@pytest.mark.parametrize("target", ["lite-server", pytest.param("milvus-2.3.5", marks=pytest.mark.slow)], indirect=True)
@pytest.mark.parametrize("point", ["request.DropCollection.before", "request.DropCollection.after", "journal.rm.after"])
def test_a_killed_one_goes_on(tmp_path: Path, made: Endpoint, point: str) -> None:
    words = ["destroy", "--auto-approve", "--allow-destroy", "collection.words", "--allow-destroy", "collection.notes"]
    environ = {**os.environ, "VSYNC_FAULT": f"{point}:1"}
    killed = subprocess.run(
        applies.command(words), cwd=tmp_path, env=environ, capture_output=True, timeout=applies.SECONDS, check=False
    )
    assert killed.returncode == -signal.SIGKILL, killed
    destroy(tmp_path, "words", "notes")
    with reader.client_of(made) as client:
        assert client.list_collections() == ["theirs"]
    assert applies.vsync(tmp_path, "state", "list").out.count("collection.") == 0


def test_one_that_another_made_under_its_name_is_left(tmp_path: Path, made: Endpoint) -> None:
    with reader.client_of(made) as client:
        client.drop_collection("notes")
        client.create_collection("notes", dimension=4)
        assert "? collection.notes" in destroy(tmp_path, "words", "notes").out
        assert sorted(client.list_collections()) == ["notes", "theirs"]


def test_it_is_asked_for_as_a_function(tmp_path: Path, made: Endpoint) -> None:
    spec = vsync.load_spec(tmp_path / "vsync.yaml")
    choice = vsync.Choice(allow_destroy=("collection.words",))
    with pytest.raises(ConflictError, match="not agreed"):
        vsync.destroy(spec, choice=choice, confirm=lambda _plan: False)
    assert [step.kind for step in vsync.destroy(spec, choice=choice).steps] == ["drop-collection"]
    with reader.client_of(made) as client:
        assert not client.has_collection("words")


def test_files_are_not_removed(tmp_path: Path) -> None:
    (tmp_path / "vsync.yaml").write_text("version: 1\ntarget: {hdf5: out}\ncollections: {a: {from: a.h5}}\n")
    done = destroy(tmp_path, code=64)
    assert "vsync.yaml:2:1" in done.err
    assert "remove the folder" in done.err
