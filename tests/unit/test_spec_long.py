"""What a spec says once it is read: long form, places, equality, digest, Milvus's words."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from string import ascii_letters, digits
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vsync import schema
from vsync.schema import DataType
from vsync.spec import FieldSpec, FileSource, IndexSpec, MapFrom, Spec, load_spec, parse_spec

EVERYTHING = """\
version: 1
connections:
  prod: {uri: "${MILVUS_URI:-http://localhost:19530}", token: {env: MILVUS_TOKEN}, database: default}
target: {milvus: prod}
defaults: {chunk_bytes: 8MiB}
collections:
  words:
    description: GloVe 6B
    fields:
      id:     {type: int64, primary: true}
      vector: {type: float_vector, dim: 50}
      word:   {type: varchar, max_length: 128}
    dynamic: false
    shards: 1
    consistency: bounded
    properties: {collection.ttl.seconds: 3600, mmap.enabled: true}
    partitions: {common: {}, rare: {write: overwrite}}
    indexes:
      vector: {type: HNSW, metric: cosine, params: {M: 16, efConstruction: 200}}
    aliases: [lexicon]
    load: true
    write: append
    on_collision: first
    on_bad_row: skip
    data:
      - name: frequent
        from: {hdf5: "data/glove-*.h5"}
        map:  {id: $row, vector: embeddings, word: {const: "2024"}}
        into: common
      - {name: others, from: {faiss: {path: data/rest.index, allow_lossy: true}}, into: rare}
"""


def parse(text: str, **variables: str) -> Spec:
    return parse_spec(text, folder=Path("/spec"), variables=variables, environ={})


def short(target: str, collections: str = "{a: {from: x.h5}}", more: str = "") -> Spec:
    return parse(f"version: 1\n{more}target: {target}\ncollections: {collections}\n")


def test_everything_is_there() -> None:
    spec = parse(EVERYTHING)
    words = spec.collections["words"]
    milvus = spec.target.connection
    assert milvus is not None
    assert (milvus.label, milvus.database, milvus.is_lite) == ("http://localhost:19530", "default", False)
    assert spec.defaults.chunk_bytes == 8 * 2**20
    assert words.fields is not None
    assert words.fields["vector"].to_field("vector") == schema.Field("vector", DataType.FLOAT_VECTOR, dim=50)
    assert words.indexes is not None
    assert words.indexes["vector"].to_index("vector") == schema.Index(
        "vector", "HNSW", "COSINE", (("M", "16"), ("efConstruction", "200"))
    )
    assert words.properties == {"collection.ttl.seconds": "3600", "mmap.enabled": "true"}
    assert words.partitions is not None
    assert [p.write for p in words.partitions.values()] == [None, "overwrite"]
    assert [d.source for d in words.data] == [
        FileSource(kind="hdf5", path="data/glove-*.h5"),
        FileSource(kind="faiss", path="data/rest.index", options={"allow_lossy": True}),
    ]
    assert words.data[0].map == {
        "id": MapFrom(row=True),
        "vector": MapFrom(column="embeddings"),
        "word": MapFrom(const="2024"),
    }
    assert (words.write, words.strict, words.on_collision, words.on_bad_row) == (
        "append",
        False,
        "first",
        "skip",
    )


def test_what_is_not_said_is_none() -> None:
    said = short("x.db").collections["a"].model_dump(exclude={"data"})
    defaults = {"write": "append", "strict": False, "on_collision": "error", "on_bad_row": "error"} | {
        "exclusive": True,
        "max_delete": "10%",
    }
    assert said == {key: defaults.get(key) for key in said}


def test_the_long_form_of_the_simple_case() -> None:
    assert (
        short("./words.db", "{words: {from: data/glove.h5}}").to_yaml()
        == """\
version: 1
target: {milvus: {uri: ./words.db}}
collections:
  words:
    write: append
    data:
      - from: {hdf5: data/glove.h5}
