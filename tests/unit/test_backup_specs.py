"""The specs that `vsync backup` and `vsync restore` make: what is wrong with one has its line where it is shown."""

from __future__ import annotations

import socket
from contextlib import closing
from pathlib import Path

import applies
import glove
import numpy as np
import pytest

from vsync import backups
from vsync.connectors.base import KeyRange
from vsync.connectors.milvus import open_target


@pytest.mark.parametrize("where", ["lang == 'en'", "title == '${HOME}'", "a == \"#\" and b == 'it: is'"])
def test_what_is_wrong_has_its_line_in_what_is_shown(where: str) -> None:
    spec = backups.restore_spec(
        "repo", None, {"uri": "http://new:19530"}, Path(), choice={"where": where}, copy={"write": "append"}
    )
    shown = spec.to_yaml()
    name, line, column = str(spec.where("copy", 0, "from")).rsplit(":", 2)
    assert name.startswith("restore-repo-")
    at = shown.splitlines()[int(line) - 1][int(column) - 1 :]
    assert at.startswith("backup: {repo: repo")
    assert spec.copies[0].source.where == where
    assert "${HOME}" not in shown or "$${HOME}" in shown


@pytest.mark.parametrize(
    ("uri", "name"),
    [
        ("http://milvus:19530", "milvus:19530"),
        ("http://localhost:19530", f"{socket.gethostname()}/localhost:19530"),
        ("./m.db", "/data/m.db"),
        ("/other/m.db", "/other/m.db"),
    ],
)
def test_what_is_of_one_machine_or_folder_has_a_name_of_its_own(uri: str, name: str) -> None:
    spec = backups.backup_spec("repo", {"uri": uri}, Path("/data"), choice={})
    assert spec.long()["target"]["backup"]["name"] == name


def _made(folder: Path, rows: glove.Rows) -> None:
    folder.mkdir()
    glove.write_parquet(folder / "a.parquet", rows)
    (folder / "vsync.yaml").write_text("{version: 1, target: ./m.db, collections: {c: {from: a.parquet}}}")
    applies.apply(folder)


def test_a_backup_of_a_spec_is_of_what_its_folder_has(tmp_path: Path) -> None:
    _made(tmp_path / "proj", glove.rows(0, 10))
    _made(tmp_path / "here", glove.rows(0, 3))
    done = applies.vsync(tmp_path / "here", "backup", "../proj/vsync.yaml", "repo")
    assert done.code == 0, done.err
    assert "Applied: 10 rows written." in done.out
    assert f"Snapshot {applies.vsync(tmp_path / 'here', 'snapshots', 'repo').out.split()[0]}." in done.out
    assert (tmp_path / "here" / "repo" / "config.json").exists()


def test_two_folders_of_one_name_are_two_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One does not go on with the backup of the other, nor is it forgotten for it."""
    rows = glove.rows(0, 2_000)
    _made(tmp_path / "a", rows)
    _made(tmp_path / "b", rows.changed())
    words = ("--from", "m.db", "../repo", "--chunk-bytes", "64KiB")
    monkeypatch.setenv("VSYNC_FAULT", "journal.acked.after:2")
    assert applies.begin(tmp_path / "a", "backup", *words).wait(applies.SECONDS) == -9
    monkeypatch.delenv("VSYNC_FAULT")
    for folder in ("b", "a"):
        done = applies.vsync(tmp_path / folder, "backup", *words)
        assert done.code == 0, done.err
        assert "holds 2,000 rows, as it should be" in done.out
    assert applies.vsync(tmp_path, "forget", "repo", "--keep-last", "1", "--auto-approve").code == 0
    shown = applies.vsync(tmp_path, "snapshots", "repo").out
    for folder, expected in (("a", rows), ("b", rows.changed())):
        (line,) = (line for line in shown.splitlines() if f"/{folder}/m.db" in line)
        restored = applies.vsync(
            tmp_path, "restore", "repo", line.split()[0], "--to", f"./{folder}.db", "--auto-approve"
        )
        assert restored.code == 0, restored.err
        assert _held(tmp_path / f"{folder}.db") == expected.by_id()


def _held(path: Path) -> dict[int, tuple[bytes, str]]:
    with closing(open_target(str(path), None, None)) as target:
        rows = target.source("c", None).reader.read(KeyRange(), ["ids", "vectors", "words"])
    vectors = np.stack(rows.column("vectors").to_numpy(zero_copy_only=False))
    return glove.Rows(rows.column("ids").to_numpy(), vectors, rows.column("words").to_pylist()).by_id()
