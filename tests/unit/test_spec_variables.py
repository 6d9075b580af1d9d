"""Values from outside: ``${NAME}``, the file of variables, secrets."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from vsync.errors import SpecError
from vsync.spec import Connection, Secret, Spec, load_spec, load_variables, parse_spec


def milvus(spec: Spec) -> Connection:
    assert spec.target.connection is not None
    return spec.target.connection


def path_of(written: str, variables: dict[str, str] | None = None, environ: dict[str, str] | None = None) -> str:
    text = f'version: 1\ntarget: x.db\ncollections: {{a: {{from: {{hdf5: "{written}"}}}}}}\n'
    spec = parse_spec(text, folder=Path(), variables=variables or {}, environ=environ or {})
    return spec.collections["a"].data[0].source.label


def refused(written: str, **variables: str) -> str:
    with pytest.raises(SpecError) as error:
        path_of(written, variables)
    (problem,) = error.value.problems
    return str(problem)


@pytest.mark.parametrize(
    ("written", "filled"),
    [
        ("${A}.h5", "one.h5"),
        ("${A}${B}", "onetwo"),
        ("${C:-three}", "three"),
        ("${C:-}x", "x"),
        ("${EMPTY:-three}", "three"),
        ("x${EMPTY}", "x"),
        ("${A:-three}", "one"),
        ("${C:-a:-b}", "a:-b"),
        ("$${A}", "${A}"),
        ("$$${A}", "$${A}"),
        ("$A and $", "$A and $"),
        ("${LOOP}", "${A}"),
    ],
)
def test_variables_are_put_in(written: str, filled: str) -> None:
    environ = {"A": "from the environment", "B": "two", "EMPTY": "", "LOOP": "${A}"}
    assert path_of(written, {"A": "one"}, environ) == filled


NOT_ONE = "is not a variable; write ${NAME} or ${NAME:-default}; ${ itself is written $${"
NOT_SET = "set it in the environment, or write"


@pytest.mark.parametrize(
    ("written", "problem"),
    [
        (
            "${GLOVE}",
            f"the variable GLOVE is not set; give it with --var GLOVE=VALUE, {NOT_SET} ${{GLOVE:-DEFAULT}}",
        ),
        (
            "${FOLDR}",
            (
                "the variable FOLDR is not set; did you mean FOLDER? Or give it with --var FOLDR=VALUE, "
                f"{NOT_SET} ${{FOLDR:-DEFAULT}}"
            ),
        ),
        ("${A B}", f"'${{A B}}' {NOT_ONE}"),
        ("${}", f"'${{}}' {NOT_ONE}"),
        ("${A", f"'${{A' {NOT_ONE}"),
        ("${A:-${B}}", f"'${{A:-${{B}}' {NOT_ONE}"),
        ("${HALF}", "the value of the variable HALF is not text; it must be UTF-8"),
    ],
)
def test_what_is_not_a_variable_is_a_problem_at_its_place(written: str, problem: str) -> None:
    assert refused(written, FOLDER="x", HALF="\udc80") == f"vsync.yaml:3:32: {problem}"


def test_variables_become_what_is_wanted_where_they_stand() -> None:
    text = """\
version: 1
connections: {dev: ./dev.db, prod: "${URI}"}
target: {milvus: "${STAGE:-dev}"}
defaults: {chunk_bytes: "${CHUNK:-8}MiB"}
collections:
  a:
    fields:
      id: {type: "${KEY:-int64}", primary: true}
      v: {type: float_vector, dim: "${DIM:-64}"}
      b: {type: bool, default: "${B:-true}"}
      i: {type: int8, default: "${I:--7}"}
      d: {type: double, default: "${D:-2.5}"}
      s: {type: varchar, max_length: 9, default: "${S:-012}"}
    shards: ${SHARDS:-2}
    load: "${LOAD:-false}"
    write: "${WRITE:-upsert}"
    data:
      - from: "${DATA:-data}/x.h5"
        map: {id: "${ROW:-$row}", s: {const: "${YEAR:-2024}"}}
      - from: {faiss: {path: "${DATA:-data}", allow_lossy: "${LOSSY:-true}"}}
