"""A Milvus as a source: what is read of it, its short forms, its secrets, mirroring, and every mistake at its place."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vsync.errors import SpecError
from vsync.spec import Connection, FileSource, MilvusSource, Names, Spec, parse_spec

HEAD = "version: 1\ntarget: x.db\nconnections: {old: {uri: http://old:19530, token: {env: T}, database: d}}\n"
KNOWN = "partitions, where, collection, at, load_source, uri, token, database"
OLD = "at: old, collection: docs"


def parse(text: str, environ: dict[str, str] | None = None) -> Spec:
    return parse_spec(HEAD + text, folder=Path(), environ=environ or {})


def problems(text: str, environ: dict[str, str] | None = None) -> list[str]:
    try:
        parse(text, environ)
    except SpecError as error:
        return [str(problem).removeprefix("vsync.yaml:") for problem in error.problems]
    return []


def source(written: str) -> MilvusSource:
    found = parse(f"collections: {{a: {{from: {{milvus: {written}}}}}}}\n").collections["a"].data[0].source
    assert isinstance(found, MilvusSource)
    return found


def test_everything_of_a_source() -> None:
    found = source('{at: old, collection: docs, partitions: {deny: ["t*"]}, where: "a > 1", load_source: true}')
    assert found.kind == "milvus"
    assert (found.at.uri, found.at.database, found.name) == ("http://old:19530", "d", "old")
    assert (found.collection, found.where, found.load_source) == ("docs", "a > 1", True)
    assert found.partitions == Names(allow=["*"], deny=["t*"])
    assert found.label == "old/docs"


def test_what_is_not_said_of_a_source() -> None:
    found = source(f"{{{OLD}}}")
    assert (found.partitions, found.where, found.load_source) == (None, None, False)


def test_a_file_has_a_label_too() -> None:
    found = parse("collections: {a: {from: data/x.h5}}\n").collections["a"].data[0].source
    assert isinstance(found, FileSource)
    assert found.label == found.path == "data/x.h5"


@pytest.mark.parametrize(
    ("short", "long"),
    [
        ("{at: http://h:1, collection: c}", "{at: {uri: http://h:1}, collection: c}"),
        ("{at: ./y.db, collection: c}", "{at: {uri: ./y.db}, collection: c}"),
        ("{uri: y.db, collection: c}", "{at: {uri: y.db}, collection: c}"),
        (
            "{uri: http://h:1, token: {env: T}, database: d, collection: c}",
            "{at: {uri: http://h:1, token: {env: T}, database: d}, collection: c}",
        ),
        (f"{{{OLD}, partitions: [a, b]}}", f"{{{OLD}, partitions: {{allow: [a, b]}}}}"),
        (f"{{{OLD}, partitions: a}}", f"{{{OLD}, partitions: {{allow: [a]}}}}"),
        (f"{{{OLD}, partitions: {{}}}}", f'{{{OLD}, partitions: {{allow: ["*"], deny: []}}}}'),
    ],
)
def test_short_forms_of_a_source_are_the_long_ones(short: str, long: str) -> None:
    texts = [f"collections: {{a: {{data: [{{from: {{milvus: {written}}}}}]}}}}\n" for written in (short, long)]
    one, other = map(parse, texts)
    assert one == other
    assert one.digest == other.digest
    assert one.to_yaml() == other.to_yaml()


def test_the_long_form_names_the_connection_and_reads_back() -> None:
    spec = parse(
        "collections:\n  a:\n    data:\n"
        f"      - from: {{milvus: {{load_source: true, where: \"x == '$${{y}}'\", {OLD}, partitions: [p]}}}}\n"
        "      - {into: q, from: {milvus: {uri: http://h:1, token: {file: t}, collection: c}}}\n"
    )
    assert spec.to_yaml().partition("data:\n")[2] == (
        "      - from:\n          milvus: {at: old, collection: docs, partitions: {allow: [p]}, "
        "where: 'x == ''$${y}''', load_source: true}\n"
        "      - from: {milvus: {at: {uri: 'http://h:1', token: {file: t}}, collection: c}}\n"
        "        into: q\n"
    )
    assert parse_spec(spec.to_yaml(), folder=Path(), environ={}) == spec
    assert Spec.model_validate(spec.model_dump(by_alias=True)) == spec


def test_the_digest_tells_sources_apart() -> None:
    written = [
        f"{{{OLD}}}",
        f'{{{OLD}, where: "a > 1"}}',
        f"{{{OLD}, partitions: [p]}}",
        f"{{{OLD}, load_source: true}}",
        "{at: http://old:19530, collection: docs}",
        "{at: old, collection: other}",
    ]
    specs = [parse(f"collections: {{a: {{from: {{milvus: {text}}}}}}}\n") for text in written]
    assert len({spec.digest for spec in specs}) == len(specs)


FORMS = "write {env: NAME}, {file: PATH} or {cmd: [PROGRAM, ARGUMENT, ...]}"
SOURCES = [
    (
        f"{{{OLD}, collections: [x]}}",
        ["unknown key 'collections' in a source of kind milvus; did you mean collection?"],
    ),
    (f"{{{OLD}, map: {{}}}}", ["unknown key 'map' in a source of kind milvus; it belongs to an item of data"]),
    (f"{{{OLD}, partition: p}}", ["unknown key 'partition' in a source of kind milvus; did you mean partitions?"]),
    (
        f"{{{OLD}, bogus: p}}",
        [f"unknown key 'bogus' in a source of kind milvus; it knows {KNOWN}"],
    ),
    (
        f"{{{OLD}, name: old, kind: milvus}}",
        [
            f"unknown key '{key}' in a source of kind milvus; write {{milvus: {{at: NAME, collection: NAME}}}}"
            for key in ("name", "kind")
        ],
    ),
    ("{at: old}", ["'collection' is missing; write collection: NAME"]),
    ("{at: old, collectoin: x}", ["unknown key 'collectoin' in a source of kind milvus; did you mean collection?"]),
    ("{collection: x}", ["'at' is missing; write at: NAME of a connection, or at: http://HOST:19530"]),
    (f"{{{OLD}, uri: y.db}}", ["at: says where it is, and uri: beside it too; remove one of them"]),
    (
        f"{{{OLD}, database: d}}",
        [
            (
                "at: says where it is, and database: beside it too; "
                "move database: to the connection: at: {uri: ..., database: ...}"
            )
        ],
    ),
    ("{at: od, collection: x}", ["there is no connection 'od'; did you mean old?"]),
    ("{at: {token: {env: T}}, collection: x}", ["'uri' is missing; write uri: http://HOST:19530"]),
    ("{token: {env: T}, collection: x}", ["'uri' is missing; write uri: http://HOST:19530"]),
    (
        "{at: [], collection: x}",
        ["this must be a mapping, not a list; write at: NAME of a connection, or at: http://HOST:19530"],
    ),
    (
        "{at: {uri: y.db, user: u}, collection: x}",
        ["unknown key 'user' in a connection; it knows uri, token, database"],
    ),
    (f"{{{OLD}, where: ''}}", ["this text is empty; write something, or remove the key"]),
    (f"{{{OLD}, where: 5}}", ['this must be text, and 5 is none; quote it: "5"']),
    (f"{{{OLD}, load_source: 1}}", ["this must be true or false, not 1"]),
    ("{at: old, collection: ''}", ["this text is empty; write something, or remove the key"]),
    (
        "{at: old, collection: prod_*}",
        [
            (
                "'prod_*' is a choice of collections, and an item of data reads one; write an item of data "
                "for each, or copy: for many collections as they are"
            )
        ],
    ),
    (f"{{{OLD}, partitions: []}}", ["this list is empty; write one item or more"]),
    (f"{{{OLD}, partitions: {{allow: []}}}}", ["this list is empty; write one item or more"]),
    (f"{{{OLD}, partitions: {{alow: [a]}}}}", ["unknown key 'alow' in a choice of names; did you mean allow?"]),
    (f"{{{OLD}, partitions: {{deny: ['']}}}}", ["this text is empty; write something, or remove the key"]),
    (f"{{{OLD}, partitions: 5}}", ['this must be text, and 5 is none; quote it: "5"']),
    (f"{{{OLD}, partitions: }}", ["there is nothing written here; write a value, or remove the key"]),
    ("docs", ["this must be a mapping, not 'docs'; write {milvus: {at: NAME, collection: NAME}}"]),
    ("", ["there is nothing written here; write {milvus: {at: NAME, collection: NAME}}"]),
    ("{at: x.db, collection: a}", ["a collection is not copied into itself; read another one, or remove it"]),
    ("{at: ./x.db, collection: a}", ["a collection is not copied into itself; read another one, or remove it"]),
    ("{at: x.db, collection: b}", []),
]


@pytest.mark.parametrize(("written", "answers"), SOURCES, ids=[written for written, _ in SOURCES])
def test_mistakes_in_a_source(written: str, answers: list[str]) -> None:
    for text in (
        f"collections:\n  a:\n    from: {{milvus: {written}}}\n",
        f"collections:\n  a:\n    data: [{{from: {{milvus: {written}}}}}]\n",
    ):
        said = problems(text)
        assert all(place.startswith("6:") for place in said)
        assert sorted(re.sub(r"^\d+:\d+: ", "", place) for place in said) == sorted(answers)


def test_every_mistake_in_a_source_is_told_at_once_at_its_place() -> None:
    text = """\
