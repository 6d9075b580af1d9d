"""Rows of a collection that do not fit, and are skipped: on record, and not pending again until they fit."""

from __future__ import annotations

import applies
import glove
import reader
from conftest import QUICK_ON_LITE
from milvus_sources import Ends, make

ROWS = glove.rows(2_000, 2_400)
MOST = 6
LONG = [n for n, word in enumerate(ROWS.words) if len(word.encode()) > MOST]
SHORT = [n for n in range(len(ROWS.ids)) if n not in LONG]
SPEC = """
collections:
  short:
    fields:
      id: {type: int64, primary: true}
      vector: {type: float_vector, dim: 50}
      word: {type: varchar, max_length: 6}
    on_bad_row: WHAT
    data: [{from: {milvus: {at: old, collection: words}}}]
"""


@QUICK_ON_LITE
def test_rows_on_record_as_not_fitting_are_pending_only_when_they_fit(ends: Ends) -> None:
    assert len(LONG) > 20
    with ends.old() as client:
        make(client, "words", {"_default": ROWS})
    ends.spec(SPEC.replace("WHAT", "skip"))
    done = applies.apply(ends.folder, code=3)
    assert done.balance("collection.short")["rejected"] == len(LONG)
    said = applies.plan(ends.folder)
    assert "No changes." in said
    assert f"{len(LONG)} rows that do not fit are on record" in said

    mended, new = ROWS[LONG[0] : LONG[0] + 1], glove.rows(10, 12)
    with ends.old() as client:
        client.upsert("words", [{"id": int(mended.ids[0]), "vector": mended.vectors[0], "word": "fits"}])
        client.upsert("words", [{"id": int(ROWS.ids[LONG[1]]), "vector": mended.vectors[0], "word": "no better"}])
        client.delete("words", ids=ROWS.ids[LONG[2:4]].tolist())
        reader.insert(client, "words", new)
    done = applies.apply(ends.folder)
    assert done.balance("collection.short")["written"] == 1 + len(new.ids)
    with ends.new() as client:
        client.load_collection("short")
        assert reader.count(client, "short") == len(SHORT) + 1 + len(new.ids)
    said = applies.plan(ends.folder)
    assert "No changes." in said
    assert f"{len(LONG) - 3} rows that do not fit are on record" in said

    ends.spec(SPEC.replace("WHAT", "error"))
    assert "No changes." not in applies.plan(ends.folder, code=2), "from here on they must fit"


@QUICK_ON_LITE
def test_where_no_row_fits_the_next_plan_has_no_changes_either(ends: Ends) -> None:
    with ends.old() as client:
        make(client, "words", {"_default": glove.Rows(ROWS.ids[:3], ROWS.vectors[:3], ["much too long"] * 3)})
    ends.spec(SPEC.replace("WHAT", "skip"))
    applies.apply(ends.folder, code=3)
    said = applies.plan(ends.folder)
    assert "No changes." in said
    assert "3 rows that do not fit are on record" in said
