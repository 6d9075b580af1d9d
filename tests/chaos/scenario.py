"""The scenarios of the chaos suite: what is there before, a spec and its files, and what must be there in the end.

The expectation is worked out here from the rows alone, by nothing of vsync's.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import glove
import numpy as np
import reader
import yaml

if TYPE_CHECKING:
    import random
    from pathlib import Path

    from conftest import Endpoint
    from pymilvus import MilvusClient

NAME, NEIGHBOUR = "words", "neighbour"
DEFAULT = "_default"
PARTITIONS = ("common", "rare", "quiet")
"""No data goes into ``quiet``: it is there for rows of others."""

LONGEST_WORD = 64
FLUSHED_SHARE = 0.3
CHUNK_BYTES = 12 << 10
_WRITERS = {
    "hdf5": ("h5", glove.write_hdf5),
    "faiss": ("index", glove.write_faiss),
    "parquet": ("parquet", glove.write_parquet),
    "numpy": ("npy", glove.write_numpy),
}
WORDY = ("hdf5", "parquet")
"""The kinds that bring words; the others bring vectors alone, or with ids."""
Content = dict[Any, tuple[bytes, str]]
"""Rows by what tells them apart: the bytes of the vector, and the word."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What kind of scenario it is.

    ``before``: nothing, or rows of ``others``: in all partitions, or in the default one ``alone``. Their collection may
    have another index (``reindexed``), other fields (``replaced``), or lack properties (``properties``). ``bad``: rows
    that do not fit are skipped (``skip``), or first are an error that the user then mends (``refused``). ``alias``:
    ``new``, or it ``moves`` from another collection. ``source``: files, or collections of a ``milvus``.
    """

    key: str
    write: str
    before: str = ""
    bad: str = ""
    alias: str = "new"
    load: bool = True
    source: str = ""

    def __str__(self) -> str:
        more = [
            self.before,
            f"from {self.source}" if self.source else "",
            f"bad rows {self.bad}" if self.bad else "",
            "" if self.load else "not loaded",
        ]
        return " ".join(filter(None, [self.key, self.write, *more, "alias moves" if self.alias == "moves" else ""]))


SHAPES = (
    Shape("int64", "append"),
    Shape("int64", "append", "others"),
    Shape("int64", "append", "reindexed"),
    Shape("int64", "append", bad="skip", alias="moves"),
    Shape("int64", "append", bad="refused"),
    Shape("int64", "append", load=False),
    Shape("int64", "upsert"),
    Shape("int64", "upsert", "others"),
    Shape("int64", "upsert", "properties", bad="skip"),
    Shape("int64", "overwrite", "others"),
    Shape("int64", "overwrite", "alone"),
    Shape("int64", "overwrite", "replaced", alias="moves"),
    Shape("int64", "skip"),
    Shape("int64", "skip", "others"),
    Shape("varchar", "append", bad="skip"),
    Shape("varchar", "append", "others"),
    Shape("varchar", "upsert", "others"),
    Shape("varchar", "upsert", "reindexed", bad="skip"),
    Shape("varchar", "overwrite", "others"),
    Shape("varchar", "skip", "others"),
    Shape("auto_id", "append"),
    Shape("auto_id", "append", bad="skip"),
    Shape("auto_id", "append", "replaced", bad="refused"),
    Shape("auto_id", "overwrite", "others"),
    Shape("int64", "append", source="milvus"),
    Shape("int64", "append", "others", source="milvus"),
    Shape("varchar", "append", "others", source="milvus"),
    Shape("auto_id", "append", source="milvus"),
    Shape("int64", "upsert", source="milvus"),
    Shape("int64", "overwrite", "others", source="milvus"),
)


@dataclass(frozen=True, slots=True)
class Item:
    """One item of data: a file with all its rows, the partition that they go into, the numbers of the bad ones."""

    kind: str
    path: str
    into: str
    rows: glove.Rows
    bad: tuple[int, ...]

    @property
    def fit(self) -> glove.Rows:
        """The rows without the bad ones."""
        kept = np.setdiff1d(np.arange(len(self.rows.ids)), self.bad)
        return glove.Rows(self.rows.ids[kept], self.rows.vectors[kept], [self.rows.words[i] for i in kept])

    def write(self, folder: Path) -> None:
        """Write the file; the words of bad rows are longer than the field."""
        if self.kind == "milvus":
            return
        words = [w * LONGEST_WORD if i in self.bad else w for i, w in enumerate(self.rows.words)]
        _WRITERS[self.kind][1](folder / self.path, glove.Rows(self.rows.ids, self.rows.vectors, words))


@dataclass(slots=True)
class Scenario:
    """One scenario, made of its shape and of chance."""

    shape: Shape
    folder: Path
    target: Endpoint
    items: list[Item]
    before: dict[str, glove.Rows] = field(default_factory=dict)
    flushed: bool = False
    """Whether the server had written to its files what was there before."""

    @property
    def source(self) -> Endpoint:
        """Where collections lie that are copied: in another database, or another folder."""
        if self.target.kind == "lite" and "://" not in self.target.uri:
            return self.target._replace(uri=str(self.folder / "source.db"), database="default")
        return self.target._replace(database=f"{self.target.database}_source")

    @property
    def partitions(self) -> tuple[str, ...]:
        return PARTITIONS if self.target.database else ()

    @property
    def alias(self) -> str:
        """The alias of the collection; the server without databases has no aliases either, and no partitions."""
        return f"alias_of_{self.target.database}" if self.target.database else ""

    @property
    def told_apart_by(self) -> str:
        """The field that tells rows apart; with keys of the server's making it is not the key."""
        return "word" if self.shape.key == "varchar" else "id"

    @property
    def words(self) -> list[str]:
        """The arguments of apply beside the usual ones."""
        if self.shape.write != "overwrite" and self.shape.before != "replaced":
            return []
        places = [f"collection.{NAME}", *(f"collection.{NAME}.partition.{p}" for p in PARTITIONS)]
        return [word for place in places for word in ("--allow-destroy", place)]

    @property
    def rejects(self) -> set[tuple[str, int]]:
        return {(item.path, row) for item in self.items for row in item.bad}

    def __str__(self) -> str:
        return f"{self.shape}, {'+'.join(f'{i.kind}>{i.into}' for i in self.items)}"

    def expected(self) -> dict[str, Content]:
        """Work out what each partition must hold in the end."""
        before = {} if self.shape.before == "replaced" else self.before
        there = {p: self._content(before[p]) if p in before else {} for p in (DEFAULT, *self.partitions)}
        taken = {key for rows in there.values() for key in rows}
        held = {p for p, rows in there.items() if rows}
        if self.shape.write == "overwrite":
            there |= {item.into: {} for item in self.items}
        for item in self.items:
            for key, row in self._content(item.fit).items():
                if self.shape.write == "upsert":
                    for rows in there.values():
                        rows.pop(key, None)
                kept = key in taken or (self.shape.write == "skip" and item.into in held)
                if not kept or self.shape.write in {"upsert", "overwrite"}:
                    there[item.into][key] = row
        return there

    def written(self, path: str, lo: int, hi: int) -> list[Any]:
        """Give the keys of those rows of a file that were not there before, and that fit."""
        item = next(item for item in self.items if item.path == path)
        before = {key for rows in self.before.values() for key in self._content(rows)}
        if self.shape.before == "replaced" or self.shape.write == "overwrite":
            before = set()
        if item.kind == "milvus":  # what is there already is not in its chunks
            return [key for key in self._content(item.rows) if key not in before][lo:hi]
        part = item.rows[lo:hi]
        return [key for key in self._content(part) if key not in before and key in self._content(item.fit)]

    def _content(self, rows: glove.Rows) -> Content:
        return rows.by_word() if self.shape.key == "varchar" else rows.by_id()

    def spec(self, *, mended: bool) -> str:
        """Write the spec; ``mended`` by the user after the first one was refused."""
        connection = {"uri": self.target.uri}
        if self.target.database:
            connection["database"] = self.target.database
        collection: dict[str, Any] = {
            "fields": self._fields(),
            "partitions": list(self.partitions),
            "indexes": {"vector": {"type": "FLAT", "metric": "L2"}},
            "write": self.shape.write,
            "on_bad_row": "error" if self.shape.bad == "refused" and not mended else "skip",
            "data": [self._data(n, item) for n, item in enumerate(self.items)],
        }
        if not self.shape.load:
            collection["load"] = False
        if self.alias:
            collection["aliases"] = [self.alias]
        if self.shape.before == "properties":
            collection["properties"] = {"collection.ttl.seconds": 10**7}
        collections = {NAME: collection}
        if self.shape.alias == "moves":
            collections[NEIGHBOUR] = {"fields": self._fields()}
        spec = {"version": 1, "target": {"milvus": connection}, "defaults": {"chunk_bytes": CHUNK_BYTES}}
        if self.shape.source:
            at = {"uri": self.source.uri, "database": self.source.database}
            spec["connections"] = {"old": {key: value for key, value in at.items() if value}}
        return yaml.safe_dump(spec | {"collections": collections}, sort_keys=False)

    def _fields(self) -> dict[str, Any]:
        key = self.shape.key
        fields: dict[str, Any] = (
            {"key": {"type": "int64", "primary": True, "auto_id": True}} if key == "auto_id" else {}
        )
        if key != "varchar":
            fields["id"] = {"type": "int64", **({"primary": True} if key == "int64" else {})}
        fields["vector"] = {"type": "float_vector", "dim": glove.DIM}
        primary = {"primary": True} if key == "varchar" else {}
        return fields | {"word": {"type": "varchar", "max_length": LONGEST_WORD, **primary}}

    def _data(self, n: int, item: Item) -> dict[str, Any]:
        columns: dict[str, Any] = {"id": "ids", "vector": "vectors", "word": "words"}
        if item.kind == "milvus":
            columns = {name: name for name in columns}
        if item.kind in {"faiss", "numpy"}:
            columns["word"] = {"const": f"from {item.kind}"}
        if item.kind == "numpy":
            columns |= {"id": "$row", "vector": "array"}
        if self.shape.key == "varchar":
            del columns["id"]
        into = {} if item.into == DEFAULT else {"into": item.into}
        where: Any = item.path
        if item.kind == "milvus":
            # A server that was killed may forget what it had loaded.
            where = {"milvus": {"at": "old", "collection": f"item{n}", "load_source": True}}
        return {"name": f"item{n}", "from": where, "map": columns, **into}

    def write_files(self) -> None:
        """Write the files that the spec names, and the spec."""
        for item in self.items:
            item.write(self.folder)
        if self.shape.source:
            self._write_source()
        self.write_spec(mended=False)

    def _write_source(self) -> None:
        """Make the collections that are copied."""
        if self.source.uri == self.target.uri:
            with reader.client_of(self.source._replace(database="")) as client:
                client.create_database(self.source.database)
        with reader.client_of(self.source) as client:
            for n, item in enumerate(self.items):
                key = "varchar" if self.shape.key == "varchar" else "int64"
                self._make_collection(client, f"item{n}", key=key, plain=True)
                self._insert(client, item.rows, DEFAULT, into=f"item{n}", plain=True)

    def write_spec(self, *, mended: bool) -> None:
        (self.folder / "vsync.yaml").write_text(self.spec(mended=mended))

    def write_before(self) -> None:
        """Make what is there before, by another program. Where nothing is, vsync makes even the database."""
        alias_there = self.shape.alias == "moves" or self.shape.before == "replaced"
        if not (self.shape.before or alias_there):
            return
        if self.target.database:
            with reader.client_of(self.target._replace(database="")) as client:
                client.create_database(self.target.database)
        with reader.client_of(self.target) as client:
            if self.shape.before:
                self._make_collection(client, NAME)
                for partition in self.partitions:
                    client.create_partition(NAME, partition)
                for partition, rows in self.before.items():
                    self._insert(client, rows, partition)
                if self.flushed:
                    client.flush(NAME)
            if self.shape.alias == "moves":
                self._make_collection(client, NEIGHBOUR)
            if self.alias and alias_there:
                client.create_alias(NEIGHBOUR if self.shape.alias == "moves" else NAME, self.alias)

    def _make_collection(self, client: MilvusClient, name: str, *, key: str = "", plain: bool = False) -> None:
        from pymilvus import DataType

        key, dim = key or self.shape.key, glove.DIM
        schema = client.create_schema(enable_dynamic_field=False)
        if key == "auto_id":
            schema.add_field("key", DataType.INT64, is_primary=True, auto_id=True)
        if key != "varchar":
            schema.add_field("id", DataType.INT64, is_primary=key == "int64")
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=dim)
        schema.add_field("word", DataType.VARCHAR, is_primary=key == "varchar", max_length=LONGEST_WORD)
        if self.shape.before == "replaced" and name == NAME:
            schema.add_field("forgotten", DataType.INT16)
        index = client.prepare_index_params()
        # Milvus Lite 2.5 has no HNSW.
        other = ("HNSW", {"M": 8, "efConstruction": 16}) if self.target.database else ("IVF_FLAT", {"nlist": 4})
        kind, params = other if self.shape.before == "reindexed" and not plain else ("FLAT", {})
        index.add_index("vector", index_type=kind, metric_type="L2", params=params)
        client.create_collection(name, schema=schema, index_params=index)

    def _insert(
        self, client: MilvusClient, rows: glove.Rows, partition: str, *, into: str = NAME, plain: bool = False
    ) -> None:
        columns: dict[str, Any] = {"id": rows.ids.tolist(), "vector": rows.vectors, "word": rows.words}
        if self.shape.key == "varchar":
            del columns["id"]
        if self.shape.before == "replaced" and not plain:
            columns["forgotten"] = [1] * len(rows.words)
        written = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        client.insert(into, written, partition_name=partition)


