"""Copies of many collections: how they are written, and what they are once it is known what there is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vsync.errors import SpecError
from vsync.spec import CopySpec, MilvusCollections, MilvusSource, Names, Spec, parse_spec
from vsync.spec.copying import expand

HEAD = "version: 1\ntarget: http://new:19530\nconnections: {old: http://old:19530}\n"
FROM = "from: {milvus: {at: old}}"


def parse(text: str) -> Spec:
    return parse_spec(HEAD + text, folder=Path("/spec"), environ={})


def said(error: SpecError) -> list[str]:
    return [str(problem).removeprefix("vsync.yaml:") for problem in error.problems]


def problems(text: str) -> list[str]:
    with pytest.raises(SpecError) as caught:
        parse(text)
    return said(caught.value)


def expanded(text: str, *held: str) -> Spec:
    return expand(parse(text), lambda _: held)


def refused(text: str, *held: str) -> list[str]:
    with pytest.raises(SpecError) as caught:
        expanded(text, *held)
    return said(caught.value)


def test_everything_of_a_copy() -> None:
    spec = parse("""\
copy:
  - from: {milvus: {at: old, collections: {allow: ["prod_*", news], deny: ["*_tmp"]}, partitions: [p], where: "a > 1"}}
    rename: "{collection}_v2"
    write: upsert
    properties: {mmap.enabled: true}
    on_bad_row: skip
    load: false
