"""Backups in a bucket of a real S3 server, which is killed in the middle of one."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import applies
import glove
import pytest
from milvus_sources import Ends, make

if TYPE_CHECKING:
    import subprocess

    from s3_server import S3Server

ROWS = glove.rows(0, 2_000)
WORDS = {"_default": ROWS[:1_000], "rare": ROWS[1_000:]}


def acked(process: subprocess.Popen[bytes], chunks: int) -> None:
    """Hear a backup until so many of its chunks are in the bucket."""
    for said in applies.events(process):
        chunks -= said["type"] == "chunk_acked"
        if not chunks:
            return
    raise AssertionError("it ended before")


def ended(process: subprocess.Popen[bytes]) -> str:
    """Wait for its end, and give what it said last."""
    said = list(applies.events(process))
    process.wait(applies.SECONDS)
    assert process.stdout is not None
    process.stdout.close()
    return json.dumps(said[-1])


@pytest.mark.parametrize("target", ["lite"], indirect=True)
def test_a_backup_goes_on_when_its_server_comes_back_and_is_restored_whole(
    ends: Ends, s3: S3Server, bucket: str
) -> None:
    with ends.old() as client:
        make(client, "words", WORDS)
    words = ["backup", "--from", ends.source.uri, bucket, "--json", "--chunk-bytes", "40KiB"]

    process = applies.begin(ends.folder, *words, "--max-downtime", "1s")
    acked(process, 2)
    s3.kill()
    last = ended(process)
    assert process.returncode == 5, last
    assert f"{s3.uri}: " in last, last
    away = applies.vsync(ends.folder, "snapshots", bucket)
    assert (away.code, "does the server run?" in away.err) == (5, True), away

    s3.start()
    assert "There are no snapshots." in applies.vsync(ends.folder, "snapshots", bucket).out
    process = applies.begin(ends.folder, *words)
    acked(process, 2)
    s3.kill()
    s3.start()
    last = ended(process)
    assert process.returncode == 0, last

    assert applies.vsync(ends.folder, "verify", bucket).code == 0
    again = applies.vsync(ends.folder, *words)
    assert again.code == 0, again
    assert len(applies.vsync(ends.folder, "snapshots", bucket, "--json").of("snapshot")) == 2
    done = applies.vsync(ends.folder, "restore", bucket, "--to", ends.target.uri, "--auto-approve")
    assert done.code == 0, done
    ends.content("words", WORDS)

    forgotten = applies.vsync(ends.folder, "forget", bucket, "--keep-last", "1", "--auto-approve")
    assert forgotten.code == 0, forgotten
    pruned = applies.vsync(ends.folder, "prune", bucket, "--json").of("summary")[0]
    assert (pruned["removed"], pruned["kept"] > 5) == (0, True), "both snapshots named the same objects"
    assert applies.vsync(ends.folder, "verify", bucket).code == 0
