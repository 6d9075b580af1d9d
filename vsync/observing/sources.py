"""The files of a spec: found, described, cut; a file that was only touched is told from one that changed."""

from __future__ import annotations

import os
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from vsync.connectors.files import expand
from vsync.connectors.registry import FILE_KINDS, open_source
from vsync.errors import Problem, SourceError
from vsync.observing.collisions import Collisions, find_collisions
from vsync.planning.facts import JournalFacts, UnitFacts
from vsync.planning.origins import plain_origin
from vsync.planning.steps import unit_key
from vsync.planning.wanted import DataItem, Wanted, WantedData
from vsync.rows import Constant, Mapping, Origin, RowNumber, Rules, columns_of, digest, take_rows
from vsync.spec import FileSource

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from vsync.connectors.base import Description, Source
    from vsync.spec import CollectionSpec, DataSpec, Spec
    from vsync.state.view import View


@dataclass(frozen=True, slots=True)
class Known:
    """What the state can be asked of one target while sources are looked at; ``None`` without a state."""

    journal: View | None
    target: str
    facts: JournalFacts


def open_items(spec: Spec, name: str, problems: list[Problem]) -> list[DataItem]:
    """Describe every file of a collection's data; what cannot be opened becomes a problem."""
    items = []
    for index, data in enumerate(spec.collections[name].data):
        where = spec.where("collections", name, "data", index, "from")
        try:
            files = _files(data)
            suffixes = FILE_KINDS[files.kind].suffixes
            paths = [_relative(p, spec.folder) for p in expand(files.path, spec.folder, suffixes)]
        except SourceError as e:
            problems += [Problem(_both(p), where, p.hint) for p in e.problems]
            continue
        described = [d for d in (_describe(spec, data, path, where, problems) for path in paths) if d is not None]
        if len(described) == len(paths):
            items.append(DataItem(index, data, tuple(paths), tuple(described)))
    return items


def _describe(spec: Spec, data: DataSpec, path: str, where: str | None, problems: list[Problem]) -> Description | None:
    try:
        files = _files(data)
        with closing(open_source(files.kind, spec.folder / path, files.options)) as source:
            return source.describe()
    except SourceError as e:
        problems += [Problem(_both(p), where, p.hint) for p in e.problems]
        return None


def _files(data: DataSpec) -> FileSource:
    if not isinstance(data.source, FileSource):
        raise SourceError(f"copying from {data.source.kind} comes with a later release")
    return data.source


def _both(problem: Problem) -> str:
    return problem.what if not problem.where or problem.where in problem.what else f"{problem.where}: {problem.what}"


def _relative(path: Path, folder: Path) -> str:
    """Write a path as seen from the spec's folder where it lies below it."""
    absolute = Path(os.path.abspath(path))  # noqa: PTH100 - resolve() would follow links: the user's names are kept
    return str(absolute.relative_to(folder)) if absolute.is_relative_to(folder) else str(absolute)


def make_units(spec: Spec, wanted: Wanted, known: Known, rules: Rules) -> list[UnitFacts]:
    """Cut every file of a collection's data; an earlier cut of the same content is kept."""
    units = [
        _unit(spec, data, path, description, known, rules)
        for data in wanted.data
        for path, description in zip(data.item.paths, data.item.descriptions, strict=True)
    ]
    seen: Counter[str] = Counter()
    for i, unit in enumerate(units):
        # The same content twice on the same way: each has chunks of its own in the journal.
        seen[unit.key] += 1
        if seen[unit.key] > 1:
            units[i] = replace(unit, key=f"{unit.key}-{seen[unit.key]}")
    return units


def _unit(spec: Spec, data: WantedData, path: str, description: Description, known: Known, rules: Rules) -> UnitFacts:
    source_spec = _files(data.item.spec)
    origins = {m.field.name: plain_origin(m.origin) for m in data.mapping}
    columns = columns_of(data.mapping)
    with closing(open_source(source_spec.kind, spec.folder / path, source_spec.options)) as source:
        content = _content(data, path, description, source, known, rules, origins)
        key = unit_key(data.destination, origins, content)
        bounds = known.journal.known_cut(known.target, key) if known.journal else None
        if bounds is None:
            bounds = tuple(source.cut(columns, spec.defaults.chunk_bytes))
    rows = bounds[-1].hi if bounds else 0
    row_bytes = sum(c.row_bytes for c in description.columns if c.name in columns)
    return UnitFacts(
        key=key,
        address=data.address,
        destination=data.destination,
        kind=source_spec.kind,
        path=path,
        options=dict(source_spec.options),
        content=content,
        modified=description.fingerprint.modified,
        rows=rows,
        nbytes=round(rows * row_bytes),
        origins=origins,
        bounds=bounds,
    )