def make(shape: Shape, folder: Path, target: Endpoint, chance: random.Random) -> Scenario:
    """Make a scenario: files, partitions and rows are chance's."""
    chosen = chance.sample(WORDY if shape.key == "varchar" else tuple(_WRITERS), 2)
    if shape.source:
        chosen = [shape.source, shape.source]
    if shape.bad and not set(WORDY) & set(chosen):
        chosen[0] = chance.choice(WORDY)
    places = chance.sample([DEFAULT, "common", "rare"], 2)
    if shape.before == "alone":
        places = [DEFAULT, "common"]
    if not target.database:
        places = [DEFAULT, DEFAULT]
    items = [_item(n, kind, places[n], shape, target, chance) for n, kind in enumerate(chosen)]
    scenario = Scenario(shape, folder, target, items)
    if shape.before:
        scenario.flushed = chance.random() < FLUSHED_SHARE
        scenario.before = _before(shape, items, chance, (DEFAULT, *scenario.partitions))
    return scenario


def _item(n: int, kind: str, into: str, shape: Shape, target: Endpoint, chance: random.Random) -> Item:
    size, start = chance.randrange(300, 700), chance.randrange(300_000)
    rows = glove.rows(start, start + size)
    # The same key twice would be a collision: each item has ids and words of its own.
    rows = rows.numbered(0 if kind == "numpy" else (n + 1) * 1_000_000)
    wordy = kind in WORDY or kind == "milvus"
    words = [f"{word[:20]} {n}" for word in rows.words] if wordy else [f"from {kind}"] * size
    if shape.key == "varchar" and not target.database:
        words = [word.replace("'", "_") for word in words]  # Milvus Lite 2.5 upserts and deletes no key that has one
    bad = tuple(sorted(chance.sample(range(size), 5))) if shape.bad and kind in WORDY else ()
    made = glove.Rows(rows.ids, rows.vectors, words)
    if kind == "milvus":
        return Item(kind, f"old/item{n}", into, _in_order(made) if shape.key == "varchar" else made, bad)
    return Item(kind, f"item{n}.{_WRITERS[kind][0]}", into, made, bad)


