"""The command line as people use it: exit codes, what goes where, tiny data into Milvus Lite."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import applies
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vsync import cli
from vsync.applying.events import Waiting
from vsync.errors import TransientError
from vsync.report.findings import CheckReport
from vsync.report.progress import ProgressReport

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROWS = 60
SPEC = """\
version: 1
target: ./milvus.db
defaults: {chunk_bytes: 240}
collections:
  words:
    fields:
      id: {type: int64, primary: true}
      vec: {type: float_vector, dim: 4}
    data: [{from: "${FILE:-a.parquet}"}]
"""


class Done(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def said(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.splitlines()]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "vsync.yaml").write_text(SPEC)
    write_rows(tmp_path / "a.parquet", ROWS)
    return tmp_path


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Iterator[Callable[..., Done]]:
    """Run a command in this process: its code, and what it printed."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def command(*words: str) -> Done:
        monkeypatch.setattr(sys, "argv", ["vsync", *words])
        capfd.readouterr()
        try:
            cli.main()
            code = 0
        except SystemExit as e:
            code = int(e.code or 0)
        return Done(code, *capfd.readouterr())

    yield command
    for number, handler in handlers.items():
        signal.signal(number, handler)


def write_rows(path: Path, rows: int, dim: int = 4) -> None:
    vectors = pa.FixedSizeListArray.from_arrays(np.arange(rows * dim, dtype=np.float32), dim)
    pq.write_table(pa.table({"id": np.arange(rows, dtype=np.int64), "vec": vectors}), path, row_group_size=10)


def names(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*"))


@pytest.mark.parametrize("words", [["--help"], ["-h"], [], ["plan", "-h"], ["state"], ["help"], ["version"]])
def test_help_is_no_error(run: Callable[..., Done], words: list[str]) -> None:
    done = run(*words)
    assert (done.code, done.err) == (0, "")
    assert "vsync" in done.out.lower()


def test_exit_codes_are_explained(run: Callable[..., Done]) -> None:
    assert {f"{c}" for c in (0, 1, 2, 3, 4, 5, 8, 11, 12, 64, 130, 143)} == {
        line.split()[0] for line in run("help", "exit-codes").out.splitlines()
    }


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["aply"], "Did you mean apply?"),
        (["plan", "--detailed-exitcodes"], "--detailed-exitcode"),
        (["apply", "--transfers", "many"], "many"),
        (["apply", "--bwlimit", "fast"], "write 50M or 512K"),
        (["apply", "--max-duration", "soon"], "write 30s, 10m or 6h"),
        (["plan", "--var", "novalue"], "is not NAME=VALUE"),
        (["help", "aply"], "there is no command 'aply'"),
    ],
)
def test_wrong_usage_exits_64_and_says_what_was_meant(
    folder: Path, run: Callable[..., Done], words: list[str], said: str
) -> None:
    done = run(*words)
    assert done.code == 64
    assert said in done.err
    assert not done.out
    assert names(folder) == ["a.parquet", "vsync.yaml"]
    if words[0] == "help":
        return
    done = run(*words, "--json")
    (error,) = done.said
    assert (done.code, error["type"], error["exit_code"]) == (64, "error", 64)
    assert said in error["problems"][0]["what"] + str(error["problems"][0]["hint"])
    assert not done.err


def test_problems_of_a_spec_are_told_one_a_line(folder: Path, run: Callable[..., Done]) -> None:
    (folder / "vsync.yaml").write_text(SPEC.replace("dim: 4", "dims: 4").replace("primary: true", "primary: maybe"))
    done = run("validate")
    assert done.code == 1
    lines = done.err.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("vsync.yaml:7:")
    assert lines[1].startswith("vsync.yaml:8:")
    assert lines[1].endswith("unknown key 'dims' in a field; did you mean dim?")


@pytest.mark.usefixtures("folder")
def test_a_spec_that_is_not_there(run: Callable[..., Done]) -> None:
    done = run("plan", "other.yaml")
    assert done.code == 1
    assert "other.yaml" in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize("words", [["plan"], ["apply", "--auto-approve"], ["check"]])
