"""Specs and files that change while applies are killed: in the end the target holds what the last spec says.

The journal, the plans and the applies are the real ones; the server is ``model_target``.
"""

from __future__ import annotations

import random
import tempfile
from collections import Counter
from contextlib import suppress
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import stamina
from model_target import Faults, KilledError, Server
from mortal import apply_once

from vsync.planning.choice import Choice
from vsync.spec import parse_spec

WRITES = ["append", "upsert", "overwrite", "mirror"]
SPEC = """
version: 1
target: model.db
defaults: {{chunk_bytes: "240"}}
collections:
  words:
    fields: {{id: {{type: int64, primary: true}}, vector: {{type: float_vector, dim: 2}}, number: {{type: int64}}}}
    write: {write}
    on_collision: {policy}
    partitions: [{partitions}]
    data: [{data}]
"""
ALLOWED = Choice(allow_destroy=("collection.words",))
Files = dict[str, dict[int, int]]
Rows = dict[int, tuple[str, int]]


def new_file(chance: random.Random, folder: Path, files: Files, name: str) -> None:
    """Write some rows, all with one number, in the place of what was there."""
    number = 1 + max((n for rows in files.values() for n in rows.values()), default=0)
    first = chance.randrange(60)
    end = first + chance.randrange(1, 40)
    keys = np.array(chance.sample(range(first, end), end - first))
    vectors = pa.FixedSizeListArray.from_arrays(np.repeat(keys, 2).astype(np.float32), 2)
    rows = pa.table({"id": keys, "vector": vectors, "number": np.full(len(keys), number)})
    pq.write_table(rows, folder / name, row_group_size=5)
    files[name] = dict.fromkeys(keys.tolist(), number)  # not a vector: keys


def said(chance: random.Random, files: Files, write: str, partitions: list[str]) -> tuple[str, Rows]:
    """Make up a spec; gives what its data comes to, too: the partition and the number of each key."""
    names, policy = chance.sample(sorted(files), chance.randrange(1, 3)), chance.choice(["first", "last"])
    into = {name: chance.choice(["_default", *partitions]) for name in names}
    data = ", ".join(f"{{from: {name}, into: {into[name]}}}" for name in names)
    text = SPEC.format(write=write, policy=policy, data=data, partitions=", ".join(partitions))
    limit = "max_delete: 100%\n    on_collision" if write == "mirror" else "on_collision"
    wanted: Rows = {}
    for name in names if policy == "last" else reversed(names):
        wanted |= {key: (into[name], number) for key, number in files[name].items()}
    return text.replace("on_collision", limit), wanted


@pytest.mark.parametrize("last", WRITES)
@pytest.mark.parametrize("seed", range(25))
@pytest.mark.parametrize("partitions", [[], ["p"]], ids=["one partition", "two partitions"])
def test_whatever_was_stopped_before_the_last_spec_is_carried_out(last: str, seed: int, partitions: list[str]) -> None:
    chance, files, server = random.Random(f"{last} {seed}"), Files(), Server()
    with tempfile.TemporaryDirectory() as place, stamina.set_testing(testing=True, attempts=2, cap=True):
        folder = Path(place)
        for name in ("a.parquet", "b.parquet", "c.parquet"):
            new_file(chance, folder, files, name)
        for _ in range(chance.randrange(2, 6)):
            if chance.random() < 0.5:
                new_file(chance, folder, files, chance.choice(sorted(files)))
            text, _ = said(chance, files, chance.choice(WRITES), partitions)
            kills = {chance.randrange(120)} if chance.random() < 0.6 else set()
            with suppress(KilledError, AssertionError):  # a conflict, of what is not loaded
                apply_once(
                    parse_spec(text, folder=folder, environ={}), server, folder / "s.db", Faults(kills=kills), ALLOWED
                )
        text, wanted = said(chance, files, last, partitions)
        try:
            apply_once(parse_spec(text, folder=folder, environ={}), server, folder / "s.db", Faults(), ALLOWED)
        except AssertionError as conflict:
            assert "is not loaded" in str(conflict)  # noqa: PT017
            return
    rows = [(row[0], part, row[2]) for part, those in server.tables["words"].rows.items() for row in those]
    held = {key: (part, number) for key, part, number in rows}
    assert max(Counter(key for key, _, _ in rows).values(), default=1) == 1
    if last in {"overwrite", "mirror"}:  # of the partitions that the data goes to
        destinations = {part for part, _ in wanted.values()}
        assert {key: found for key, found in held.items() if found[0] in destinations} == wanted
    elif last == "upsert":
        assert held | wanted == held
    else:
        assert held.keys() >= wanted.keys()
