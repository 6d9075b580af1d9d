"""Finding files, telling contents apart, and cutting rows."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vsync.connectors.files import BLOCK, SAMPLES, check_file, cut, expand, fingerprint
from vsync.errors import SourceError

H5 = (".h5", ".hdf5")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    data = tmp_path / "in[1]"  # brackets of the folder are no glob
    (data / "deep").mkdir(parents=True)
    for name in ("a10.h5", "a2.h5", "a02.h5", "B1.HDF5", "notes.txt", ".hidden.h5", "deep/a1.h5"):
        (data / name).write_bytes(b"x")
    return data


def names(files: list[Path], folder: Path) -> list[str]:
    return [str(f.relative_to(folder)) for f in files]


@pytest.mark.parametrize(
    ("locator", "expected"),
    [
        ("a2.h5", ["a2.h5"]),
        ("notes.txt", ["notes.txt"]),
        (".", ["B1.HDF5", "a02.h5", "a2.h5", "a10.h5"]),
        ("deep", ["deep/a1.h5"]),
        ("a*.h5", ["a02.h5", "a2.h5", "a10.h5"]),
        ("**/a*.h5", ["a02.h5", "a2.h5", "a10.h5", "deep/a1.h5"]),
        ("d*/*", ["deep/a1.h5"]),
        ("a?.h5", ["a2.h5"]),
    ],
)
def test_expand(folder: Path, locator: str, expected: list[str]) -> None:
    assert names(expand(locator, folder, H5), folder) == expected
    absolute = str(folder / locator)
    if "*" not in locator and "?" not in locator:
        assert names(expand(absolute, folder.parent, H5), folder) == expected


def test_expand_takes_an_absolute_glob(folder: Path) -> None:
    assert names(expand(f"{folder}/deep/*.h5".replace("in[1]", "in*"), folder, H5), folder) == ["deep/a1.h5"]


@pytest.mark.parametrize(
    ("locator", "message"),
    [
        ("a3.h5", r"a3\.h5: no such file; did you mean a2\.h5\?"),
        ("nowhere/a.h5", r"nowhere/a\.h5: no such file; the folder .*nowhere is not there"),
        ("*.npy", r"\*\.npy: no file matches"),
    ],
)
def test_expand_says_what_was_looked_for(folder: Path, locator: str, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        expand(locator, folder, H5)


def test_expand_of_a_folder_without_such_files(folder: Path) -> None:
    with pytest.raises(SourceError, match=r"holds no file that ends in \.npy"):
        expand(".", folder, (".npy",))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read(folder: Path) -> None:
    (folder / "a2.h5").chmod(0)
    with pytest.raises(SourceError, match="cannot be read: Permission denied; check its permissions"):
        check_file(folder / "a2.h5")


def test_what_cannot_be_read() -> None:
    with pytest.raises(SourceError, match="/proc/self/mem: cannot be read: Input/output error"):
        check_file(Path("/proc/self/mem"))


@pytest.mark.parametrize("size", [0, 1, BLOCK, SAMPLES * BLOCK, SAMPLES * BLOCK + 1, 100 * BLOCK + 17])
def test_fingerprint_sees_sampled_bytes_and_size(tmp_path: Path, size: int) -> None:
    path = tmp_path / "f"
    path.write_bytes(bytes(size))
    first = fingerprint(path)
    assert fingerprint(path) == first
    spread = {i * max(0, size - BLOCK) // (SAMPLES - 1) for i in range(SAMPLES)}
    places = {size - 1, *spread, *([size // 2, size // 3] if size <= SAMPLES * BLOCK else [])}
    for place in places if size else ():
        with path.open("r+b") as file:
            file.seek(place)
            file.write(b"\1")
        assert fingerprint(path).content != first.content, place
        path.write_bytes(bytes(size))
    path.write_bytes(bytes(size + 1))
    assert fingerprint(path).content != first.content


def test_fingerprint_sees_shapes(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"same")
    assert fingerprint(tmp_path / "f", ["a", "b"]).content != fingerprint(tmp_path / "f", ["a"]).content


@given(
    rows=st.integers(0, 3000),
    row_bytes=st.floats(0, 10_000),
    chunk_bytes=st.integers(1, 1 << 24),
    whole=st.integers(1, 500),
)
def test_cut(rows: int, row_bytes: float, chunk_bytes: int, whole: int) -> None:
    bounds = cut(rows, row_bytes, chunk_bytes, whole=whole)
    assert [row for b in bounds for row in range(b.lo, b.hi)] == list(range(rows))
    sizes = {b.rows for b in bounds[:-1]}
    assert len(sizes) <= 1
    for size in sizes:
        fits = max(1, chunk_bytes / max(row_bytes, 1))
        assert size <= max(fits, 4 * int(fits))
        assert size % whole == 0 or whole > 4 * int(fits)
