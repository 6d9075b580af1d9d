"""``vsync state list, show, mv, rm`` and ``doctor`` as people use them; what they change the journal sees."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

import applies
import pytest
from journals import CHUNKS, TO, UNIT, finished, wrong

from vsync.planning.facts import Owed
from vsync.planning.steps import content_key, unit_key
from vsync.state.file import backup_of
from vsync.state.journal import Journal, Outcome
from vsync.state.migrations import FORMAT
from vsync.state.view import View

if TYPE_CHECKING:
    from pathlib import Path

OTHER = replace(TO, address="collection.words.partition.rare", partition="rare", write="overwrite", before=0)
RARE = replace(
    UNIT,
    key=unit_key(OTHER.address, {"id": "ids"}, "c2"),
    content="c2",
    address="collection.words.data.rare",
    destination=OTHER.address,
    path="rare.h5",
)
OWN = Outcome(read=10, written=10, there=0, rejected=0, dropped=0, digest="d")


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """Give a state of a collection, one of its partitions, and another collection whose name begins so."""
    path = tmp_path / ".vsync" / "vsync.db"
    finished(path)
    with closing(Journal(path)) as journal:
        for to, unit in (
            (replace(OTHER, content=content_key([RARE.key, f"{RARE.key}-2"])), RARE),
            (None, replace(RARE, key=f"{RARE.key}-2", path="rare2.h5")),
            (replace(TO, address="collection.words2", collection="words2", before=0), None),
        ):
            if to is not None:
                journal.begin_session("t", to, "id-1", to.before)
            if unit is not None:
                journal.enter_unit("t", unit, 1, CHUNKS)
                for n in range(3):
                    journal.sent("t", unit.key, 1, n, session=1, there_mask=None)
                    journal.acked("t", unit.key, 1, n, OWN, [(1, "word", "'x'", "too long", None)])
        journal.end_session("t", OTHER, 60)
        journal.creating("t", "collection.words2")
        journal.owe("t", [Owed("load", "words", "words"), Owed("alias", "lexicon", "words")])
        journal.saw("t", [UNIT])
        journal.checked("t", "collection.words", "keys")
        journal.backup()
    return path


def addresses(path: Path) -> list[str]:
    done = applies.vsync(path.parents[1], "state", "list", "--json")
    return [one["address"] for one in done.of("state_item")]


def test_everything_is_listed_by_its_address(state: Path) -> None:
    folder = state.parents[1]
    done = applies.vsync(folder, "state", "list")
    lines = done.out.splitlines()
    assert lines[0] == "Target t"
    assert "made by vsync" not in lines[1]
    assert "not finished making it" in lines[1]
    assert "29 rows left   3 / 3 chunks   session 1, epoch 1   applied 20" in lines[1]
    assert "keys checked 20" in lines[1]
    assert "never checked" in lines[4]
    items = {one["address"]: one for one in applies.vsync(folder, "state", "list", "--json").of("state_item")}
    assert list(items) == [
        "collection.words",
        "collection.words.data.0",
        "collection.words.data.rare",
        "collection.words.partition.rare",
        "collection.words2",
    ]
    assert (items["collection.words"]["rows"], items["collection.words"]["checked_how"]) == (29, "keys")
    assert (items["collection.words.data.rare"]["rows"], items["collection.words.data.rare"]["chunks"]) == (60, 6)
    assert items["collection.words2"]["applied"] is None


def test_all_that_is_known_at_an_address_is_shown(state: Path) -> None:
    folder = state.parents[1]
    out = applies.vsync(folder, "state", "show", "collection.words").out
    assert "the collection's identity is id-1" in out
    assert "session 1 (epoch 1, append): begun 20" in out
    assert "held 5 before, 29 after; keys checked" in out
    assert "a.h5   30 rows   content c1   key key" in out
    assert "3 / 3 chunks done   3 attempts   3 digests   6 ranges of keys" in out
    rare = applies.vsync(folder, "state", "show", "collection.words.data.rare", "--json").said[-1]
    assert [f["rejects"] for f in rare["files"]] == [1, 1]
    assert rare["held"]["done"] == 6
    with closing(Journal(state)) as journal:
        journal.sent("t", RARE.key, 1, 1, session=1, there_mask=None)
        journal.failed("t", RARE.key, 1, 1, "no answer, twice")
    out = applies.vsync(folder, "state", "show", "collection.words.partition.rare").out
    assert "2 / 3 chunks done, 1 in doubt   4 attempts" in out
    assert "chunk 1, rows 10-19: in doubt after 2 attempts: no answer, twice" in out
    done = applies.vsync(folder, "state", "show", "collection.wrods")
    assert done.code == 64
    assert "did you mean collection.words?" in done.err


def test_of_several_targets_one_is_chosen(state: Path) -> None:
    folder = state.parents[1]
    with closing(Journal(state)) as journal:
        journal.creating("http://host:19530/default", "collection.words")
        journal.creating("http://other:19530/default", "collection.words")
    assert applies.vsync(folder, "state", "list", "--json").said[-1]["targets"] == [
        "t",
        "http://host:19530/default",
        "http://other:19530/default",
    ]
    done = applies.vsync(folder, "state", "rm", "collection.words", "--yes")
    assert done.code == 64
    assert "knows several targets: t, http://host:19530/default" in done.err
    assert "--target" in done.err
    assert applies.vsync(folder, "state", "rm", "collection.words", "--yes", "--target", "nobody").code == 64
    assert applies.vsync(folder, "state", "rm", "collection.words", "--yes", "--target", "host").code == 0
    with closing(View(state)) as view:
        assert view.facts("http://host:19530/default").collections == {}
        assert view.facts("http://other:19530/default").collections == {"collection.words": False}
        assert view.facts("t").sessions
    assert applies.vsync(folder, "state", "show", "collection.words", "--target", "t").code == 0


def test_a_collection_that_was_renamed_keeps_what_is_done(state: Path) -> None:
    with closing(View(state)) as view:
        was = view.facts("t")
    done = applies.vsync(state.parents[1], "state", "mv", "collection.words", "collection.terms")
    assert done.code == 0, done
    assert "collection.words is known as collection.terms now (4 records)" in done.out
    with closing(View(state)) as view:
        now = view.facts("t")
        assert view.key_ranges("t", "terms") == [(3, 5), (9, 9)] * 3
        assert {r["address"] for r in view.rejects("t")} == {"collection.terms.data.rare"}
    key = unit_key("collection.terms", UNIT.origins, UNIT.content)
    rare = unit_key("collection.terms.partition.rare", RARE.origins, RARE.content)
    assert now.acked == {k: frozenset({0, 1, 2}) for k in (key, rare, f"{rare}-2")}
    assert now.collections == {"collection.terms": False, "collection.words2": False}
    assert now.owed == {Owed("load", "terms", "terms"), Owed("alias", "lexicon", "terms")}
    assert set(now.sessions) == {"collection.terms", "collection.terms.partition.rare", "collection.words2"}
    assert now.sessions["collection.terms"] == was.sessions["collection.words"]
    assert now.sessions["collection.terms.partition.rare"].content == content_key([rare, f"{rare}-2"])
    assert now.files[("collection.terms.data.0", "a.h5")] == was.files[("collection.words.data.0", "a.h5")]
    assert not wrong(state)

    assert applies.vsync(state.parents[1], "state", "mv", "collection.terms", "collection.words").code == 0
    with closing(View(state)) as view:
        again = view.facts("t")
    assert (again.sessions["collection.words.partition.rare"], again.owed) == (
        was.sessions["collection.words.partition.rare"],
        was.owed,
    ), "there and back"


def test_a_data_item_that_was_renamed(state: Path) -> None:
    with closing(View(state)) as view:
        was = view.facts("t")
    old, new = "collection.words.data.0", "collection.words.data.main"
    assert applies.vsync(state.parents[1], "state", "mv", old, new).code == 0
    with closing(View(state)) as view:
        now = view.facts("t")
    assert (now.acked, now.sessions) == (was.acked, was.sessions)
    assert now.files == {(new if a == old else a, path): facts for (a, path), facts in was.files.items()}


@pytest.mark.parametrize(
    ("old", "new", "code", "said"),
    [
        ("collection.words", "collection.words2", 12, "the state knows collection.words2 already"),
        ("collection.words.data.0", "collection.words.data.rare", 12, "knows collection.words.data.rare already"),
        ("collection.nothing", "collection.a", 64, "the state knows nothing of collection.nothing"),
        ("collection.words", "collection.a.data.0", 64, "write collection.NAME"),
        ("collection.words.data.0", "collection.a.data.0", 64, "write collection.words.data.NAME"),
        ("collection.words", "words", 64, "words is no address"),
    ],
)
def test_what_cannot_be_renamed(state: Path, old: str, new: str, code: int, said: str) -> None:
    with closing(View(state)) as view:
        was = view.facts("t")
    done = applies.vsync(state.parents[1], "state", "mv", old, new)
    assert done.code == code, done
    assert said in done.err
    with closing(View(state)) as view:
        assert view.facts("t") == was


def test_keys_that_cannot_be_made_anew_are_told(state: Path) -> None:
    with closing(Journal(state)) as journal, journal.changing("test"):
        journal.change("UPDATE units SET origins = NULL")
    done = applies.vsync(state.parents[1], "state", "mv", "collection.words", "collection.terms")
    assert done.code == 12
    assert "was last applied by an older vsync" in done.err
    assert "collection.words" in addresses(state), "nothing was moved in part"


def test_a_collection_is_forgotten_with_all_below_it_and_comes_back(state: Path) -> None:
    folder = state.parents[1]
    refused = applies.vsync(folder, "state", "rm", "collection.words")
    assert refused.code == 12
    assert "add --yes" in refused.err
    before = addresses(state)
    assert applies.vsync(folder, "state", "rm", "collection.words", "--auto-approve").code == 0
    assert addresses(state) == ["collection.words2"]
    with closing(View(state)) as view:
        for table in ("units", "chunks", "rejects", "owed"):
            assert view.query(f"SELECT count(*) FROM {table}") == [(0,)]  # noqa: S608 - names of ours
    assert not wrong(state)
    done = applies.vsync(folder, "state", "doctor", "--restore", "--yes")
    assert done.code == 0
    assert addresses(state) == before


def test_of_a_data_item_that_is_forgotten_the_next_session_counts_anew(state: Path) -> None:
    folder = state.parents[1]
    assert applies.vsync(folder, "state", "rm", "collection.words.data.rare", "--yes").code == 0
    with closing(View(state)) as view:
        facts = view.facts("t")
    assert set(facts.acked) == {"key"}
    assert facts.sessions[OTHER.address].partial
    assert facts.sessions[OTHER.address].content == "", "an overwritten destination is overwritten again"
    assert not facts.sessions["collection.words"].partial


def test_what_could_double_is_not_forgotten(state: Path) -> None:
    folder = state.parents[1]
    done = applies.vsync(folder, "state", "rm", "collection.words.data.0", "--yes")
    assert done.code == 12
    assert "made by the server (auto_id)" in done.err
    with closing(Journal(state)) as journal:
        journal.sent("t", RARE.key, 1, 0, session=1, there_mask=None)
    done = applies.vsync(folder, "state", "rm", "collection.words.data.rare", "--yes")
    assert done.code == 12
    assert "collection.words.data.rare has chunks in doubt (1)" in done.err
    assert "vsync state rm collection.words" in done.err
    assert len(addresses(state)) == 5


def test_a_backup_is_kept_before_anything_is_changed(state: Path) -> None:
    with closing(Journal(state)) as journal:
        journal.failed("t", "key", 1, 0, "seen by the backup")
    applies.vsync(state.parents[1], "state", "mv", "collection.words2", "collection.words3")
    with closing(View(backup_of(state))) as view:
        assert view.query("SELECT DISTINCT error FROM chunks WHERE error IS NOT NULL") == [("seen by the backup",)]
        assert "collection.words2" in view.facts("t").sessions


def test_the_doctor_says_what_it_looked_at(state: Path) -> None:
    folder = state.parents[1]
    done = applies.vsync(folder, "state", "doctor")
    assert done.code == 0
    assert "the lock is free" in done.out
    assert f"the file is whole, of format {FORMAT}" in done.out
    assert "is whole; chunks done in it: 9" in done.out
    refused = applies.vsync(folder, "state", "doctor", "--restore")
    assert refused.code == 12, "nothing is wrong, and nobody can be asked"

    with closing(Journal(state)) as journal:
        run = journal.begin_run("t", "plan")
        cut_off = f"run {run} was cut off after"
        done = applies.vsync(folder, "state", "doctor", "--json")
        assert any(cut_off in one["what"] for one in done.of("finding")), "whoever holds it open holds no lock"
    state.write_bytes(state.read_bytes()[:-100])
    done = applies.vsync(folder, "state", "doctor", "--json")
    assert done.code == 1
    assert "is cut short" in done.problems
    assert "doctor --restore" in done.problems
    done = applies.vsync(folder, "state", "doctor")
    assert (done.code, done.err) == (1, ""), "it was said already"
    done = applies.vsync(folder, "state", "doctor", "--restore")
    assert done.code == 0, "something is wrong: it is not asked about"
    assert "vsync.db.damaged-1" in done.out
    assert applies.vsync(folder, "state", "doctor").code == 0


@pytest.mark.parametrize("words", [["list"], ["show", "collection.a"], ["mv", "a", "b"], ["rm", "a", "--yes"]])
def test_where_there_is_no_state(tmp_path: Path, words: list[str]) -> None:
    done = applies.vsync(tmp_path, "state", *words)
    assert done.code == 1
    assert "there is no state at" in done.err
    assert not list(tmp_path.iterdir())
    assert applies.vsync(tmp_path, "state", "doctor").code == 0


def test_a_state_is_named_by_its_spec_or_its_place(state: Path) -> None:
    folder = state.parents[1]
    assert applies.vsync(folder, "state", "show", "collection.words", "vsync.yaml").code == 0
    assert applies.vsync(folder, "state", "list", "other.yaml").code == 1
    assert applies.vsync(folder, "state", "list", "--state", str(state)).code == 0
    done = applies.vsync(folder, "state", "lst")
    assert done.code == 64
    assert "Did you mean list?" in done.err