def test_what_is_wrong_with_the_data_is_told_beside_a_server_that_is_away(
    folder: Path, run: Callable[..., Done], monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    def away(*_ends: object) -> None:
        raise TransientError("the server is away", where="http://there:1")

    monkeypatch.setattr("vsync.opening.open_connection", away)
    done = run(*words)
    assert (done.code, done.err.count("Error: ")) == (5, 1)
    (folder / "a.parquet").unlink()
    done = run(*words)
    assert done.code == 1, "the server's coming back alone does not mend it"
    assert "the server is away" in done.err
    assert "a.parquet" in done.err
    assert "vsync.yaml:" in done.err
    assert done.err.index("the server is away") < done.err.index("a.parquet")
    assert run(*words, "--except", "collection.words").code == 5, "what was not chosen is not looked at"


def test_conflicts_exit_12_and_say_what_to_do(folder: Path, run: Callable[..., Done]) -> None:
    write_rows(folder / "a.parquet", ROWS, dim=5)
    done = run("plan")
    assert done.code == 12
    assert "1 conflict" in done.out
    assert "vector dimension mismatch" in done.err
    assert run("plan", "--json").said[-1]["conflicts"] == 1


def test_a_plan_writes_nothing_and_what_it_shows_is_applied_once(folder: Path, run: Callable[..., Done]) -> None:
    before = names(folder)
    assert run("plan").code == 0
    done = run("plan", "--detailed-exitcode")
    assert done.code == 2
    assert f"copy {ROWS} rows" in done.out
    assert names(folder) == before, "neither state nor Milvus Lite"
    said = run("plan", "--json").said
    assert said[-1]["type"] == "summary"
    assert not said[-1]["empty"]
    assert all({"type", "ts", "format_version"} <= one.keys() for one in said)

    refused = run("apply")
    assert refused.code == 12
    assert "this is no terminal" in refused.err
    assert "milvus.db" not in names(folder), "nothing is made before it is agreed to"

    done = run("apply", "--auto-approve", "--json")
    assert done.code == 0, done
    assert done.said[-1]["type"] == "summary"
    assert done.said[-1]["balance"][0]["left"] == ROWS

    before = names(folder)
    done = run("plan", "--detailed-exitcode")
    assert done.code == 0
    assert "No changes." in done.out
    assert [n for n in names(folder) if n.startswith(".vsync")] == [n for n in before if n.startswith(".vsync")]
    assert "60 / 60 rows" in run("status").out
    assert run("status", "--json").said[-1]["run"]["exit_code"] == 0


def test_a_saved_plan_is_applied_without_a_question(folder: Path, run: Callable[..., Done]) -> None:
    done = run("plan", "--out", "p.json")
    assert "Carry it out with: vsync apply p.json" in done.out
    assert (folder / "p.json").stat().st_mode & 0o777 == 0o600
    steps = run("show", "p.json", "--steps").out.splitlines()
    assert steps[0] == "create-collection words"
    assert steps[-1] == "verify collection.words"
    assert run("show", "vsync.yaml", "--steps").code == 64
    done = run("apply", "p.json")
    assert done.code == 0, done
    assert f"holds {ROWS} rows, as it should be" in done.out


def test_a_stale_plan_says_what_changed(folder: Path, run: Callable[..., Done]) -> None:
    run("plan", "--out", "p.json")
    write_rows(folder / "a.parquet", ROWS + 1)
    done = run("apply", "p.json")
    assert done.code == 4
    assert "a.parquet changed" in done.err
    (folder / "a.parquet").rename(folder / "b.parquet")
    gone = run("apply", "p.json")
    assert gone.code == 12
    assert gone.err.splitlines()[:2] == [f"Error: {folder}/a.parquet: no such file", "  vsync.yaml"]
    (folder / "b.parquet").rename(folder / "a.parquet")

    run("plan", "--out", "p.json")
    (folder / "other.yaml").write_text(SPEC.replace("    data:", "    partitions: [rare]\n    data:"))
    assert run("apply", "other.yaml", "--auto-approve").code == 0
    done = run("apply", "p.json")
    assert done.code == 4
    assert "collection.words changed since" in done.err


def test_a_plan_of_a_part_stays_a_plan_of_that_part(folder: Path, run: Callable[..., Done]) -> None:
    (folder / "vsync.yaml").write_text(SPEC + "  other: {from: a.parquet}\n")
    run("plan", "--only", "collection.words", "--out", "p.json")
    done = run("apply", "p.json", "--json")
    assert done.code == 0, done
    assert [s["destination"] for s in done.said[-1]["balance"]] == ["collection.words"]
    left = run("plan", "--json").said
    assert {c["address"] for c in left if c["type"] == "change" and c["action"] != "same"} == {
        "collection.other",
        "collection.other.data.0",
    }


def test_a_file_that_is_no_plan(folder: Path, run: Callable[..., Done]) -> None:
    (folder / "p.json").write_text("{}")
    assert run("apply", "p.json").code == 64
    (folder / "p.json").write_text("no json")
    done = run("apply", "p.json")
    assert done.code == 64
    assert "is not a saved plan" in done.err


def test_variables_choose_what_is_read(folder: Path, run: Callable[..., Done]) -> None:
    write_rows(folder / "b.parquet", 7)
    assert "copy 7 rows" in run("plan", "--var", "FILE=b.parquet").out
    (folder / "vars.yaml").write_text("FILE: b.parquet\n")
    assert "copy 7 rows" in run("plan", "--var-file", "vars.yaml").out
    assert "copy 60 rows" in run("plan", "--var-file", "vars.yaml", "--var", "FILE=a.parquet").out


def test_the_environment_gives_options(folder: Path, run: Callable[..., Done], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VSYNC_APPLY_TRANSFERS", "0")
    done = run("apply", "--auto-approve")
    assert done.code == 64, "it is read, and checked like the option"
    assert "0 is not in the range" in done.err
    monkeypatch.setenv("VSYNC_APPLY_TRANSFERS", "2")
    monkeypatch.setenv("VSYNC_APPLY_AUTO_APPROVE", "1")
    assert run("apply").code == 0
    assert (folder / "milvus.db").exists()


@pytest.mark.usefixtures("folder")
def test_each_option_has_the_environment_variable_of_its_name(
    run: Callable[..., Done], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "collection.words" in run("plan").out
    monkeypatch.setenv("VSYNC_PLAN_JSON", "1")
    monkeypatch.setenv("VSYNC_PLAN_EXCEPT", "collection.words alias.lexicon")
    lines = [json.loads(line) for line in run("plan").out.splitlines()]
    assert [line["type"] for line in lines] == ["summary"], "both are read"
    monkeypatch.setenv("VSYNC_PLAN_EXCEPT", "collection.word")
    said = json.loads(run("plan").out)
    assert (said["type"], said["exit_code"]) == ("error", 64), "errors are JSON, too"
    monkeypatch.setenv("VSYNC_STATE_LIST_JSON", "no")
    assert "there is no state" in run("state", "list").err


def test_another_apply_is_told_who_holds_the_lock(folder: Path, run: Callable[..., Done]) -> None:
    from vsync.state.lock import locked

    (folder / ".vsync").mkdir()
    with locked(folder / ".vsync" / "vsync.db", "ann on her host"):
        done = run("apply", "--auto-approve")
    assert done.code == 11
    assert "ann on her host" in done.err


def first(process: subprocess.Popen[bytes], kind: str) -> dict[str, Any]:
    return next(e for e in applies.events(process) if e["type"] == kind)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_and_the_next_apply_goes_on(
    folder: Path, run: Callable[..., Done], number: int, code: int
) -> None:
    with applies.start(folder, "--bwlimit", "1K", "--transfers", "1") as process:
        first(process, "chunk_acked")
        assert "running since" in run("status").out
        assert run("apply", "--auto-approve").code == 11
        process.send_signal(number)
        said = list(applies.events(process))
    assert process.returncode == code
    assert said[-1]["type"] == "error"
    assert "Go on with: vsync apply" in said[-1]["problems"][0]["what"]

    resumed = run("apply", "--auto-approve", "--json")
    assert resumed.code == 0, resumed
    began = next(s for s in resumed.said if s["type"] == "run_began")
    assert began["done"] >= 1
    assert resumed.said[-1]["balance"][0]["left"] == ROWS


def test_a_second_signal_stops_at_once(folder: Path, run: Callable[..., Done]) -> None:
    with applies.start(folder, "--bwlimit", "100", "--transfers", "1") as process:
        first(process, "chunk_acked")
        process.send_signal(signal.SIGINT)
        first(process, "stopping")
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
    assert "cut off" in run("status").out
    assert run("apply", "--auto-approve").code == 0


@pytest.mark.usefixtures("folder")
def test_an_address_of_nothing_is_refused(run: Callable[..., Done]) -> None:
    for words in (("plan", "--only", "collection.wrods"), ("check", "--except", "collection.words.data.9")):
        done = run(*words)
        assert done.code == 64
        assert f"{words[-2]} {words[-1]}: nothing in the spec has this address" in done.err
        assert "did you mean collection.words?" in done.err
    assert run("plan", "--only", "alias.any").code == 0
    assert run("plan", "--only", "zzz").code == 64


def test_a_saved_plan_has_a_name_that_apply_knows(run: Callable[..., Done], folder: Path) -> None:
    done = run("plan", "--out", "plan.txt")
    assert done.code == 64
    assert "does not end with .json" in done.err
    assert not (folder / "plan.txt").exists()


@pytest.mark.usefixtures("folder")
def test_output_that_nobody_reads_any_more_is_told_where_an_apply_was_cut_off(
    run: Callable[..., Done], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Closed(io.StringIO):
        def write(self, _text: str) -> int:
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stdout", Closed())
    done = run("apply", "--auto-approve")
    assert done.code == 1
    assert "the output was closed before the end" in done.err
    assert "run the same command again" in done.err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
@pytest.mark.parametrize("words", [["plan"], ["plan", "--json"], ["version"]])
def test_output_that_goes_nowhere_is_no_fault_of_vsync(folder: Path, words: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            applies.command(list(words)), cwd=folder, stdout=full, stderr=subprocess.PIPE, check=False
        )
    assert done.returncode == 1
    assert done.stderr.decode().splitlines()[0] == "Error: the output: No space left on device"
    assert b"Traceback" not in done.stderr


def test_the_module_and_the_library_do_what_the_command_does(folder: Path) -> None:
    program = (
        "from vsync import apply, load_spec, plan\n"
        "spec = load_spec('vsync.yaml')\n"
        "assert not plan(spec).empty\n"
        "result = apply(spec)\n"
        "print(result.settled[0].left, plan(spec).empty)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=folder, capture_output=True, check=False)
    assert done.stdout == b"60 True\n", done
    again = applies.plan(folder)
    assert "No changes." in again


LOOK = (
    "import atexit, json, runpy, sys\n"
    "atexit.register(lambda: sys.stderr.write(json.dumps([*sys.modules])))\n"
    "sys.argv = ['vsync', *{words!r}]\n"
    "runpy.run_module('vsync', run_name='__main__')"
)


@pytest.mark.parametrize("words", [["--help"], ["validate"], ["show", "vsync.yaml"], ["status"]])
def test_what_needs_no_data_loads_no_vendor(folder: Path, words: list[str]) -> None:
    command = [sys.executable, "-c", LOOK.format(words=words)]
    done = subprocess.run(command, cwd=folder, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    loaded = set(json.loads(done.stderr.splitlines()[-1]))
    assert "vsync.cli" in loaded
    assert not loaded & {"pymilvus", "milvus_lite", "grpc", "h5py", "faiss", "pyarrow", "numpy", "pandas"}


@pytest.mark.parametrize("report", [ProgressReport(0), CheckReport(0, None, as_json=False)], ids=["apply", "check"])
def test_several_requests_that_wait_are_told_by_one_line(
    report: ProgressReport | CheckReport, capfd: pytest.CaptureFixture[str]
) -> None:
    with report:
        for attempt in (1, 2):
            report(Waiting("it is away\nand more", attempt, 0.5))
    assert capfd.readouterr().err == "  waiting for the target: it is away; attempt 1, again in 0.5 s\n"
