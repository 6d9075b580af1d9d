"""Every mistake, at its place, in plain words: a spec, and the lines it is answered with."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from vsync.errors import SpecError
from vsync.spec import parse_spec

HEAD = "version: 1\ntarget: x.db\n"
COLLECTION = f"{HEAD}collections:\n  c:\n"
FIELDS = f"{COLLECTION}    fields:\n      id: {{type: int64, primary: true}}\n"


def problems(text: str, environ: dict[str, str] | None = None) -> list[str]:
    try:
        parse_spec(text, folder=Path(), environ=environ or {})
    except SpecError as error:
        return [str(problem).removeprefix("vsync.yaml:") for problem in error.problems]
    return []


def field(line: str) -> str:
    return f"{FIELDS}      f: {line}\n"


TRAPS = [
    ("on", 'an unquoted on is true to some YAML readers; write true, or quote it if it is text: "on"'),
    ("Off", 'an unquoted Off is false to some YAML readers; write false, or quote it if it is text: "Off"'),
    (
        "012",
        (
            "an unquoted 012 is an octal number to some YAML readers; write the decimal number, "
            'or quote it if it is text: "012"'
        ),
    ),
    (
        "12:30",
        'an unquoted 12:30 is a number in base 60 to some YAML readers; quote it if it is text: "12:30"',
    ),
    (
        "2024-05-01",
        'an unquoted 2024-05-01 is a date to some YAML readers; quote it if it is text: "2024-05-01"',
    ),
    (
        "*_tmp",
        ('an unquoted * begins an alias, and there is no anchor &_tmp before it; quote it if it is text: "*_tmp"'),
    ),
    ("!!binary x", "!!binary is a YAML tag, and a spec has none; quote it if it is text"),
    (
        "1_000",
        ('an unquoted 1_000 is a number to some YAML readers; write it without _, or quote it if it is text: "1_000"'),
    ),
    (".nan", 'an unquoted .nan is not a finite number; quote it if it is text: ".nan"'),
    ("5", 'this must be text, and 5 is none; quote it: "5"'),
    ("true", 'this must be text, and true is none; quote it: "true"'),
    ("", "there is nothing written here; write a value, or remove the key"),
]


@pytest.mark.parametrize(("word", "answer"), TRAPS, ids=[word for word, _ in TRAPS])
def test_traps_of_yaml_where_text_is_wanted(word: str, answer: str) -> None:
    column = 18 if word else 5
    assert problems(f"{COLLECTION}    description: {word}\n") == [f"5:{column}: {answer}"]


@pytest.mark.parametrize("word", ["on", "012", "12:30", "2024-05-01", "5", "~", "true"])
def test_traps_of_yaml_as_keys(word: str) -> None:
    (answer,) = problems(f"{HEAD}collections:\n  {word}: {{from: x.h5}}\n  d: {{from: x.h5}}\n")
    assert answer.startswith("4:3: ")
    assert f'quote it if it is text: "{word}"' in answer


SYNTAX = [
    ("", "1:1: the file is empty; begin with version: 1, target: and collections:"),
    ("[]", "1:1: a spec is a mapping; begin with version: 1, target: and collections:"),
    ("a:\n\t- b", "2:1: a tab cannot indent; use spaces"),
    (
        "a: b: c",
        "1:5: a ': ' cannot stand here; quote the text that holds it, or start a new line for the key",
    ),
    ("a: @x", "1:4: text cannot begin with @; quote it"),
    ("a: *.h5", '1:5: an unquoted * or & begins an alias or anchor; quote it if it is text: "*"'),
    ("a: 'x", "1:6: a quoted text does not end; close it with the quote it begins with"),
    (
        "a: {b: ${X}}",
        '1:9: a { } is not closed, or a , is missing in it; quote text that has braces: "${NAME}"',
    ),
    (
        "é: \x01",
        (
            "1:4: a control character cannot stand in YAML; it is not visible: remove it, "
            "or write it as an escape in double quotes"
        ),
    ),
    ("[" * 500, "1:51: this is nested more than 50 levels deep"),
]


@pytest.mark.parametrize(("text", "answer"), SYNTAX, ids=[text[:12] for text, _ in SYNTAX])
def test_what_is_not_yaml_is_explained(text: str, answer: str) -> None:
    assert problems(text) == [answer]


WHOLE = [
    (
        "target: x.db\ncollections: {a: {from: x.h5}}",
        ["1:1: 'version' is missing; begin the spec with version: 1"],
    ),
    (
        "version: 2\ntarget: x.db\ncollections: {}",
        [
            "1:10: this vsync reads version 1 of the language, not 2; write version: 1",
            "3:1: there are no collections; write collections: {NAME: {from: PATH}}",
        ],
    ),
    (
        "version: 1\ntarget: x.db\ncolections: {}",
        ["3:1: unknown key 'colections' in a spec; did you mean collections?"],
    ),
    (
        f"{HEAD}copy:\n  - {{from: {{milvus: {{at: old}}}}}}",
        ["4:26: there is no connection 'old'; write an address, or name one under connections:"],
    ),
    (
        f"{HEAD}version: 1\ncollections: {{a: {{from: x.h5}}}}",
        ["3:1: the key 'version' is written twice; it is written at line 1 already"],
    ),
    (
        f"{HEAD}collections: {{a-b: {{from: x.h5}}}}",
        [
            (
                "3:15: 'a-b' cannot be the name of a collection; a name has letters, digits and _, "
                "begins with no digit, and has 255 characters at the most"
            )
        ],
    ),
    (
        f"{HEAD}defaults: {{chunk_bytes: 16XB}}\ncollections: {{a: {{from: x.h5}}}}",
        ["3:25: this must be a size, not '16XB'; write a number of bytes, or a size such as 16MiB or 16MB"],
    ),
    (
        f"{HEAD}defaults: {{chunk_bytes: 0}}\ncollections: {{a: {{from: x.h5}}}}",
        ["3:25: 0 does not fit here; it must be at least 1"],
    ),
    (f"{HEAD}collections: [a]", ["3:1: this must be a mapping, not a list; write {NAME: ...}"]),
]


@pytest.mark.parametrize(("text", "answers"), WHOLE)
def test_the_whole(text: str, answers: list[str]) -> None:
    assert problems(text) == answers


LITE_HINT = "write http://HOST:19530 for a server; the path of a Milvus Lite file ends in .db: ./NAME.db"
FORMS = "write {env: NAME}, {file: PATH} or {cmd: [PROGRAM, ARGUMENT, ...]}"
TARGETS = [
    ("./words", f"2:9: './words' is not the address of a Milvus; {LITE_HINT}"),
    ("localhost:19530", f"2:9: 'localhost:19530' is not the address of a Milvus; {LITE_HINT}"),
    (
        "tcp://h:1",
        "2:9: 'tcp://h:1' is not the address of a Milvus; write http://HOST:19530 or https://HOST:19530",
    ),
    (
        "http://h:99999",
        "2:9: 'http://h:99999' is not the address of a Milvus; write http://HOST:19530 or https://HOST:19530",
    ),
    ("http://h:1/db", "2:9: an address ends with its port; name the database with database: NAME"),
    ("~/x.db", '2:9: ~ is not your home folder here; write "${HOME}/NAME.db"'),
    (
        "prod",
        "2:9: a target in one word is an address, and 'prod' is a connection; write target: {milvus: prod}",
    ),
    ("{milvus: x.db, name: y}", "2:24: unknown key 'name'; write target: {milvus: NAME}"),
    ("{milvus: prd}", "2:18: there is no connection 'prd'; did you mean prod?"),
    ("{milvus: {token: {env: T}}}", "2:10: 'uri' is missing; write uri: http://HOST:19530"),
    (
        "{milvus: {uri: x.db, user: u}}",
        "2:30: unknown key 'user' in a connection; it knows uri, token, database",
    ),
    ("{uri: x.db}", "2:10: a target's first key is its kind; write target: {milvus: {uri: ...}}"),
    ("{hdf5: {compression: zstd}}", "2:10: 'path' is missing; write {hdf5: {path: PATH}}"),
    ("{hdf5: {path: x, compression: zst}}", "2:39: 'zst' is not known here; did you mean zstd?"),
    (
        "{hdf5: {path: x, compresion: zstd}}",
        "2:26: unknown key 'compresion' in a target of kind hdf5; did you mean compression?",
    ),
    ("{hdf5: s3://b}", "2:16: 's3://b' is not a path of this machine; this release reads files of this machine only"),
    (
        "{hdf5: x, milvus: y.db}",
        "2:19: a target has one key, its kind: there is hdf5 already; remove milvus:, or hdf5:",
    ),
    ("{backup: {repo: x}}", "2:10: 'path' is missing; write {backup: {path: PATH}}"),
    ("{backup: s3:///x}", "2:18: 's3:///x' names no bucket; write s3://BUCKET or s3://BUCKET/PREFIX"),
    (
        "{milvus: {uri: http://h:1, database: a-b}}",
        (
            "2:46: 'a-b' cannot be the name of a database; a name has letters, digits and _, "
            "begins with no digit, and has 255 characters at the most"
        ),
    ),
    ("{milvus: {uri: x.db, token: {}}}", f"2:30: a secret is had from exactly one place; {FORMS}"),
    ("{milvus: {uri: x.db, token: {evn: T}}}", "2:38: unknown key 'evn' in a token; did you mean env?"),
]


@pytest.mark.parametrize(("target", "answer"), TARGETS, ids=[target for target, _ in TARGETS])
def test_targets(target: str, answer: str) -> None:
    rest = "connections: {prod: http://prod:19530}\ncollections: {a: {from: x.h5}}\n"
    assert problems(f"version: 1\ntarget: {target}\n{rest}") == [answer]


SECRETS = [
    (
        "{uri: 'http://me:hunter2@h:1'}",
        "an address holds no user and password; give them with token: {env: NAME}, as user:password",
    ),
    ("me:hunter2@h:1", f"this is not the address of a Milvus; {LITE_HINT}"),
    ("{uri: x.db, token: hunter2}", f"a token is not written into a spec; {FORMS}"),
    ('{uri: x.db, token: "${HUNTER}"}', f"a token is not written into a spec; {FORMS}"),
    ('{uri: x.db, token: "${UNSET}"}', f"a token is not written into a spec; {FORMS}"),
    ("{uri: x.db, token: [hunter2]}", f"a token is not written into a spec; {FORMS}"),
    (
        "{uri: x.db, token: {env: 'me:hunter2'}}",
        "env: is the name of a variable, not its value; a name has letters, digits and _",
    ),
    (
        '{uri: "${ADDRESS}"}',
        "an address holds no user and password; give them with token: {env: NAME}, as user:password",
    ),
    ('{uri: "${HUNTER}"}', f"'${{HUNTER}}' is not the address of a Milvus; {LITE_HINT}"),
]


@pytest.mark.parametrize(("connection", "answer"), SECRETS, ids=[c for c, _ in SECRETS])
def test_secrets_are_refused_and_never_repeated(connection: str, answer: str) -> None:
    environ = {"HUNTER": "hunter2", "ADDRESS": "http://me:hunter2@h:1"}
    (said,) = problems(f"{HEAD}connections: {{prod: {connection}}}\ncollections: {{a: {{from: x.h5}}}}\n", environ)
    assert re.sub(r"^\d+:\d+: ", "", said) == answer
    assert "hunter2" not in said


def test_a_variable_s_value_is_not_repeated_where_a_number_is_wanted() -> None:
    said = problems(f'{COLLECTION}    shards: "${{HUNTER}}"\n', {"HUNTER": "hunter2"})
    assert said == ["5:13: this must be a whole number, not '${HUNTER}'"]


BODIES = [
    ("fields: {}", ["5:5: there are no fields; remove fields: to have them found from the data"]),
    (
        "fields: {a: {type: int64}}",
        ["5:5: no field is the primary key; give one field of type int64 or varchar primary: true"],
    ),
    (
        "fields: {a: {type: int64, primary: true}, b: {type: int64, primary: true}}",
        ["5:73: 'b' is a second primary key, and 'a' is one already; one field of a collection can be it"],
    ),
    ("fields: {a: {typ: int64, primary: true}}", ["5:18: unknown key 'typ' in a field; did you mean type?"]),
    ("fields: {a: int64}", ["5:17: this must be a mapping, not 'int64'; a field is written as {key: value}"]),
    ("feilds: {}", ["5:5: unknown key 'feilds' in a collection; did you mean fields?"]),
    ("dim: 5", ["5:5: unknown key 'dim' in a collection; it belongs to a field"]),
    ("map: {a: b}", ["5:5: unknown key 'map' in a collection; it belongs to an item of data"]),
    ("write: miror", ["5:12: 'miror' is not known here; did you mean mirror?"]),
    ("write: apend", ["5:12: 'apend' is not known here; did you mean append?"]),
    ("on_collision: renumbr", ["5:19: 'renumbr' is not known here; did you mean renumber?"]),
    (
        "{on_collision: prefix, fields: {a: {type: int64, primary: true}}}",
        [
            (
                "4:21: a prefix is put before varchar keys, and 'a' is int64; "
                "make the key varchar, or write renumber with auto_id: true, first or last"
            )
        ],
    ),
    (
        "{on_collision: prefix, fields: {a: {type: int64, primary: true, auto_id: true}}}",
        [
            (
                "4:21: the server makes the keys in 'a' (auto_id), so that there is nothing to put a prefix before; "
                "write renumber, or remove auto_id: of the field"
            )
        ],
    ),
    (
        "{on_collision: renumber, fields: {a: {type: int64, primary: true}}}",
        [("4:21: nothing makes new keys: 'a' is not auto_id; give a auto_id: true, or write prefix, first or last")],
    ),
    ("{on_collision: renumber, fields: {a: {type: int64, primary: true, auto_id: true}}}", []),
    (
        "{on_collision: prefix, from: a.h5}",
        [("4:35: this item has no name to put before its keys; give it a name:, which is then part of every key")],
    ),
    (
        "{on_collision: prefix, data: [{from: {milvus: {uri: x.db, collection: a}}}, {name: a, from: b.h5}]}",
        ["4:98: two items of data would put 'a:' before their keys; give each a name: of its own"],
    ),
    ("max_delete: 5%", ["5:17: max_delete is of write: mirror; write write: mirror, or remove max_delete:"]),
    ('load: "true"', ["5:11: this must be true or false, not 'true'; remove the quotes"]),
    ('shards: "2"', ["5:13: this must be a whole number, not '2'; remove the quotes"]),
    ("shards: 0", ["5:13: 0 does not fit here; it must be at least 1"]),
    ("consistency: eventual", ["5:18: 'eventual' is not known here; did you mean eventually?"]),
    ("num_partitions: 4", []),
    (
        "{num_partitions: 4, fields: {a: {type: int64, primary: true}}}",
        [
            (
                "4:23: num_partitions is of a collection with a partition key; "
                "give a field partition_key: true, or remove it"
            )
        ],
    ),
    ("partitions: [a, a]", ["5:21: the partition 'a' is written twice"]),
    (
        "partitions: [_default]",
        ["5:18: _default is Milvus's own partition; it is always there: remove it; into: _default works"],
    ),
    ("partitions: {a: {wrte: append}}", ["5:22: unknown key 'wrte' in a partition; did you mean write?"]),
    (
        "aliases: [c, x, x]",
        [
            "5:15: the alias 'c' is the name of a collection; choose another name",
            (
                "5:21: collection c has the alias 'x' already; an alias stands for one collection: "
                "remove it in one place"
            ),
        ],
    ),
    ("aliases: x", ["5:14: this must be a list, not 'x'; write [a, b]"]),
    ("indexes: {v: {metric: hammin}}", ["5:27: 'HAMMIN' is not a metric; did you mean HAMMING?"]),
    (
        "indexes: {v: {params: {metric_type: L2}}}",
        ["5:28: metric_type is not a parameter; write metric: beside params:"],
    ),
    ("indexes: {v: {params: {M: [1]}}}", ["5:28: this must be one value, not a list"]),
    ("properties: {a: {}}", ["5:18: this must be one value, not a mapping"]),
]


@pytest.mark.parametrize(("body", "answers"), BODIES, ids=[body for body, _ in BODIES])
def test_collections(body: str, answers: list[str]) -> None:
    text = f"{COLLECTION[:-1]} {body}\n" if body.startswith("{") else f"{COLLECTION}    {body}\n"
    assert problems(text) == answers


ROLES = [
    ("{type: vector}", ["7:17: 'vector' is not a type of a field; did you mean int8_vector?"]),
    ("{type: float_vector}", ["7:7: 'f' has no dim; write dim: 768, or what it is"]),
    ("{type: float_vector, dim: 0}", ["7:36: 0 does not fit here; it must be at least 1"]),
    ("{type: float_vector, dim: 40000}", ["7:36: 40000 does not fit here; it must be at most 32768"]),
    ("{type: float_vector, dimm: 4}", ["7:31: unknown key 'dimm' in a field; did you mean dim?"]),
    (
        "{type: binary_vector, dim: 12}",
        ["7:37: the dim of a binary vector is a multiple of 8, and 12 is not; it counts bits: write 16"],
    ),
    (
        "{type: sparse_float_vector, dim: 4}",
        ["7:43: a field of type sparse_float_vector has no dim; remove it"],
    ),
    ("{type: varchar}", ["7:7: 'f' has no max_length; write max_length: 256, or what it is"]),
    ("{type: varchar, max_length: 70000}", ["7:38: 70000 does not fit here; it must be at most 65535"]),
    (
        "{type: array, element: json}",
        [
            "7:7: 'f' has no max_capacity; write max_capacity: 100, or what it is",
            (
                "7:33: an array cannot hold json; it holds one of int8, int16, int32, int64, float, double, "
                "bool, varchar"
            ),
        ],
    ),
    (
        "{type: array, element: varchar, max_capacity: 4}",
        ["7:7: 'f' has no max_length; write max_length: 256, or what it is"],
    ),
    ("{type: int8, max_length: 4}", ["7:35: a field of type int8 has no max_length; remove it"]),
    ("{type: int8, default: 128}", ["7:32: 128 does not fit into int8; it takes -128 to 127"]),
    ("{type: int8, default: x}", ["7:32: this must be a whole number, not 'x'"]),
    (
        "{type: timestamptz, default: noon}",
        [
            (
                "7:39: 'noon' is no point in time such as 2025-05-01T23:59:59Z or 2025-05-01T23:59:59.25+08:00; "
                "write it with its offset from UTC"
            )
        ],
    ),
    ("{type: geometry, max_length: 9}", ["7:39: a field of type geometry has no max_length; remove it"]),
    ("{type: json, default: {}}", ["7:23: a field of type json has no default; remove it"]),
    (
        "{type: varchar, max_length: 2, default: äh}",
        ["7:50: the default has more than the 2 bytes of max_length"],
    ),
    (
        "{type: int64, auto_id: true}",
        ["7:33: auto_id is of the primary key; give the field primary: true, or remove auto_id:"],
    ),
    (
        "{type: float, partition_key: true}",
        ["7:39: 'f' cannot be the partition key: it is float; a partition key is int64 or varchar"],
    ),
    (
        "{type: bool, clustering_key: true}",
        ["7:39: 'f' cannot be the clustering key: it is bool; a clustering key is a number or varchar"],
    ),
]


@pytest.mark.parametrize(("line", "answers"), ROLES, ids=[line for line, _ in ROLES])
def test_fields(line: str, answers: list[str]) -> None:
    assert problems(field(line)) == answers


def test_a_primary_key_has_rules_of_its_own() -> None:
    text = (
        f"{COLLECTION}    fields:\n      id: {{type: int32, primary: true, nullable: true, "
        f"default: 5, partition_key: true}}\n"
    )
    assert [p.partition(";")[0] for p in problems(text)] == [
        "6:18: 'id' cannot be the primary key: it is int32",
        "6:50: a primary key is never null",
        "6:65: a primary key has no default",
        "6:83: a primary key is not the partition key too",
    ]


DATA = [
    ("{from: data/}", "the kind of 'data/' cannot be told from its ending"),
    ("{from: {fais: x}}", "'fais' is not a kind of source; did you mean faiss?"),
    (
        "{from: {faiss: {path: x, alow_lossy: true}}}",
        "unknown key 'alow_lossy' in a source of kind faiss; did you mean allow_lossy?",
    ),
    ("{from: {faiss: {path: x, allow_lossy: 1}}}", "this must be true or false, not 1"),
    ("{from: {faiss: {allow_lossy: true}}}", "'path' is missing; write {faiss: {path: PATH}}"),
    ("{from: {milvus1: x}}", "'collection' is missing; write {milvus1: {path: PATH, collection: COLLECTION}}"),
    ("{from: {milvus1: {path: x, collection: 1}}}", "this must be text, and 1 is none"),
    ("{from: {milvus1: {path: x, collection: c, partitions: [2021]}}}", "this must be text, and 2021 is none"),
    ("{from: {milvus1: {path: x, collection: c, partitions: {a: b}}}}", "this must be text, not a mapping"),
    ("{from: {milvus: {at: old, collection: x}}}", "there is no connection 'old'; write an address"),
    ("{from: {backup: x}}", "this must be a mapping; write {backup: {repo: PATH, collection: NAME}}"),
    ("{from: {hdf5: x, faiss: y}}", "a source has one key, its kind"),
    ("{from: {hdf5: s3://b/x}}", "'s3://b/x' is not a path of this machine"),
    ("{from: [x]}", "this must be a path or {KIND: PATH}, not a list; write from: PATH"),
    ("{source: x.h5}", "unknown key 'source'; did you mean from?"),
    ("{name: x}", "'from' is missing; write from: PATH"),
    ("5", "this must be a mapping, not 5; an item of data is written as {key: value}"),
    ("{from: x.h5, into: q}", "there is no partition 'q'; write one of the partitions: part"),
    ("{from: x.h5, into: prt}", "there is no partition 'prt'; did you mean part?"),
    ("{from: x.h5, map: {}}", "this map is empty"),
    ("{from: x.h5, map: {vex: v}}", "there is no field 'vex' to fill; did you mean vec?"),
    ("{from: x.h5, map: {vec: $rows}}", "'$rows' is not known here; the words with $ are $row, the number of the row"),
    ("{from: x.h5, map: {vec: $meta.}}", "'$meta.' is not known here; the words with $ are $row"),
    ("{from: x.h5, map: {$meta: {}}}", "no key of the dynamic field is written here; write {KEY: COLUMN}"),
    (
        "{from: x.h5, map: {$meta: {a: {b: c}}}}",
        "this must say where the field's values are, and this mapping does not",
    ),
    ("{from: x.h5, map: {$meta: {vec: c}}}", "'vec' is a field, and no key of the dynamic field can have its name"),
    (
        "{from: x.h5, map: {vec: {cnst: 1}}}",
        "this must say where the field's values are, and this mapping does not",
    ),
    ("{from: x.h5, map: {id: ids}}", "the server makes the values of 'id' (auto_id)"),
]


@pytest.mark.parametrize(("item", "answer"), DATA, ids=[item for item, _ in DATA])
def test_data(item: str, answer: str) -> None:
    text = (
        f"{COLLECTION}    fields:\n      id: {{type: int64, primary: true, auto_id: true}}\n"
        f"      vec: {{type: float_vector, dim: 4}}\n    partitions: [part]\n    data:\n      - {item}\n"
    )
    (said,) = problems(text)
    assert said.startswith("10:")
    assert re.sub(r"^\d+:\d+: ", "", said).startswith(answer)


def test_rows_of_a_partition_key_have_no_partition_to_go_into() -> None:
    text = (
        f"{FIELDS}      k: {{type: int64, partition_key: true}}\n"
        "    partitions: [p]\n    data: [{from: x.h5, into: p}]\n"
    )
    assert problems(text) == [
        (
            "8:5: a collection with the partition key 'k' has no partitions of its own; remove "
            "partitions:, or partition_key:"
        ),
        "9:31: rows find their partition by the partition key 'k'; remove into:",
    ]


def test_from_and_data_exclude_each_other() -> None:
    said = problems(f"{COLLECTION}    from: x.h5\n    data: [{{from: y.h5}}]\n")
    assert said == ["5:5: from: and data: say the same thing twice; move from: into data:"]


def test_every_problem_is_told_at_once_in_the_order_of_the_text() -> None:
    text = """\
