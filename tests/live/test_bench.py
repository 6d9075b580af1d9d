"""scripts/bench works; what it measures on a busy machine is no matter of tests, but memory is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import servers

SCRIPTS = Path(__file__).parents[2] / "scripts"
BENCH = SCRIPTS / "bench.py"
CONTENDERS = ("vsync", "plain", "ceiling")


@pytest.mark.slow
@pytest.mark.parametrize("server", ["milvus", "lite"])
def test_the_bench_measures_all_contenders(server: str, tmp_path: Path) -> None:
    if server == "milvus" and servers.available():
        pytest.skip(f"needs Milvus {servers.MILVUS_VERSION}: {servers.available()}")
    # Several requests, so that what is sent twice or not at all would fail: each contender counts its rows.
    options = ["--shape", "20000x64", "--chunk-bytes", "1048576", "--repeat", "1", "--in-flight", "1", "--chunks", "50"]
    command = [sys.executable, str(BENCH), "--server", server, *options, "--folder", str(tmp_path)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)

    assert ran.returncode in {0, 1}, ran.stderr  # 1: something was slower than it must be
    rows = {line.split("|")[1].strip(): line for line in ran.stdout.splitlines() if line.startswith("| ")}
    assert set(CONTENDERS) <= set(rows), ran.stdout
    assert f"ok      {server} 20000x64: anonymous memory" in ran.stdout
    assert "plan of 50 chunks" in ran.stdout
    assert not list(tmp_path.iterdir()), "it removes what it made"


@pytest.mark.slow
@pytest.mark.parametrize("server", ["milvus", "lite"])
def test_a_check_finds_what_the_bench_plants(server: str, tmp_path: Path) -> None:
    if server == "milvus" and servers.available():
        pytest.skip(f"needs Milvus {servers.MILVUS_VERSION}: {servers.available()}")
    options = ["--check", "--server", server, "--rows", "30000", "--repeat", "1", "--folder", str(tmp_path)]
    ran = subprocess.run([sys.executable, str(BENCH), *options], capture_output=True, text=True, check=False)
    assert ran.returncode in {0, 1}, ran.stderr  # 1: it was slower than it must be
    assert f"ok      {server} check of 30,000 rows: faults found of 20: 20.00" in ran.stdout
    assert f"ok      {server} check of 30,000 rows: found and not planted: 0.00" in ran.stdout


@pytest.mark.slow
@pytest.mark.parametrize("pair", ["milvus-milvus", "lite-lite", "milvus-lite"])
def test_copies_from_one_milvus_to_another_are_measured(pair: str, tmp_path: Path) -> None:
    if "milvus" in pair and servers.available():
        pytest.skip(f"needs Milvus {servers.MILVUS_VERSION}: {servers.available()}")
    options = ["--shape", "20000x64", "--chunk-bytes", "1048576", "--repeat", "1", "--in-flight", "2"]
    command = [sys.executable, str(BENCH), "--milvus", "--pair", pair, *options, "--folder", str(tmp_path)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)

    assert ran.returncode in {0, 1}, ran.stderr  # 1: something was slower than it must be
    rows = {line.split("|")[1].strip() for line in ran.stdout.splitlines() if line.startswith("| ")}
    assert {"vsync", "ceiling"} <= rows, ran.stdout
    assert f"ok      {pair} 20000x64: anonymous memory" in ran.stdout
    assert not list(tmp_path.iterdir()), "it removes what it made"


@pytest.mark.slow
def test_the_bench_mirrors_what_it_changed_and_no_more(tmp_path: Path) -> None:
    if servers.available():
        pytest.skip(f"needs Milvus {servers.MILVUS_VERSION}: {servers.available()}")
    options = ["--milvus", "--pair", "mirror", "--rows", "8000", "--repeat", "2", "--folder", str(tmp_path)]
    ran = subprocess.run([sys.executable, str(BENCH), *options], capture_output=True, text=True, check=False)
    assert ran.returncode in {0, 1}, ran.stderr  # 1: it was slower than it must be
    assert ran.stdout.count("rows moved: 80.00") == 2, ran.stdout
    assert not list(tmp_path.iterdir()), "it removes what it made"


@pytest.mark.slow
def test_upserts_are_measured_against_inserts(tmp_path: Path) -> None:
    if servers.available():
        pytest.skip(f"needs Milvus {servers.MILVUS_VERSION}: {servers.available()}")
    options = ["--rows", "3000", "--dim", "32", "--rounds", "1", "--folder", str(tmp_path)]
    command = [sys.executable, str(SCRIPTS / "bench_upsert.py"), *options]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)

    assert ran.returncode == 0, ran.stderr
    rows = [line.split("|")[1].strip() for line in ran.stdout.splitlines() if line.startswith("| ")]
    assert [row for row in rows if row in {"Insert", "Upsert"}] == ["Insert", "Upsert"] * 2, ran.stdout
    assert not list(tmp_path.iterdir()), "it removes what it made"
