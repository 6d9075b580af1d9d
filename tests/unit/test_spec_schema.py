"""The JSON Schema says what the language is; every spec of the repository and of its docs is one."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from vsync.errors import SpecError
from vsync.spec import json_schema, load_spec, parse_spec
from vsync.spec.jsonschema import DIALECT
from vsync.spec.nodes import Report, compose

ROOT = Path(__file__).parents[2]
SPECS = sorted((ROOT / "specs").glob("*.yaml"))
FILL = {"version": "version: 1", "target": "target: x.db", "collections": "collections: {a: {from: x.h5}}"}


def examples(page: Path) -> list[str]:
    """The YAML of a page; what a fragment leaves out is filled in after it."""
    found = re.findall(r"^```yaml\n(.*?)^```$", page.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    return [
        text + "".join(f"{line}\n" for key, line in FILL.items() if not re.search(rf"(?m)^{key}:", text))
        for text in found
    ]


DOCS = examples(ROOT / "docs" / "spec.md")
VALIDATOR = jsonschema.Draft202012Validator(json_schema())


def plain(text: str) -> Any:
    """Read YAML as an editor does: places gone, variables still in it."""

    def bare(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: bare(node.value) for key, node in value.items()}
        return [bare(node.value) for node in value] if isinstance(value, list) else value

    root = compose(text, Report("text"))
    assert root is not None
    return bare(root.value)


def accepted(text: str) -> bool:
    return bool(VALIDATOR.is_valid(plain(text)))


def test_the_schema_is_a_schema_of_the_dialect_it_names() -> None:
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == DIALECT
    assert json.loads(json.dumps(schema)) == schema


def test_there_are_specs_and_examples() -> None:
    assert len(SPECS) >= 6
    assert len(DOCS) >= 8


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.name)
def test_specs_are_accepted_by_both_and_come_back_from_their_long_form(path: Path) -> None:
    spec = load_spec(path, environ={})
    text = path.read_text("utf-8")
    VALIDATOR.validate(plain(text))
    again = parse_spec(spec.to_yaml(), folder=spec.folder, environ={})
    assert again == spec
    assert again.digest == spec.digest
    VALIDATOR.validate(plain(spec.to_yaml()))


@pytest.mark.parametrize("text", DOCS, ids=[str(number) for number in range(len(DOCS))])
def test_examples_of_the_docs_are_accepted_by_both(text: str) -> None:
    spec = parse_spec(text, folder=Path(), environ={})
    VALIDATOR.validate(plain(text))
    assert parse_spec(spec.to_yaml(), folder=Path(), environ={}) == spec


def test_the_docs_show_the_long_form_of_their_first_example() -> None:
    assert parse_spec(DOCS[0], folder=Path(), environ={}).to_yaml() == DOCS[1]


def test_the_docs_name_every_key() -> None:
    page = (ROOT / "docs" / "spec.md").read_text("utf-8")
    named = ("CollectionSpec", "FieldSpec", "DataSpec", "IndexSpec", "Connection", "Secret")
    for name in (*named, "CopySpec", "MilvusSource", "MilvusCollections", "Names"):
        for key in json_schema()["$defs"][name]["properties"]:
            assert re.search(rf"`{key}`|`{key}:|{key}:|\b{key}\b[`,]", page), f"{name}.{key}"


@pytest.mark.parametrize(
    "text",
    [
        (
            "version: 1\ntarget: {milvus: p}\nconnections: {p: http://h:1}\ncollections: {a: , b: "
            "{partitions: {p: }, indexes: {v: }}}"
        ),
        (
            "version: 1\ntarget: x.db\ndefaults: {chunk_bytes: 1 GiB}\ncollections: {a: "
            "{partitions: [p], load: '${L:-true}'}}"
        ),
        (
            "version: 1\ntarget: {milvus: {uri: x.db, token: {cmd: [a]}}}\ncollections: {a: "
            "{from: {faiss: {path: x, allow_lossy: '${L:-true}'}}}}"
        ),
        (
            "version: 1\nx-a: 1\ntarget: x.db\ncollections: {x-b: 1, a: {x-c: 1, from: x.h5, "
            "properties: {a: 1, b: true, c: d}}}"
        ),
        (
            "version: 1\ntarget: x.db\ncollections: {a: {data: [{from: {numpy: x}, map: {a: $row, "
            "b: {const: null}, c: {const: [1]}}}]}}"
        ),
        (
            "version: 1\ntarget: x.db\nconnections: {p: http://h:1}\ncollections: {a: {from: {milvus: {at: p, "
            "collection: c, partitions: [a, b*]}}}, b: {from: {milvus: {uri: y.db, token: {env: T}, "
            "collection: c, where: 'a > 1', load_source: true, partitions: {deny: [x]}}}}, "
            "c: {write: mirror, max_delete: 5, scope: 'a > 1', accept_loss: [collection.c.field.f]}}"
        ),
        (
            "version: 1\ntarget: x.db\ncopy: [{from: {milvus: {at: {uri: y.db}, collections: 'a*', partitions: p}}, "
            "write: mirror, max_delete: 0.5%}, {from: {milvus: {at: z.db}}, rename: 'z_{collection}', "
            "load: true, properties: {a: 1}}]"
        ),
        "version: 1\ntarget: x.db\ncopy: [{from: {milvus: {at: y.db}}, rename: '${R:-a}_{collection}'}]",
        "version: 1\ntarget: x.db\ncollections: {a: {from: {milvus1: {path: x, collection: a, partitions: p}}}}",
        "version: 1\ntarget: x.db\ncollections: {a: {from: {milvus1: {path: x, collection: a, partitions: [p, q]}}}}",
        "version: 1\ntarget: x.db\ncopy: [{from: {milvus: {at: y.db}}}]\ncollections: {}",
    ],
)
def test_short_forms_are_accepted_by_both(text: str) -> None:
    assert parse_spec(text, folder=Path(), environ={})
    VALIDATOR.validate(plain(text))


@pytest.mark.parametrize(
    "text",
    [
        "version: 1\ntarget: x.db",
        "version: 2\ntarget: x.db\ncollections: {a: {from: x.h5}}",
        "version: 1\ntarget: {hdf5: {folder: x}}\ncollections: {a: {from: x.h5}}",
        "version: 1\ntarget: x.db\ncollections: {}",
        "version: 1\ntarget: x.db\ncopy: []\ncollections: {a: {from: x.h5}}",
        "version: 1\ntarget: x.db\ncopy: [{write: append}]",
        "version: 1\ntarget: x.db\ncopy: [{from: x.h5}]",
        "version: 1\ntarget: x.db\ncopy: [{from: {milvus: {}}}]",
        "version: 1\ntarget: x.db\ncopy: [{from: {milvus: {at: y.db, collection: a}}}]",
        "version: 1\ntarget: x.db\ncopy: [{from: {milvus: {at: y.db, collections: []}}}]",
        "version: 1\ntarget: x.db\ncopy: [{from: {milvus: {at: y.db}}, rename: x}]",
        "version: 1\ntarget: x.db\ncopy: [{from: {milvus: {at: y.db}}, fields: {}}]",
        "version: 1\ntarget: x.db\ncollections: {a: {from: {milvus: {at: y.db}}}}",
        "version: 1\ntarget: x.db\ncollections: {a: {from: {milvus: {at: y.db, uri: z.db, collection: a}}}}",
        "version: 1\ntarget: x.db\ncollections: {a: {from: {milvus: {uri: y.db, token: secret, collection: b}}}}",
        "version: 1\ntarget: x.db\ncollections: {a: {from: {milvus: {at: y.db, collection: b, name: x}}}}",
        "version: 1\ntarget: x.db\ncollections: {a: {write: mirror, max_delete: lots}}",
        "version: 1\ntarget: x.db\ncollections: {a-b: {from: x.h5}}",
        "version: 1\ntarget: x.db\ncollections: {a: {from: x.h5, data: []}}",
        "version: 1\ntarget: x.db\ncollections: {a: {frm: x.h5}}",
        "version: 1\ntarget: x.db\ncollections: {a: {from: {milvus: x}}}",
        "version: 1\ntarget: x.db\ncollections: {a: {from: {hdf5: {path: x, allow_lossy: true}}}}",
        "version: 1\ntarget: x.db\ncollections: {a: {from: {milvus1: x}}}",
        "version: 1\ntarget: x.db\ncollections: {a: {from: {milvus1: {path: x, collection: a, partitions: [1]}}}}",
        "version: 1\ntarget: x.db\ncollections: {a: {write: miror}}",
        "version: 1\ntarget: x.db\ncollections: {a: {shards: 0}}",
        'version: 1\ntarget: x.db\ncollections: {a: {shards: "2"}}',
        "version: 1\ntarget: x.db\ncollections: {a: {fields: {id: {type: int65, primary: true}}}}",
        "version: 1\ntarget: x.db\ncollections: {a: {fields: {v: {type: float_vector, dim: 0}}}}",
        "version: 1\ntarget: x.db\nconnections: {p: {uri: y.db, token: secret}}\ncollections: {a: }",
        "version: 1\ntarget: x.db\ndefaults: {chunk_bytes: big}\ncollections: {a: }",
        "version: 1\ntarget: x.db\ncollections: {a: {data: [{from: x.h5, map: {a: {cnst: 1}}}]}}",
    ],
)
def test_what_the_language_refuses_in_shape_the_schema_refuses_too(text: str) -> None:
    with pytest.raises(SpecError):
        parse_spec(text, folder=Path(), environ={})
    assert not accepted(text)


def test_reading_a_spec_loads_no_vendor_library() -> None:
    program = """
import sys
from vsync.spec import load_spec
load_spec(sys.argv[1], environ={})
loaded = {name.partition(".")[0] for name in sys.modules}
print(*loaded & {"pyarrow", "numpy", "pymilvus", "h5py", "faiss", "grpc"})
"""
    run = [sys.executable, "-c", program, str(ROOT / "specs" / "simple.yaml")]
    assert subprocess.run(run, check=True, capture_output=True, text=True, cwd=ROOT).stdout.strip() == ""