collections:
  a:
    data:
      - from:
          milvus:
            at: ol
            where: 5
            lode_source: true
            partitions: {allow: [*_tmp, p]}
        map: {id: $row}
      - {from: {milvus: {at: old, collection: c}}, map: {id: $row}}
"""
    assert [re.sub(r";.*", "", said) for said in problems(text)] == [
        "8:11: 'collection' is missing",
        "9:17: there is no connection 'ol'",
        "10:20: this must be text, and 5 is none",
        "11:13: unknown key 'lode_source' in a source of kind milvus",
        "12:34: an unquoted * begins an alias, and there is no anchor &_tmp before it",
        "14:62: the rows of a collection have no numbers",
    ]


@pytest.mark.parametrize(
    "written",
    [
        "{at: {uri: http://h:1, token: hunter2}, collection: c}",
        '{at: {uri: http://h:1, token: "${HUNTER}"}, collection: c}',
        '{uri: http://h:1, token: "${UNSET}", collection: c}',
        "{uri: http://h:1, token: [hunter2], collection: c}",
        "{uri: 'http://me:hunter2@h:1', collection: c}",
        "{at: 'http://me:hunter2@h:1', collection: c}",
        '{at: "${ADDRESS}", collection: c}',
    ],
)
@pytest.mark.parametrize("place", ["collections: {a: {from: %s}}", "collections: {a: {data: [{from: %s}]}}", "copy"])
def test_secrets_of_a_source_are_refused_and_never_repeated(written: str, place: str) -> None:
    text = f"{{milvus: {written}}}"
    if place == "copy":
        text, place = text.replace("collection: c", "collections: c"), "copy: [{from: %s}]"
    environ = {"HUNTER": "hunter2", "ADDRESS": "http://me:hunter2@h:1"}
    (said,) = problems(place % text, environ)
    assert re.sub(r"^\d+:\d+: ", "", said) in {
        f"a token is not written into a spec; {FORMS}",
        "an address holds no user and password; give them with token: {env: NAME}, as user:password",
    }
    assert "hunter2" not in said


def test_fields_and_maps_called_token_are_no_secrets() -> None:
    spec = parse(
        f"collections: {{a: {{data: [{{from: {{milvus: {{{OLD}}}}}, map: {{token: '${{COLUMN}}'}}}}]}}}}",
        {"COLUMN": "words"},
    )
    mapped = spec.collections["a"].data[0].map
    assert mapped is not None
    assert mapped["token"].column == "words"


def test_variables_stand_in_an_expression() -> None:
    spec = parse(
        f"collections: {{a: {{from: {{milvus: {{{OLD}, where: 'day >= ${{SINCE}}'}}}}}}}}", {"SINCE": "20240501"}
    )
    found = spec.collections["a"].data[0].source
    assert isinstance(found, MilvusSource)
    assert found.where == "day >= 20240501"


WHERE = f'{{from: {{milvus: {{{OLD}, where: "a > 1"}}}}}}'
LOSES = "mirror would delete the rows that this where leaves out"
MIRRORS = [
    (f"write: mirror, from: {{milvus: {{{OLD}}}}}", []),
    ("write: mirror, from: x.h5", []),
    (f"write: mirror, data: [{WHERE}]", [LOSES]),
    (f'write: mirror, scope: "a > 1", data: [{WHERE}]', []),
    (f"partitions: {{p: {{write: mirror}}, q: }}, data: [{WHERE[:-1]}, into: p}}]", [LOSES]),
    (f"partitions: {{p: {{write: mirror}}, q: }}, data: [{WHERE[:-1]}, into: q}}]", []),
    (f"partitions: {{p: {{write: mirror}}, q: }}, data: [{WHERE}]", [LOSES]),
    (f"write: mirror, partitions: {{p: {{write: append}}}}, data: [{WHERE[:-1]}, into: p}}]", []),
    (f"write: upsert, data: [{WHERE}]", []),
    ("scope: 'a > 1'", ["scope is of write: mirror"]),
    ("scope: ''", ["this text is empty"]),
    ("max_delete: 5%, write: upsert", ["max_delete is of write: mirror"]),
    ("max_delete: 5%, partitions: {p: {write: mirror}}", []),
]


@pytest.mark.parametrize(("body", "answers"), MIRRORS, ids=[body for body, _ in MIRRORS])
def test_what_mirroring_needs(body: str, answers: list[str]) -> None:
    said = problems(f"collections: {{a: {{{body}}}}}")
    assert [re.sub(r"^\d+:\d+: |;.*", "", problem) for problem in said] == answers


def test_a_where_that_mirror_cannot_bear_is_told_at_the_where() -> None:
    (said,) = problems(f"collections:\n  a:\n    write: mirror\n    data:\n      - {WHERE}\n")
    assert said.startswith("8:60: ")
    assert said.endswith("; say the same of the rows of the target with scope: of the collection, or remove where:")


@pytest.mark.parametrize(
    ("written", "held", "most"),
    [
        ("10%", 1000, 100),
        ("10%", 9, 0),
        ("0%", 1000, 0),
        ("100%", 7, 7),
        ("0.1%", 10**12, 10**9),
        ("29%", 100, 29),
        ("33.3 %", 1000, 333),
        ("0", 5, 0),
        ("7", 5, 5),
        ("7", 50, 7),
    ],
)
def test_how_many_rows_mirror_may_delete(written: str, held: int, most: int) -> None:
    spec = parse(f"collections: {{a: {{write: mirror, max_delete: {written}}}}}")
    assert spec.collections["a"].may_delete(held) == most
    assert parse_spec(spec.to_yaml(), folder=Path(), environ={}) == spec


def test_a_tenth_is_what_mirror_may_delete_where_nothing_is_said() -> None:
    assert parse("collections: {a: {write: mirror}}").collections["a"].may_delete(1000) == 100


@pytest.mark.parametrize(
    "written", ["x", "-1", "-1%", "101%", "100.1%", "1e2%", "true", "1.5", "[]", "{rows: 5}", "'%'"]
)
def test_what_bounds_nothing(written: str) -> None:
    (said,) = problems(f"collections:\n  a:\n    write: mirror\n    max_delete: {written}\n")
    assert re.match(r"7:\d+: ", said)
    assert said.endswith("; write a percent such as 10%, or a number of rows")


def test_what_may_be_lost_is_named_by_addresses_of_the_collection() -> None:
    assert not problems("collections: {a: {accept_loss: [collection.a, collection.a.field.note]}}")
    said = problems("collections:\n  a: {accept_loss: [collection.b.field.x, field.x, collection.ab.field.x, 5]}\n")
    assert [re.sub(r";.*", "", problem) for problem in said] == [
        "5:21: 'collection.b.field.x' is nothing of the collection 'a'",
        "5:43: 'field.x' is nothing of the collection 'a'",
        "5:52: 'collection.ab.field.x' is nothing of the collection 'a'",
        "5:75: this must be text, and 5 is none",
    ]


NAME = st.text("ab_[]*?", min_size=1, max_size=4)


@given(st.lists(NAME, min_size=1, max_size=3), st.lists(NAME, max_size=3), st.lists(NAME, unique=True, max_size=6))
def test_deny_wins_and_the_order_of_names_is_kept(allow: list[str], deny: list[str], held: list[str]) -> None:
    names = Names(allow=allow, deny=deny)
    chosen = names.chosen(held)
    assert chosen == [name for name in held if name in chosen]
    assert not set(chosen) & set(Names(allow=deny).chosen(held) if deny else [])
    assert set(chosen) <= set(Names(allow=allow).chosen(held))
    for pattern in names.unmatched(held):
        assert pattern in allow
        assert not Names(allow=[pattern]).chosen(held)


def test_names_are_chosen_by_case_and_patterns_that_match_nothing_are_known() -> None:
    names = Names(allow=["prod_*", "News", "gone"], deny=["*_tmp"])
    held = ["prod_b", "news", "prod_tmp", "prod_a", "News"]
    assert names.chosen(held) == ["prod_b", "prod_a", "News"]
    assert names.unmatched(held) == ["gone"]
    assert Names().chosen(held) == held
    assert Names(allow=["prod_tmp"], deny=["*"]).unmatched(held) == []


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (Connection(uri="./a.db"), Connection(uri="a.db"), True),
        (Connection(uri="http://h:1/"), Connection(uri="http://h:1", database="default"), True),
        (Connection(uri="http://h:1"), Connection(uri="http://h:1", database="x"), False),
        (Connection(uri="http://h:1"), Connection(uri="http://h:2"), False),
    ],
)
def test_when_two_connections_are_one_place(one: Connection, other: Connection, same: bool) -> None:  # noqa: FBT001 - pytest passes it
    assert one.is_same(other) is same


VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=5), st.sampled_from(["old", "x.db", "*"])),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(["at", "uri", "token", "collection", "collections", "name", "kind", "allow"]), inner
        ),
    ),
    max_leaves=6,
)


@given(VALUES, st.sampled_from(["data", "copy", "rename", "max_delete", "item"]))
def test_no_value_makes_anything_but_a_spec_or_its_problems(value: object, place: str) -> None:
    copy = {"from": {"milvus": {"at": "old"}}}
    texts: dict[str, dict[str, object]] = {
        "data": {"collections": {"c": {"from": {"milvus": value}}}},
        "copy": {"copy": [{"from": {"milvus": value}}]},
        "rename": {"copy": [{**copy, "rename": value}]},
        "max_delete": {"copy": [{**copy, "write": "mirror", "max_delete": value}]},
        "item": {"copy": [value]},
    }
    for key, written in texts[place].items():
        for problem in problems(f"{key}: {json.dumps(written)}\n"):
            assert "Input should" not in problem
            assert re.match(r"\d+:\d+: \S", problem)


TEXTS = st.one_of(
    st.text("ab*?[]{}$ '\"\\#:é", min_size=1, max_size=8), st.sampled_from(["on", "012", "${X}", "*_tmp", "~"])
)
TEXTS = TEXTS.filter(lambda text: bool(text.strip()))
CHOICES = st.one_of(
    TEXTS,
    st.lists(TEXTS, min_size=1, max_size=2),
    st.fixed_dictionaries(
        {}, optional={"allow": st.lists(TEXTS, min_size=1, max_size=2), "deny": st.lists(TEXTS, max_size=2)}
    ),
)
ATS = st.one_of(
    st.sampled_from(["old", "http://h:1", "./y.db"]).map(lambda at: {"at": at}),
    st.just({"at": {"uri": "y.db", "token": {"cmd": ["a", "${b}"]}, "database": "d"}}),
    st.just({"uri": "http://h:1", "token": {"file": "t"}}),
)
READING = {"partitions": CHOICES, "where": TEXTS, "load_source": st.booleans()}
ONE = st.builds(lambda at, more: {**at, "collection": "c", **more}, ATS, st.fixed_dictionaries({}, optional=READING))
MANY = st.builds(dict.__or__, ATS, st.fixed_dictionaries({}, optional={**READING, "collections": CHOICES}))
RULES = {
    "load": st.booleans(),
    "strict": st.booleans(),
    "write": st.sampled_from(["append", "upsert"]),
    "shards": st.integers(1, 9),
    "properties": st.dictionaries(TEXTS, TEXTS, max_size=2),
}


@given(
    st.lists(ONE, max_size=2),
    st.lists(MANY, max_size=2),
    st.fixed_dictionaries({}, optional=RULES),
    st.fixed_dictionaries({}, optional=RULES),
)
def test_every_source_and_copy_reads_back_from_its_long_form(
    one: list[dict[str, object]], many: list[dict[str, object]], own: dict[str, object], rules: dict[str, object]
) -> None:
    said: dict[str, object] = {"collections": {"a": {**own, "data": [{"from": {"milvus": source}} for source in one]}}}
    if many:
        said["copy"] = [{"from": {"milvus": source}, **rules, "rename": "r_{collection}"} for source in many]
    spec = parse("".join(f"{key}: {json.dumps(value)}\n" for key, value in said.items()).replace("${", "$${"))
    again = parse_spec(spec.to_yaml(), folder=Path(), environ={})
    assert again == spec
    assert again.digest == spec.digest
    assert again.to_yaml() == spec.to_yaml()
    assert [c.model_fields_set for c in again.collections.values()] == [
        c.model_fields_set for c in spec.collections.values()
    ] or not many


@pytest.mark.parametrize(
    ("said", "item", "answer"),
    [
        ("", 'into: "{a}{b}"', "names no partition: {FIELD} stands in it once at the most"),
        ("", 'into: "1{a}"', "'1{a}' makes no name of a partition"),
        ("write: upsert,", 'into: "p{a}"', "upsert would leave a row whose value changed in its old partition too"),
        ("write: mirror,", 'into: "p{a}"', "mirror has to know of partitions whose value no row has any more"),
    ],
)
def test_what_partitions_by_value_need(said: str, item: str, answer: str) -> None:
    (found,) = problems(f"collections: {{a: {{{said} data: [{{from: {{milvus: {{{OLD}}}}}, {item}}}]}}}}\n")
    assert answer in found


def test_a_file_goes_into_one_partition() -> None:
    (found,) = problems('collections: {a: {data: [{from: x.h5, into: "p{a}"}]}}\n')
    assert "the rows of a file go into one partition" in found


def test_a_value_makes_a_name_and_is_found_in_it() -> None:
    (data,) = (
        parse(f'collections: {{a: {{data: [{{from: {{milvus: {{{OLD}}}}}, into: "y{{year}}_z"}}]}}}}')
        .collections["a"]
        .data
    )
    by = data.into_by
    assert by is not None
    assert (by.field, by.name(2024), by.value("y2024_z"), data.into_one) == ("year", "y2024_z", "2024", None)
    assert by.value("y_z") == ""
    assert by.value("y2024") is None
    assert by.value("y2024_z2") is None