""")
    (copy,) = spec.copies
    assert isinstance(copy.source, MilvusCollections)
    assert copy.source.collections == Names(allow=["prod_*", "news"], deny=["*_tmp"])
    assert (copy.source.name, copy.source.where, copy.source.partitions) == ("old", "a > 1", Names(allow=["p"]))
    assert (copy.write, copy.properties, copy.on_bad_row, copy.load) == (
        "upsert",
        {"mmap.enabled": "true"},
        "skip",
        False,
    )
    assert copy.renamed("docs") == "docs_v2"
    assert spec.collections == {}


def test_the_long_form_of_a_copy_reads_back() -> None:
    spec = parse('copy: [{from: {milvus: {at: old, collections: "a*"}}, load: true}]\n')
    assert spec.to_yaml().partition("copy:\n")[2] == (
        "  - from: {milvus: {at: old, collections: {allow: [a*]}}}\n    write: append\n    load: true\n"
    )
    assert parse_spec(spec.to_yaml(), folder=Path(), environ={}) == spec


def test_what_a_collection_says_beside_a_copy_is_written_as_it_was_said() -> None:
    texts = [f"copy: [{{{FROM}, write: upsert}}]\ncollections: {{a: {body}}}\n" for body in ("{}", "{write: append}")]
    texts += [text.replace("a: {", "a: {from: x.h5, ") for text in texts]
    texts += [texts[0].replace("{}", "{data: []}")]
    specs = [parse(text.replace(", }", "}")) for text in texts]
    assert len({spec.digest for spec in specs}) == len(specs)
    assert specs[0] != specs[1]
    for spec in specs:
        again = parse_spec(spec.to_yaml(), folder=Path(), environ={})
        assert again == spec
        assert again.digest == spec.digest
        assert expand(again, lambda _: ["a"]) == expand(spec, lambda _: ["a"])


WRITTEN = [
    ("copy: []", ["4:1: this list is empty; write one item or more"]),
    (
        "copy: {}",
        ["4:1: this must be a list, not a mapping; begin each item of copy with: - from: {milvus: {at: NAME}}"],
    ),
    ("copy:", ["4:1: there is nothing written here; write a value, or remove the key"]),
    (
        "copy: [{write: append}]",
        ["4:8: 'from' is missing; write from: {milvus: {at: NAME, collections: [NAME, ...]}}"],
    ),
    (
        "copy: [{from: x.h5}]",
        ["4:15: a copy is from a milvus or a backup; write from: {milvus: {at: NAME, collections: [NAME, ...]}}"],
    ),
    ("copy: [x]", ["4:8: this must be a mapping, not 'x'; a copy is written as {key: value}"]),
    ("copys: []", ["4:1: unknown key 'copys' in a spec; did you mean copy?"]),
    ("copies: []", ["4:1: unknown key 'copies' in a spec; did you mean copy?"]),
    (f"copy: [{{source: x, {FROM}}}]", ["4:9: unknown key 'source' in a copy; did you mean from?"]),
    (f"copy: [{{{FROM}, fields: {{}}}}]", ["4:36: unknown key 'fields' in a copy; it belongs to a collection"]),
    (f"copy: [{{{FROM}, wirte: append}}]", ["4:36: unknown key 'wirte' in a copy; did you mean write?"]),
    (
        "copy: [{from: {milvus: {at: old, collection: a}}}]",
        ["4:34: unknown key 'collection' in a source of kind milvus; did you mean collections?"],
    ),
    (
        "copy: [{from: {milvus: {at: old, collections: *_tmp}}}]",
        [
            (
                "4:47: an unquoted * begins an alias, and there is no anchor &_tmp before it; "
                'quote it if it is text: "*_tmp"'
            )
        ],
    ),
    (
        "copy: [{from: {milvus: {at: old, collections: *}}}]",
        ['4:48: an unquoted * or & begins an alias or anchor; quote it if it is text: "*"'],
    ),
    (
        "copy: [{from: {milvus: {at: old, collections: {allow: []}}}}]",
        ["4:48: this list is empty; write one item or more"],
    ),
    (
        f"copy: [{{{FROM}, max_delete: 5%}}]",
        ["4:48: max_delete is of write: mirror; write write: mirror, or remove max_delete:"],
    ),
    (
        'copy: [{from: {milvus: {at: old, where: "a > 1"}}, write: mirror}]',
        [
            (
                "4:41: mirror would delete the rows that this where leaves out; "
                "name each collection under collections: with scope:, or remove where:"
            )
        ],
    ),
    (
        "copy: [{from: {milvus: {at: http://new:19530}}}]",
        [
            (
                '4:16: a database is not copied into itself; write rename: "{collection}_copy", '
                "or copy from another database"
            )
        ],
    ),
    ('copy: [{from: {milvus: {at: http://new:19530}}, rename: "c_{collection}"}]', []),
    ("copy: [{from: {milvus: {uri: http://new:19530, database: b}}}]", []),
]


@pytest.mark.parametrize(("text", "answers"), WRITTEN, ids=[text for text, _ in WRITTEN])
def test_mistakes_in_copies(text: str, answers: list[str]) -> None:
    if answers:
        assert problems(text) == answers
    else:
        assert parse(text)


@pytest.mark.parametrize(
    "rename", ["x", "", "{collection}{collection}", "{collection}_{partition}", "{{collection}}", "{}"]
)
def test_a_rename_tells_collections_apart(rename: str) -> None:
    (answer,) = problems(f'copy: [{{{FROM}, rename: "{rename}"}}]')
    assert answer == (
        f"4:44: '{rename}' does not tell collections apart: {{collection}} stands in it once, and no other braces; "
        'write "{collection}_v2"'
    )


@pytest.mark.parametrize("rename", ["x-{collection}", "1{collection}", "{collection} b"])
def test_a_rename_makes_names(rename: str) -> None:
    (answer,) = problems(f'copy: [{{{FROM}, rename: "{rename}"}}]')
    assert answer.startswith(f"4:44: '{rename}' makes no name of a collection; ")


def test_a_spec_without_copies_is_what_it_is() -> None:
    spec = parse("collections: {a: {from: x.h5}}\n")
    assert expand(spec, lambda _: pytest.fail("there is nothing to ask for")) is spec


def test_each_collection_that_is_chosen_becomes_one() -> None:
    spec = expanded(
        'copy: [{from: {milvus: {at: old, collections: {allow: ["b*", a], deny: ["*_tmp"]}, where: "x > 1", '
        'partitions: [p], load_source: true}}, rename: "{collection}_v2", write: upsert, load: true}]\n',
        "b2", "a", "b_tmp", "c", "b1",
    )  # fmt: skip
    assert list(spec.collections) == ["b2_v2", "a_v2", "b1_v2"]
    assert spec.copies == []
    made = spec.collections["b2_v2"]
    (data,) = made.data
    assert (data.name, data.into, data.map) == ("b2", None, None)
    assert isinstance(data.source, MilvusSource)
    assert data.source.label == "old/b2"
    assert (data.source.where, data.source.load_source, data.source.partitions) == ("x > 1", True, Names(allow=["p"]))
    assert (made.write, made.load, made.shards) == ("upsert", True, None)
    assert parse_spec(spec.to_yaml(), folder=Path(), environ={}) == spec


def test_each_copy_is_asked_for_by_itself_and_their_order_is_kept() -> None:
    spec = parse(
        'copy:\n  - {from: {milvus: {at: z.db}}}\n  - {from: {milvus: {at: old}}, rename: "{collection}2"}\n'
        "collections: {own: {from: x.h5}, a2: {load: true}}\n"
    )

    def held(copy: CopySpec) -> list[str]:
        return ["c", "b"] if copy.source.label.endswith(".db") else ["a"]

    whole = expand(spec, held)
    assert list(whole.collections) == ["c", "b", "a2", "own"]
    assert whole.collections["own"] == spec.collections["own"]
    assert (spec.long()["copy"], whole.folder, whole.name) == (spec.long()["copy"], spec.folder, spec.name)
    assert spec.copies
    assert whole.digest != spec.digest


def test_what_a_collection_says_wins_key_by_key_even_what_is_the_default() -> None:
    text = (
        f"copy: [{{{FROM}, write: upsert, strict: true, load: true, shards: 3}}]\n"
        "collections:\n  a: {write: append, strict: false, aliases: [n]}\n  b: {data: [{from: x.h5}], load: false}\n"
        "  c: {data: []}\n"
    )
    made = expanded(text, "a", "b", "c", "d").collections
    assert [(c.write, c.strict, c.load, c.shards) for c in made.values()] == [
        ("append", False, True, 3),
        ("upsert", True, False, 3),
        ("upsert", True, True, 3),
        ("upsert", True, True, 3),
    ]
    assert made["a"].aliases == ["n"]
    assert [[data.source.label for data in c.data] for c in made.values()] == [["old/a"], ["x.h5"], [], ["old/d"]]


def test_places_are_those_of_the_copy_where_the_collection_says_nothing() -> None:
    spec = expanded(
        """\