def _in_order(rows: glove.Rows) -> glove.Rows:
    """Sort rows by their words, as a collection has them under that key."""
    order = sorted(range(len(rows.words)), key=lambda i: rows.words[i].encode())
    return glove.Rows(rows.ids[order], rows.vectors[order], [rows.words[i] for i in order])


def _before(shape: Shape, items: list[Item], chance: random.Random, places: tuple[str, ...]) -> dict[str, glove.Rows]:
    """Give rows of others: some under the keys of the data, with other values, and some under their own."""
    first, second = items
    few = [chance.randrange(20, 120) for _ in range(4)]
    overlaps: dict[str, list[glove.Rows]] = {place: [] for place in places}
    quiet = "quiet" if "quiet" in places else DEFAULT
    if shape.write == "skip":  # the place of the second is empty, but some of its keys are taken elsewhere
        overlaps[first.into] += [first.rows[: few[0]], second.rows[: few[1]]]
    else:
        overlaps[first.into].append(first.rows[: few[0]])
        if shape.before != "alone":
            overlaps[second.into].append(second.rows[: few[1]])
    if shape.write in {"append", "upsert"}:
        overlaps[quiet] += [first.rows[few[0] : few[0] + few[2]], second.rows[few[1] : few[1] + few[3]]]
    start = chance.randrange(300_000)
    own = [glove.rows(start, start + 60).numbered(50_000_000), glove.rows(start + 60, start + 120).numbered(60_000_000)]
    if shape.write != "skip" and shape.before != "alone":
        overlaps[quiet].append(_of_others(own[0], "other"))
    overlaps[first.into].append(_of_others(own[1], "foreign"))
    return {p: _changed(shape, rows) for p, rows in overlaps.items() if rows}


def _of_others(rows: glove.Rows, word: str) -> glove.Rows:
    return glove.Rows(rows.ids, rows.vectors, [f"{word} {i}" for i in range(len(rows.ids))])


def _changed(shape: Shape, parts: list[glove.Rows]) -> glove.Rows:
    words = [word for rows in parts for word in rows.words]
    return glove.Rows(
        np.concatenate([rows.ids for rows in parts]),
        np.concatenate([rows.vectors for rows in parts]) + np.float32(1),
        words if shape.key == "varchar" else [f"was {word}" for word in words],
    )