version: 1
connections:
  prod: {uri: ./x, token: secret}
target: {milvus: prd}
collections:
  words:
    fields:
      id: {type: int64, primary: true}
      vec: {type: flaot_vector, dim: 012}
      note: {type: varchar}
    indexes:
      vek: {type: HNSW}
    on_colision: error
    data:
      - {name: p, from: data/x.h5}
      - {name: p, from: data/y.h5, into: 7}
  on:
"""
    places = [re.match(r"\d+:\d+", p) for p in problems(text)]
    assert [match[0] for match in places if match] == [
        "3:15",
        "3:27",
        "4:18",
        "9:19",
        "9:38",
        "10:7",
        "12:7",
        "13:5",
        "16:16",
        "16:42",
        "17:3",
    ]


def test_a_mistake_within_an_anchor_is_told_once_where_it_is_written() -> None:
    text = (
        f"{HEAD}x-f: &f {{id: {{type: int65, primary: true}}}}\ncollections: {{a: {{fields: *f}}, b: {{fields: *f}}}}\n"
    )
    assert problems(text) == ["3:21: 'int65' is not a type of a field; did you mean int64?"]


def test_anchors_that_multiply_are_refused_and_not_written_out() -> None:
    rows = ["a0: &a0 [x]"] + [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)]
    assert "6:5: this is too large or too deep once its anchors are written out" in problems("\n".join(rows))


YAMLISH = st.text(alphabet=st.sampled_from("abv:1 \n-{}[]&*!#|>'\"%@,?~$\t\\0é"), max_size=60)


@given(st.one_of(YAMLISH, st.text(max_size=40), YAMLISH.map(lambda t: f"{HEAD}collections:\n  a: {t}")))
@example("&a [*a]")
@example("? {a: b}\n: c")
@example("\ud800")
@example('a: "\\0"')
def test_no_text_makes_anything_but_a_spec_or_its_problems(text: str) -> None:
    for said in problems(text):
        assert re.match(r"\d+:\d+: \S", said)


VALUES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(max_size=8),
        st.sampled_from(["int64", "$row", "x.h5"]),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=6), inner, max_size=3)),
    max_leaves=6,
)
PATHS = [
    "",
    "target",
    "target.milvus",
    "connections.p",
    "connections.p.token",
    "defaults",
    "collections",
    "collections.c",
]
PATHS += [f"collections.c.{p}" for p in ("fields", "fields.id", "partitions", "indexes.v", "data", "aliases", "from")]
PATHS += [f"collections.c.data.0.{p}" for p in ("from", "map", "map.id", "into", "from.faiss")]


@given(st.sampled_from(PATHS), VALUES)
def test_no_value_at_any_place_makes_anything_but_a_spec_or_its_problems(path: str, value: object) -> None:
    spec: dict[str, object] = {"version": 1, "target": "x.db", "collections": {"c": {}}}
    for step in reversed(path.split(".") if path else []):
        value = [value] if step == "0" else {step: value}
    merged = {**spec, **value} if isinstance(value, dict) else value
    for said in problems(json.dumps(merged, default=str)):
        assert "Input should" not in said
        assert re.match(r"\d+:\d+: \S", said)


def test_files_make_no_new_keys() -> None:
    answer = "nothing makes new keys in a target of kind hdf5; write prefix, first or last, or copy into a Milvus"
    head = "version: 1\ntarget: {hdf5: x}\n"
    body = "{fields: {a: {type: int64, primary: true}}, on_collision: renumber}"
    assert problems(f"{head}collections:\n  c: {body}\n") == [f"4:64: {answer}"]
    copy = "{on_collision: renumber, from: {milvus: {at: old.db}}}"
    assert problems(f"{head}copy:\n- {copy}\n") == [f"4:18: {answer}"]
    assert problems(f"{head}copy:\n- {copy.replace('renumber', 'prefix')}\n") == []
