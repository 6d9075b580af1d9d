"""What sources that are files share: finding them, telling one content from another, cutting rows."""

from __future__ import annotations

import glob
import re
from bisect import bisect_left
from collections import deque
from difflib import get_close_matches
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import xxhash

from vsync.connectors.base import Bounds, Fingerprint, KeyRange
from vsync.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import pyarrow as pa

    from vsync.connectors.base import Key

BLOCK = 64 * 1024
"""Size in bytes of one sample of a file's content."""
SAMPLES = 18
"""How many of them: the first, the last, and those evenly spaced between; smaller files are sampled whole."""


def expand(locator: str, folder: Path, suffixes: Sequence[str], *, whole: bool = False) -> list[Path]:
    """Find the files that a locator names, in natural order (``a2`` before ``a10``).

    A locator is a file, a folder (its files with one of the suffixes, no subfolders) or a glob (``**`` goes
    into subfolders); relative ones are looked up in ``folder``. Hidden files are named, not found. With ``whole`` a
    folder is itself what is looked for. Raises :class:`SourceError` where there is nothing.
    """
    path = folder / Path(locator).expanduser()
    try:
        if path.is_dir() and not whole:
            ours = [p for p in path.iterdir() if p.name.lower().endswith(tuple(suffixes))]
            found = [p for p in ours if not p.name.startswith(".")]
        elif path.exists():
            return [path]
        elif glob.has_magic(locator):
            pattern = str(Path(locator).expanduser())
            matches = glob.glob(pattern, root_dir=folder, recursive=True)  # noqa: PTH207  # Path.glob takes no absolute pattern
            found = [folder / match for match in matches]
        else:
            raise _missing(path)
        files = sorted({p for p in found if (p.is_dir() if whole else p.is_file())}, key=natural)
    except OSError as error:
        raise SourceError(f"cannot be looked into: {error.strerror}", where=str(path)) from error
    if not files:
        if path.is_dir():
            what = f"the folder holds no file that ends in {' or '.join(suffixes)}"
            raise SourceError(what, where=str(path), hint="name the file, or write a glob such as folder/*")
        raise SourceError(
            f"no {'folder' if whole else 'file'} matches",
            where=str(path),
            hint="paths are relative to the spec's folder",
        )
    return files


def natural(path: Path) -> tuple[list[str | int], str]:
    """Give the key that sorts numbers inside of names by value; where they are equal, the name decides."""
    parts = re.split(r"(\d+)", str(path))
    return [int(part) if i % 2 else part for i, part in enumerate(parts)], str(path)


def _missing(path: Path) -> SourceError:
    """Say that there is no such file, and which name beside it is near."""
    if path.is_symlink():
        return SourceError("is a link that leads nowhere", where=str(path), hint=f"it leads to {path.readlink()}")
    beside = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else None
    if beside is None:
        return SourceError("no such file", where=str(path), hint=f"the folder {path.parent} is not there either")
    near = get_close_matches(path.name, beside, n=1)
    hint = f"did you mean {near[0]}?" if near else "paths are relative to the spec's folder"
    return SourceError("no such file", where=str(path), hint=hint)


def check_file(path: Path) -> None:
    """Raise :class:`SourceError` where this is no file that can be read."""
    try:
        if not path.exists():
            raise _missing(path)
        if not path.is_file():
            raise SourceError("is not a file", where=str(path), hint="name one file of the folder")
        with path.open("rb") as file:
            file.read(1)
    except OSError as error:
        hint = "check its permissions" if isinstance(error, PermissionError) else None
        raise SourceError(f"cannot be read: {error.strerror}", where=str(path), hint=hint) from error


def fingerprint(path: Path, shapes: Sequence[str] = ()) -> Fingerprint:
    """Digest a file's size, ``SAMPLES`` blocks of its raw content, and what the connector says of its shapes.

    Raises :class:`SourceError` where the file cannot be read any more.
    """
    digest = xxhash.xxh3_128()
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            digest.update(b"%d\n" % size)
            for offset in sorted({i * max(0, size - BLOCK) // (SAMPLES - 1) for i in range(SAMPLES)}):
                file.seek(offset)
                digest.update(file.read(BLOCK))
        modified = path.stat().st_mtime_ns
    except OSError as error:
        raise SourceError(f"cannot be read: {error.strerror}", where=str(path)) from error
    digest.update("\n".join(shapes).encode())
    return Fingerprint(digest.hexdigest(), modified)


def cut_keys(blocks: Iterable[pa.Array], step: int, seams: Sequence[Key] = ()) -> list[Bounds]:
    """Cut keys, ascending, into ranges of at most ``step``; the first is open below and the last one above.

    Where there are ``seams``, ascending keys, cuts fall on them too: what lies between two may be known already. Of two
    neighbours that are half a range together the seam is left out, so that ranges do not get ever smaller.
    """
    cuts: list[tuple[int, Any, bool]] = []
    rows, waiting = 0, deque[Any](seams)
    for block in filter(len, blocks):
        last, marks = block[-1].as_py(), list[int]()
        while waiting and waiting[0] <= last:
            marks.append(bisect_left(range(len(block)), waiting.popleft(), key=lambda at: block[at].as_py()))
        for place in (*(rows + mark for mark in marks), None):
            end = rows + len(block) if place is None else place
            cuts = cuts or [(0, None, False)]
            while cuts[-1][0] + step < end:
                row = cuts[-1][0] + step
                cuts.append((row, block[row - rows].as_py(), False))
            if place is not None and place > cuts[-1][0]:
                cuts.append((place, block[place - rows].as_py(), True))
        rows += len(block)
    kept: list[tuple[int, Any]] = []
    for (row, key, seam), (end, _, _) in pairwise([*cuts, (rows, None, False)]):
        if not (kept and seam and end - kept[-1][0] <= step // 2):
            kept.append((row, key))
    return [Bounds(lo, hi, KeyRange(key, end)) for (lo, key), (hi, end) in pairwise([*kept, (rows, None)])]


def cut(rows: int, row_bytes: float, chunk_bytes: int, *, whole: int = 1) -> list[Bounds]:
    """Cut rows into chunks of about ``chunk_bytes`` bytes, at least one row each; the last is what remains.

    ``whole`` is a number of rows that are best read together, such as a compressed block: chunks are made of
    whole blocks, unless a block is more than four times as large as a chunk shall be.
    """
    step = max(1, int(chunk_bytes / max(row_bytes, 1)))
    if whole <= 4 * step:
        step = max(whole, step - step % whole)
    return [Bounds(lo, min(lo + step, rows)) for lo in range(0, rows, step)]