"""
    )


def test_the_long_form_of_everything_is_in_the_order_of_the_language() -> None:
    assert (
        parse(EVERYTHING).to_yaml()
        == """\
version: 1
connections:
  prod: {uri: 'http://localhost:19530', token: {env: MILVUS_TOKEN}, database: default}
target: {milvus: prod}
defaults: {chunk_bytes: 8MiB}
collections:
  words:
    description: GloVe 6B
    fields:
      id: {type: int64, primary: true}
      vector: {type: float_vector, dim: 50}
      word: {type: varchar, max_length: 128}
    dynamic: false
    shards: 1
    consistency: bounded
    properties: {collection.ttl.seconds: "3600", mmap.enabled: "true"}
    partitions:
      common: {}
      rare: {write: overwrite}
    indexes:
      vector: {type: HNSW, metric: COSINE, params: {M: 16, efConstruction: 200}}
    aliases: [lexicon]
    load: true
    write: append
    on_collision: first
    on_bad_row: skip
    data:
      - name: frequent
        from: {hdf5: data/glove-*.h5}
        map: {id: $row, vector: embeddings, word: {const: "2024"}}
        into: common
      - name: others
        from: {faiss: {path: data/rest.index, allow_lossy: true}}
        into: rare
"""
    )


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (short("./w.db"), short("{milvus: ./w.db}")),
        (short("./w.db"), short("{milvus: {uri: ./w.db}}")),
        (short("x.db"), short("x.db", "{a: {data: [{from: {hdf5: x.h5}}]}}")),
        (short("x.db"), short("x.db", "{a: {data: [{from: {hdf5: {path: x.h5}}}]}}")),
        (short("x.db", "{a: {partitions: [p, q]}}"), short("x.db", "{a: {partitions: {p: {}, q: }}}")),
        (short("x.db", "{a: }"), short("x.db", "{a: {}}")),
        (short("x.db", "{a: {indexes: {v: }}}"), short("x.db", "{a: {indexes: {v: {type: AUTOINDEX}}}}")),
        (
            short("{milvus: p}", more="connections: {p: http://h:1}\n"),
            short("{milvus: p}", more="connections: {p: {uri: http://h:1}}\n"),
        ),
        (
            short("x.db", more="defaults: {chunk_bytes: 16MiB}\n"),
            short("x.db", more="defaults: {chunk_bytes: 16777216}\n"),
        ),
        (short("x.db"), short("x.db", "{a: {from: x.h5, x-note: mine}}", more="x-mine: [1]\n")),
    ],
)
def test_short_forms_are_the_long_ones(one: Spec, other: Spec) -> None:
    assert one == other
    assert one.digest == other.digest
    assert one.to_yaml() == other.to_yaml()


@pytest.mark.parametrize(
    ("written", "count"),
    [
        ("16MiB", 2**24),
        ("16 MiB", 2**24),
        ("16MB", 16_000_000),
        ("1048576", 2**20),
        ("0.5GiB", 2**29),
        ("64kB", 64_000),
        ("100B", 100),
    ],
)
def test_sizes(written: str, count: int) -> None:
    assert short("x.db", more=f"defaults: {{chunk_bytes: {written}}}\n").defaults.chunk_bytes == count


def test_where_survives_the_short_forms() -> None:
    spec = parse_spec(
        "version: 1\n"
        "target: ./w.db\n"
        "collections:\n"
        "  words:\n"
        "    partitions: [a, b]\n"
        "    fields:\n"
        "      id: {type: int64, primary: true}\n"
        "      vec: {type: float_vector, dim: 768}\n"
        "    from: data/x.h5\n",
        name="specs/w.yaml",
        folder=Path(),
    )
    at = ("collections", "words")
    assert spec.where() == "specs/w.yaml:1:1"
    assert spec.where(*at) == "specs/w.yaml:4:3"
    assert spec.where(*at, "fields", "vec") == "specs/w.yaml:8:7"
    assert spec.where(*at, "fields", "vec", "dim") == "specs/w.yaml:8:38"
    assert spec.where(*at, "fields", "vec", "nullable") == "specs/w.yaml:8:7"
    assert spec.where(*at, "partitions", "b", "write") == "specs/w.yaml:5:21"
    assert spec.where(*at, "data", 0, "from", "hdf5") == "specs/w.yaml:9:11"
    assert spec.where(*at, "shards") == "specs/w.yaml:4:3"
    assert spec.where("target", "milvus", "uri") == "specs/w.yaml:2:9"
    assert (spec.name, spec.folder) == ("specs/w.yaml", Path())


def test_where_counts_characters_and_points_into_anchors() -> None:
    spec = parse(
        "version: 1\nx-f: &f\n  id: {type: int64, primary: true}\n"
        'target: "é.db"   # ü\ncollections: {a: {description: "äö", fields: *f, from: x.h5}}\n'
    )
    assert spec.where("collections", "a", "fields", "id", "primary") == "vsync.yaml:3:30"
    assert spec.where("collections", "a", "fields") == "vsync.yaml:5:38"
    assert spec.where("target") == "vsync.yaml:4:9"


def test_a_spec_made_by_hand_has_no_place() -> None:
    spec = Spec.model_validate(parse(EVERYTHING).model_dump(by_alias=True))
    assert spec.where("target") is None
    assert spec == parse(EVERYTHING)


def test_merged_keys_stand_where_they_are_merged_and_give_way() -> None:
    spec = parse(
        "version: 1\ntarget: x.db\nx-f: &f {id: {type: int64, primary: true}, v: {type: "
        "float_vector, dim: 4}}\n"
        "collections:\n  a:\n    fields:\n      <<: *f\n      v: {type: float_vector, dim: "
        "8}\n      w: {type: float}\n"
    )
    fields = spec.collections["a"].fields
    assert fields is not None
    assert list(fields) == ["id", "v", "w"]
    assert fields["v"].dim == 8


def test_the_digest_is_of_what_is_said() -> None:
    one = short("x.db", "{a: {load: true, aliases: [p, q], from: x.h5}, b: {from: y.h5}}")
    other = parse(
        "# a comment\ncollections:\n  b: {from: y.h5}\n  a:\n    from: 'x.h5'\n    write: append\n"
        "    aliases: [q, p]\n    load: true\ntarget: {milvus: x.db}\nversion: 1\n"
    )
    assert one.digest == other.digest
    changed = [
        short("x.db", "{a: {load: true, aliases: [p], from: x.h5}, b: {from: y.h5}}"),
        short("y.db", "{a: {load: true, aliases: [p, q], from: x.h5}, b: {from: y.h5}}"),
        short("x.db", "{a: {load: true, aliases: [p, q], from: x.h5}, b: {from: z.h5}}"),
        short("x.db", "{a: {load: false, aliases: [p, q], from: x.h5}, b: {from: y.h5}}"),
    ]
    assert len({one.digest, *(spec.digest for spec in changed)}) == 5
    fields = ["id: {type: int64, primary: true}", "v: {type: float_vector, dim: 4}"]
    assert (
        short("x.db", f"{{a: {{fields: {{{', '.join(fields)}}}}}}}").digest
        != short("x.db", f"{{a: {{fields: {{{', '.join(fields[::-1])}}}}}}}").digest
    )


def test_a_spec_is_frozen_hashable_and_picklable(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(EVERYTHING)
    spec = load_spec(tmp_path / "s.yaml", environ={})
    again: Spec = pickle.loads(pickle.dumps(spec))  # noqa: S301 - our own bytes
    assert again == spec
    assert hash(again) == hash(spec)
    assert again.where("target", "milvus") == spec.where("target", "milvus") == f"{tmp_path}/s.yaml:3:3"
    assert spec.folder == tmp_path
    with pytest.raises(ValueError, match="frozen"):
        spec.version = 1  # type: ignore[misc]


NAMES = st.from_regex(r"[a-z_][a-z0-9_]{0,6}", fullmatch=True).filter(lambda n: n != "_default")
TEXTS = st.one_of(
    st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=12),
    st.sampled_from(
        [
            "on",
            "012",
            "12:30",
            "2024-05-01",
            "1e5",
            "08",
            "0o7",
            "~",
            "",
            "*_tmp",
            "${X}",
            "$${",
            "a: b",
            "<<",
            "#",
            "\n",
            "\x07",
            "null",
            "- x",
            "\ufeff",
            "\u2028",
        ]
    ),
)
WORDS = st.from_regex(r"[a-z0-9_/*.\- ${}]{1,10}", fullmatch=True).map(lambda t: f"d{t}")
SCALARS = st.one_of(
    st.integers(-(2**60), 2**60), st.booleans(), st.floats(allow_nan=False, allow_infinity=False), TEXTS
)
JSONS = st.recursive(
    st.one_of(st.none(), SCALARS),
    lambda inner: st.one_of(st.lists(inner, max_size=2), st.dictionaries(TEXTS, inner, max_size=2)),
    max_leaves=4,
)


def maybe(**values: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=values)


SOURCES = st.one_of(
    st.builds(lambda kind, path: {kind: path}, st.sampled_from(["hdf5", "faiss", "parquet", "numpy"]), WORDS),
    st.builds(lambda path, lossy: {"faiss": {"path": path, "allow_lossy": lossy}}, WORDS, st.booleans()),
    st.builds(
        lambda path, name, tags: {"milvus1": {"path": path, "collection": name, "partitions": tags}},
        WORDS,
        WORDS,
        st.lists(WORDS, max_size=2),
    ),
)
TOKENS = st.one_of(
    st.just({"env": "TOKEN"}),
    st.builds(lambda t: {"file": t}, TEXTS),
    st.builds(lambda t: {"cmd": t}, st.lists(TEXTS, min_size=1, max_size=3)),
)
CONNECTIONS = st.builds(
    lambda uri, more: {"uri": uri, **more},
    st.sampled_from(["http://h:1", "https://h", "./x.db", "${X}.db"]),
    maybe(token=TOKENS, database=NAMES),
)
FIELDS = st.one_of(
    st.just({"type": "json"}),
    st.builds(lambda d: {"type": "binary_vector", "dim": 8 * d}, st.integers(1, 99)),
    st.builds(lambda d, n: {"type": "int16", "default": d, **n}, st.integers(-9, 9), maybe(nullable=st.booleans())),
    st.builds(lambda t, n: {"type": "varchar", "max_length": 99, "default": t, **n}, TEXTS, maybe(description=TEXTS)),
    st.builds(lambda f: {"type": "double", "default": f}, st.floats(allow_nan=False, allow_infinity=False)),
    st.builds(
        lambda e: {"type": "array", "element": e, "max_capacity": 3},
        st.sampled_from(["bool", "int8", "float"]),
    ),
)
INDEXES = maybe(
    type=st.sampled_from(["HNSW", "AUTOINDEX", "INVERTED"]),
    params=st.dictionaries(TEXTS.filter(lambda t: t not in {"index_type", "metric_type"}), SCALARS, max_size=3),
)

FLAGS = st.booleans()


@st.composite
def collections(draw: st.DrawFn) -> dict[str, Any]:
    written = draw(
        maybe(
            description=TEXTS,
            dynamic=st.booleans(),
            shards=st.integers(1, 9),
            consistency=st.sampled_from(["strong", "bounded", "session", "eventually"]),
            properties=st.dictionaries(TEXTS, SCALARS, max_size=2),
            load=st.booleans(),
            write=st.sampled_from(["append", "upsert", "skip", "overwrite"]),
            strict=st.booleans(),
            on_collision=st.sampled_from(["error", "first", "last"]),
            on_bad_row=st.sampled_from(["error", "skip"]),
            exclusive=st.booleans(),
        )
    )
    partitions: list[str] = draw(st.lists(NAMES, max_size=2, unique=True))
    if partitions:
        modes = maybe(write=st.sampled_from(["append", "overwrite"]))
        written["partitions"] = {name: draw(modes) for name in partitions}
    fields = draw(st.dictionaries(NAMES, FIELDS, max_size=3))
    if fields:
        written["fields"] = {**fields, "key": {"type": "int64", "primary": True}}
        written["indexes"] = {name: draw(INDEXES) for name in fields}
    written["data"] = []
    for number in range(draw(st.integers(0, 2))):
        item: dict[str, Any] = {"from": draw(SOURCES)}
        if draw(FLAGS):
            item["name"] = f"d{number}"
        if draw(FLAGS) and partitions:
            item["into"] = partitions[0]
        if draw(FLAGS) and fields:
            mapped = st.one_of(WORDS, st.sampled_from(["$row", "$meta.a b.c"]), JSONS.map(lambda c: {"const": c}))
            item["map"] = {name: draw(mapped) for name in fields}
            if draw(FLAGS) and written.get("dynamic") is not False:
                keys = st.dictionaries(st.sampled_from(["a b", "const", "$row"]), mapped, min_size=2)
                item["map"]["$meta"] = draw(keys | st.just("$meta"))
        written["data"].append(item)
    return written


def as_yaml(value: Any) -> Any:
    """Write ``${`` as the language has it, for the variables of the tests have no values."""
    if isinstance(value, dict):
        return {key: as_yaml(item) for key, item in value.items()}
    if isinstance(value, list):
        return [as_yaml(item) for item in value]
    return value.replace("${", "$${") if isinstance(value, str) else value


@given(
    st.dictionaries(NAMES, CONNECTIONS, max_size=2),
    CONNECTIONS,
    st.booleans(),
    st.dictionaries(NAMES, collections(), min_size=1, max_size=2),
    st.integers(1, 2**30),
)
def test_every_spec_reads_back_from_its_long_form(
    connections: dict[str, Any],
    target: dict[str, Any],
    named: bool,  # noqa: FBT001 - hypothesis passes it
    written: dict[str, Any],
    size: int,
) -> None:
    where = next(iter(connections)) if named and connections else target
    said = {
        "version": 1,
        "connections": connections,
        "target": {"milvus": where},
        "defaults": {"chunk_bytes": size},
        "collections": written,
    }
    spec = parse(dump(as_yaml(said)))
    again = parse(spec.to_yaml())
    assert again == spec
    assert again.digest == spec.digest
    assert again.to_yaml() == spec.to_yaml()
    for name, collection in written.items():
        for item, data in zip(collection["data"], spec.collections[name].data, strict=True):
            assert data.source.label == next(
                value if isinstance(value, str) else value["path"] for value in item["from"].values()
            )
            if "map" in item:
                assert {k: v.long() for k, v in (data.map or {}).items()} == as_yaml(item["map"])


def dump(value: Any) -> str:
    """Write a flow of YAML in which every text is quoted, and every character in need of it escaped."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{dump(key)}: {dump(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(dump, value)) + "]"
    if isinstance(value, str):
        plain = set(ascii_letters + digits + " _-./*$")
        return '"' + "".join(c if c in plain else f"\\U{ord(c):08x}" for c in value) + '"'
    return json.dumps(value)


def test_the_words_of_milvus_for_every_field_type() -> None:
    for kind in DataType:
        field = FieldSpec(type=kind).to_field("f")
        assert field == schema.Field("f", kind)
    assert IndexSpec().to_index("f") == schema.Index("f", "AUTOINDEX")
    params = IndexSpec(params={"b": True, "a": 0.5}).to_index("f").params
    assert params == (("a", "0.5"), ("b", "true"))