"""
    given = {"STAGE": "prod", "URI": "http://h:1", "DIM": "128", "LOAD": "True"}
    spec = parse_spec(text, folder=Path(), variables=given, environ={"CHUNK": "4", "DIM": "1"})
    a = spec.collections["a"]
    assert a.fields is not None
    assert milvus(spec).uri == "http://h:1"
    assert spec.defaults.chunk_bytes == 4 * 2**20
    assert a.fields["v"].dim == 128
    assert [f.default for f in a.fields.values()] == [None, None, True, -7, 2.5, "012"]
    assert (a.shards, a.load, a.write) == (2, True, "upsert")
    assert a.data[0].source.label == "data/x.h5"
    assert a.data[1].source.long() == {"faiss": {"path": "data", "allow_lossy": True}}
    assert a.data[0].map is not None
    assert [m.long() for m in a.data[0].map.values()] == ["$row", {"const": "2024"}]
    for value in (milvus(spec).uri, a.data[0].source.label, a.write):
        assert type(value) is str


def test_keys_are_not_touched_and_values_cannot_change_the_structure() -> None:
    text = 'version: 1\ntarget: x.db\ncollections: {a: {properties: {"${K}": "${V}"}}}\n'
    spec = parse_spec(text, folder=Path(), variables={"V": "x, b: {y: z}"}, environ={})
    assert spec.collections["a"].properties == {"${K}": "x, b: {y: z}"}


def test_variables_of_what_is_not_used_are_not_asked_for() -> None:
    text = 'version: 1\nx-later: "${UNSET}"\ntarget: x.db\ncollections: {a: {from: x.h5, x-b: "${UNSET}"}}\n'
    assert parse_spec(text, folder=Path(), environ={}).collections


def test_a_file_of_variables(tmp_path: Path) -> None:
    file = tmp_path / "prod.yaml"
    file.write_text('URI: http://h:1\nSHARDS: 4\nRATIO: 1.50\nFLAG: true\nTEXT: "012"\nREF: "${NOT_FILLED}"\n')
    assert load_variables(file) == {
        "URI": "http://h:1",
        "SHARDS": "4",
        "RATIO": "1.50",
        "FLAG": "true",
        "TEXT": "012",
        "REF": "${NOT_FILLED}",
    }


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ("[a]", ["1:1: a file of variables is a mapping; write lines such as NAME: value"]),
        (
            "A: [1]\nB:\nC-D: 1\nE: 012\nE: 1",
            [
                "1:1: the value of A must be text or a number; write A: value",
                "2:1: the value of B must be text or a number; write B: value",
                "3:1: 'C-D' cannot be the name of a variable; use letters, digits and _",
                (
                    "4:4: an unquoted 012 is an octal number to some YAML readers; write the decimal number, "
                    'or quote it if it is text: "012"'
                ),
                "5:1: the key 'E' is written twice; it is written at line 4 already",
            ],
        ),
    ],
)
def test_a_bad_file_of_variables(tmp_path: Path, text: str, problems: list[str]) -> None:
    file = tmp_path / "v.yaml"
    file.write_text(text)
    with pytest.raises(SpecError) as error:
        load_variables(file)
    assert [str(p) for p in error.value.problems] == [f"{file}:{p}" for p in problems]


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"none.yaml: the spec cannot be read: No such file or directory"):
        load_spec(tmp_path / "none.yaml")
    with pytest.raises(SpecError, match="the spec cannot be read: Is a directory"):
        load_spec(tmp_path)
    with pytest.raises(SpecError, match="the file of variables cannot be read: it cannot be a path"):
        load_variables("a\0b")
    (tmp_path / "latin.yaml").write_bytes("# é\n".encode("latin-1"))
    with pytest.raises(SpecError, match=r"the spec is not UTF-8 text \(byte 2\)"):
        load_spec(tmp_path / "latin.yaml")


def test_the_environment_is_the_process_s_own_by_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "s.yaml").write_text('\ufeffversion: 1\ntarget: "${VSYNC_TEST_X}.db"\ncollections: {a: }\n', "utf-8")
    monkeypatch.setenv("VSYNC_TEST_X", "y")
    assert milvus(load_spec(tmp_path / "s.yaml")).uri == "y.db"


def test_secrets_are_had_where_the_spec_says(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("from the file\n")
    command = [sys.executable, "-c", "import os; print(os.environ['T'], os.path.basename(os.getcwd()))"]
    assert Secret(env="T").resolve(tmp_path, {"T": "root:Milvus"}) == "root:Milvus"
    assert Secret(file="token").resolve(tmp_path, {}) == "from the file"
    assert Secret(cmd=command).resolve(tmp_path, {"T": "by"}) == f"by {tmp_path.name}"


@pytest.mark.parametrize(
    ("secret", "message"),
    [
        (Secret(env="T"), "the token is not there: the environment variable T is empty or not set"),
        (Secret(file="empty"), "the token is not there: the file empty is empty or not set"),
        (Secret(file="none"), "the file of a token cannot be read: {folder}/none: No such file or directory"),
        (Secret(file="lines"), "the file lines is not a token: it has line ends or control characters in it"),
        (Secret(file="bytes"), "the file of a token is not text: {folder}/bytes"),
        (Secret(cmd=["false"]), "the command false gave no token: exit code 1"),
        (
            Secret(cmd=["no-such-program"]),
            "the command no-such-program gave no token: No such file or directory",
        ),
        (Secret(cmd=["printf", "\\377"]), "the command printf printed no text"),
    ],
)
def test_a_secret_that_is_not_there_names_its_place_only(tmp_path: Path, secret: Secret, message: str) -> None:
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "lines").write_text("hunter2\nhunter2\n")
    (tmp_path / "bytes").write_bytes(b"hunter2\xff")
    with pytest.raises(SpecError) as error:
        secret.resolve(tmp_path, {"PATH": "/usr/bin:/bin"})
    assert error.value.problems[0].what == message.format(folder=tmp_path)
    assert "hunter2" not in str(error.value)


def test_no_secret_comes_out_of_a_spec(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(
        "version: 1\ntarget: {milvus: {uri: http://h:1, token: {env: HUNTER}}}\ncollections: {a: {from: x.h5}}\n"
    )
    spec = load_spec(tmp_path / "s.yaml", environ={"HUNTER": "hunter2"})
    said = [repr(spec), str(spec), spec.to_yaml(), spec.digest, str(spec.long()), spec.model_dump_json()]
    said += [milvus(spec).label, str(spec.where("target"))]
    assert not any("hunter2" in text for text in said)
    token = milvus(spec).token
    assert token is not None
    assert token.resolve(spec.folder, {"HUNTER": "hunter2"}) == "hunter2"