def _content(
    data: WantedData,
    path: str,
    description: Description,
    source: Source,
    known: Known,
    rules: Rules,
    origins: dict[str, str | dict[str, Any]],
) -> str:
    """Give the content a file is known by.

    Samples that are equal under another time are not proof: the chunks that are done are hashed again, and only if all
    are as they were is it the same content. Otherwise it is told apart by its time, for its samples cannot.
    """
    now = description.fingerprint
    recorded = known.facts.files.get((data.address, path))
    if recorded is None or recorded.content.partition("@")[0] != now.content:
        return now.content
    if recorded.modified == now.modified or known.journal is None:
        return recorded.content
    key = unit_key(data.destination, origins, recorded.content)
    for bounds, was in known.journal.digests(known.target, key):
        rows = take_rows(source.read(bounds, columns_of(data.mapping)), bounds.lo, data.mapping, rules).rows
        if digest(rows) != was:
            return f"{now.content}@{now.modified}"
    return recorded.content


def settle_collisions(
    spec: Spec, name: str, wanted: Wanted, units: Sequence[UnitFacts], known: Known
) -> tuple[list[UnitFacts], list[Problem]]:
    """Find rows of a collection's data that share a key; by the spec's policy they are an error, or some lose."""
    wish = spec.collections[name]
    primary = wanted.effective.primary
    if primary.auto_id or not units or _checked_before(wish, units, known):
        return list(units), []
    mappings = [_key_mapping(u, wanted) for u in units]
    if len(units) == 1 and isinstance(mappings[0][0].origin, RowNumber):
        return list(units), []
    problems: list[Problem] = []
    where = spec.where("collections", name, "data")

    def blocks(position: int) -> Iterator[tuple[pa.Array, NDArray[np.int64]]]:
        unit, mapping = units[position], mappings[position]
        with closing(open_source(unit.kind, spec.folder / unit.path, unit.options)) as source:
            for bounds in unit.bounds:
                if not columns_of(mapping):
                    yield _made_keys(mapping[0].origin, bounds.lo, bounds.hi)
                    continue
                taken = take_rows(source.read(bounds, columns_of(mapping)), bounds.lo, mapping, Rules())
                if taken.bad and wish.on_bad_row == "error":
                    problems.append(Problem(f"{unit.path}: {taken.bad[0]}", where, "a key must fit its field"))
                yield taken.rows.column(0), taken.numbers

    rows = sum(u.rows for u in units)
    found = find_collisions(len(units), rows, blocks, last_wins=wish.on_collision == "last")
    problems = list(dict.fromkeys(problems))[:10]
    if found.count and (wish.on_collision == "error" or not found.losers):
        problems.append(_collision_problem(name, units, found, where))
        return list(units), problems
    return [replace(u, losers=found.losers.get(i, ())) for i, u in enumerate(units)], problems


def _checked_before(wish: CollectionSpec, units: Sequence[UnitFacts], known: Known) -> bool:
    """Tell whether an earlier apply of the same files found their keys unique."""
    done = known.facts.acked
    return wish.on_collision == "error" and all(u.key in done or u.key in known.facts.in_doubt for u in units)


def _key_mapping(unit: UnitFacts, wanted: Wanted) -> Mapping:
    data = next(d for d in wanted.data if d.address == unit.address)
    return tuple(m for m in data.mapping if m.field.primary)


def _made_keys(origin: Origin, lo: int, hi: int) -> tuple[pa.Array, NDArray[np.int64]]:
    numbers = np.arange(lo, hi, dtype=np.int64)
    if isinstance(origin, RowNumber):
        return pa.array(numbers), numbers
    assert isinstance(origin, Constant)
    return pa.array([origin.value] * (hi - lo)), numbers


def _collision_problem(name: str, units: Sequence[UnitFacts], found: Collisions, where: str | None) -> Problem:
    pairs = ", ".join(
        f"{units[a].path} row {row} and {units[b].path} row {other}" for (a, row), (b, other) in found.examples
    )
    return Problem(
        f"the data of collection {name} holds {found.count:,} row{'s' * (found.count > 1)} whose key another row has: "
        f"{pairs}",
        where,
        "mend the data, or say which wins: on_collision: first, or last",
    )