copy:
  - from: {milvus: {at: old, where: "x > 1"}}
    load: true
    write: upsert
collections:
  b:
    load: false
  c:
    data:
      - from: y.h5
""",
        "a", "b", "c",
    )  # fmt: skip
    lines = {
        ("a",): "5:5",
        ("a", "load"): "6:11",
        ("a", "shards"): "5:5",
        ("a", "data", 0, "from", "where"): "5:37",
        ("b",): "9:3",
        ("b", "load"): "10:11",
        ("b", "write"): "7:12",
        ("b", "data", 0, "from", "where"): "5:37",
        ("c", "data", 0, "from", "where"): "13:15",
        ("c", "load"): "6:11",
    }
    assert {path: spec.where("collections", *path) for path in lines} == {
        path: f"vsync.yaml:{place}" for path, place in lines.items()
    }


def test_a_spec_made_by_hand_is_expanded_too() -> None:
    spec = Spec.model_validate(parse(f"copy: [{{{FROM}, write: upsert}}]").model_dump(by_alias=True))
    whole = expand(spec, lambda _: ["a"])
    assert whole.collections["a"].write == "upsert"
    assert whole.where("collections", "a") is None


def test_a_pattern_that_matches_nothing_is_told_with_what_is_there() -> None:
    assert refused('copy:\n  - from: {milvus: {at: old, collections: ["a*", gone, "b?"]}}\n', "a1", "b") == [
        "5:50: 'gone' matches no collection of old; there are a1, b",
        "5:56: 'b?' matches no collection of old; there are a1, b",
    ]
    assert refused(f"copy: [{{{FROM}}}]\n") == ["4:16: '*' matches no collection of old; there are no collections"]


def test_a_long_list_of_what_is_there_is_cut() -> None:
    (answer,) = refused("copy: [{from: {milvus: {at: old, collections: x}}}]", *"gfedcba")
    assert answer.endswith("; there are a, b, c, d, e, ...")


def test_deny_may_leave_something() -> None:
    (answer,) = refused('copy: [{from: {milvus: {at: old, collections: {deny: ["a*"]}}}}]', "a1", "a2")
    assert answer == (
        "4:34: there is nothing to copy from old: deny leaves out all that allow takes; "
        "remove a pattern of deny:, or the copy"
    )


TWO = 'copy:\n  - {from: {milvus: {at: old, collections: "a*"}}}\n  - {from: {milvus: {at: z.db, collections: a}}}\n'


def test_two_sources_of_one_collection_must_say_how_they_merge() -> None:
    (answer,) = refused(TWO, "a", "a1")
    assert answer == (
        "6:45: 'a' is made of two collections: old/a and z.db/a; "
        "say how they merge with data: of a under collections:, or rename: or deny: one of them"
    )
    assert refused(f"{TWO}collections: {{a: {{load: true}}}}", "a") == [answer]
    merged = expanded(f"{TWO}collections: {{a: {{data: [{{from: x.h5}}]}}}}", "a").collections["a"]
    assert [data.source.label for data in merged.data] == ["x.h5"]


def test_names_that_milvus_does_not_take_are_told_all_at_once() -> None:
    answers = refused(f"copy: [{{{FROM}}}]", "a-b", "fine", "1a", "é")
    assert [re.sub(r";.*", "", answer) for answer in answers] == [
        f"4:16: '{name}' cannot be the name of a collection here" for name in ("a-b", "1a", "é")
    ]
    (data,) = expanded(f'copy: [{{{FROM}, rename: "c_{{collection}}"}}]', "1a").collections["c_1a"].data
    assert data.name is None
    assert data.source.label == "old/1a"


def test_a_copy_within_a_database_does_not_copy_what_it_made() -> None:
    text = 'copy: [{from: {milvus: {at: http://new:19530%s}}, rename: "{collection}_v2"}]'
    assert list(expanded(text % "", "a", "b").collections) == ["a_v2", "b_v2"]
    (answer,) = refused(text % "", "a", "a_v2", "b")
    assert re.sub(r"^\d+:\d+: ", "", answer) == (
        "'a_v2' is what this copy makes, and it would be copied again; "
        'leave it out: deny: ["a_v2"], or a glob of all such names'
    )
    deny = ', collections: {deny: ["*_v2"]}'
    assert list(expanded(text % deny, "a", "a_v2", "b").collections) == ["a_v2", "b_v2"]


def test_an_alias_is_not_the_name_of_what_a_copy_makes() -> None:
    answers = refused(f"copy: [{{{FROM}}}]\ncollections: {{own: {{aliases: [x, a]}}}}", "a")
    assert answers == ["5:34: the alias 'a' is the name of a collection; choose another name"]


def test_mirroring_is_checked_once_copy_and_collection_are_one() -> None:
    copy = 'copy: [{from: {milvus: {at: old, where: "x > 1"}}, write: mirror, max_delete: 5}]\n'
    own = 'collections:\n  a: {scope: "x > 1"}\n  b: {write: append}\n'
    assert [c.write for c in expanded(copy + own, "a", "b").collections.values()] == ["mirror", "append"]
    answers = refused(f"{copy}{own}  d: {{scope: y, write: upsert}}\n", "a", "c", "d")
    assert [re.sub(r";.*", "", answer) for answer in answers] == [
        "4:41: mirror would delete the rows that this where leaves out",
        "8:14: scope is of write: mirror",
    ]


NAMES = st.lists(st.from_regex(r"[ab_]{1,3}", fullmatch=True), unique=True, min_size=1, max_size=5)


@given(NAMES, NAMES, st.sets(st.sampled_from(["write: upsert", "load: true", "shards: 2", "data: [{from: x.h5}]"])))
def test_every_expansion_is_the_copy_with_what_is_said_over_it(held: list[str], own: list[str], body: set[str]) -> None:
    said = ", ".join(sorted(body))
    text = f"copy: [{{{FROM}, write: skip, shards: 1}}]\ncollections: {{{', '.join(f'{n}: {{{said}}}' for n in own)}}}"
    spec = parse(text)
    whole = expand(spec, lambda _: held)
    assert list(whole.collections) == held + [name for name in own if name not in held]
    for name, made in whole.collections.items():
        assert made.write == (
            "upsert" if "write: upsert" in body and name in own else "skip" if name in held else "append"
        )
        assert made.shards == (2 if "shards: 2" in body and name in own else 1 if name in held else None)
        mine = "data: [{from: x.h5}]" in body and name in own
        assert [d.source.label for d in made.data] == (["x.h5"] if mine else [f"old/{name}"] if name in held else [])
