"""The sources of a spec: found, described, cut; a file that was only touched is told from one that changed."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from vsync.connectors.files import expand
from vsync.connectors.registry import FILE_KINDS
from vsync.errors import Problem, SourceError
from vsync.observing.living import cut_of, number_of, places
from vsync.observing.spreading import spread
from vsync.planning.choice import Choice
from vsync.planning.facts import JournalFacts, UnitFacts
from vsync.planning.origins import plain_origin
from vsync.planning.steps import CopyChunk, Unit, unit_key
from vsync.planning.wanted import DataItem, Wanted, WantedData
from vsync.rows import columns_of, digest, take_rows
from vsync.spec import FileSource

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vsync.connectors.base import Bounds, CollectionSource, Description, Key, Source, Target
    from vsync.opening import Sources
    from vsync.planning.steps import Plan
    from vsync.schema import LiveCollection
    from vsync.spec import CollectionSpec, DataSpec, Spec
    from vsync.state.view import View


@dataclass(frozen=True, slots=True)
class Known:
    """What is known while sources are looked at.

    ``journal`` is the state, ``None`` without one, ``facts`` what it says of the target, ``live`` what is there now;
    ``saved`` is a plan that is to be carried out as it was frozen. ``whole``: collections are cut whole, also where
    their keys are on the target; so is what the ``choice`` restarts.
    """

    journal: View | None
    target: Target
    facts: JournalFacts
    live: Mapping[str, LiveCollection]
    saved: Plan | None = None
    whole: bool = False
    choice: Choice = field(default_factory=Choice)


def open_items(spec: Spec, name: str, sources: Sources, problems: list[Problem]) -> list[DataItem]:
    """Describe every source of a collection's data; what cannot be opened becomes a problem."""
    items: list[DataItem] = []
    for index, data in enumerate(spec.collections[name].data):
        where = spec.where("collections", name, "data", index, "from")
        address = f"collection.{name}.data.{data.name or index}"
        try:
            if isinstance(data.source, FileSource):
                items.append(_files(spec, index, data, address, sources))
            else:
                items += _partitions(spec.collections[name], index, data, address, sources)
        except SourceError as e:
            problems += [Problem(_both(p), where, p.hint) for p in e.problems]
    return items


def _files(spec: Spec, index: int, data: DataSpec, address: str, sources: Sources) -> DataItem:
    """Describe the files of an item; raises SourceError with what is wrong of each."""
    assert isinstance(data.source, FileSource)
    said, wrong = data.source, list[Problem]()
    kind = FILE_KINDS[said.kind]
    found = expand(said.path, spec.folder, kind.suffixes, whole=kind.folder)
    paths = tuple(_relative(p, spec.folder) for p in found)
    described = [_described(address, path, said.options, sources, wrong) for path in paths]
    if wrong:
        raise SourceError(wrong)
    return DataItem(index, data, paths, tuple(d for d in described if d is not None), options=said.options)


def _described(
    address: str, path: str, options: Mapping[str, Any], sources: Sources, wrong: list[Problem]
) -> Description | None:
    try:
        with sources.look(address, path, options) as source:
            return source.describe()
    except SourceError as e:
        wrong += [Problem(_both(p), None, p.hint) for p in e.problems]
        return None


def _partitions(wish: CollectionSpec, index: int, data: DataSpec, address: str, sources: Sources) -> list[DataItem]:
    """Describe a collection, by its partitions, or by values, where its rows go into several."""
    items = []
    for place in spread(wish, data, address, places(data, sources), sources):
        with sources.look(address, place.path, place.options) as source:
            items.append(DataItem(index, data, (place.path,), (source.describe(),), place.partition, place.options))
    return items


def _both(problem: Problem) -> str:
    return problem.what if not problem.where or problem.where in problem.what else f"{problem.where}: {problem.what}"


def _relative(path: Path, folder: Path) -> str:
    """Write a path as seen from the spec's folder where it lies below it."""
    absolute = Path(os.path.abspath(path))  # noqa: PTH100 - resolve() would follow links: the user's names are kept
    return str(absolute.relative_to(folder)) if absolute.is_relative_to(folder) else str(absolute)


def make_units(spec: Spec, wanted: Wanted, known: Known, sources: Sources) -> list[UnitFacts]:
    """Cut every source of a collection's data; an earlier cut of the same content is kept."""
    seen: Counter[str] = Counter()
    return [
        _unit(spec, wanted, data, path, description, known, sources, seen)
        for data in wanted.data
        for path, description in zip(data.item.paths, data.item.descriptions, strict=True)
    ]


def _own_key(key: str, seen: Counter[str]) -> str:
    """Tell apart the same content twice on the same way: each has a cut, and chunks, of its own in the journal."""
    seen[key] += 1
    return key if seen[key] == 1 else f"{key}-{seen[key]}"


def _unit(
    spec: Spec,
    wanted: Wanted,
    data: WantedData,
    path: str,
    description: Description,
    known: Known,
    sources: Sources,
    seen: Counter[str],
) -> UnitFacts:
    origins = {m.field.name: plain_origin(m.origin) for m in data.mapping}
    columns = columns_of(data.mapping)
    lives = description.collection is not None
    live = known.live.get(wanted.declared.name)
    with sources.look(data.address, path, data.item.options) as source:
        if lives:
            content = f"{description.fingerprint.content}@{number_of(wanted, data, known.facts, live)}"
        else:
            content = _content(data, path, description, source, known, origins)
        key = _own_key(unit_key(data.destination, origins, content), seen)
        bounds = known.journal.known_cut(known.target.identity, key) if known.journal else None
        bounds = bounds or _frozen(key, known.saved)
        fresh = bounds is None
        unfit = known.journal.rejected(known.target.identity, key) if known.journal else 0
        if bounds is None and lives:
            cut_whole = known.whole or known.choice.restarts(data.address, data.destination)
            there, skipped = None if cut_whole else live, _skipped(spec, wanted, data, path, known)
            collection = cast("CollectionSource", source)
            first = number_of(wanted, data, known.facts, live) == 1
            bounds, unfit = cut_of(spec, wanted, data, collection, known.target, there, skipped, first=first)
        elif bounds is None:
            bounds = tuple(source.cut(columns, spec.defaults.chunk_bytes))
    rows = sum(b.rows for b in bounds)
    whole = fresh and bool(bounds) and bounds[0].keys is not None and bounds[0].keys.lo is None
    row_bytes = sum(c.row_bytes for c in description.columns if c.name in columns)
    unit = Unit(
        key=key,
        address=data.address,
        destination=data.destination,
        kind=data.item.spec.source.kind,
        path=path,
        options=dict(data.item.options),
        content=content,
        modified=description.fingerprint.modified,
        rows=rows,
        nbytes=round(rows * row_bytes),
        origins=origins,
        chunks=len(bounds),
        lives=lives,
        old_key=data.old_key if data.old_key and description.column(data.old_key) else None,
    )
    surplus = max(0, description.rows - rows) if whole else 0
    return UnitFacts(unit, bounds, surplus=surplus, unfit=unfit, moves=description.moves)


def _skipped(spec: Spec, wanted: Wanted, data: WantedData, path: str, known: Known) -> list[Key]:
    """Give the keys of a collection's rows that are on record as not fitting, and may be skipped as they were."""
    name = wanted.declared.name
    session, live = known.facts.sessions.get(data.destination), known.live.get(name)
    if spec.collections[name].on_bad_row != "skip" or known.journal is None or session is None:
        return []
    if not session.is_of(live, data.partition, auto_id=wanted.effective.primary.auto_id):
        return []
    return known.journal.rejected_keys(known.target.identity, data.destination, data.address, path)


def _frozen(key: str, saved: Plan | None) -> tuple[Bounds, ...] | None:
    """Give the cut of a unit that a saved plan holds whole; of what it holds in part the journal knows the rest."""
    index = next((i for i, u in enumerate(saved.units) if u.key == key), None) if saved else None
    if saved is None or index is None:
        return None
    bounds = tuple(c.bounds for c in saved.steps if isinstance(c, CopyChunk) and c.unit == index)
    return bounds if len(bounds) == saved.units[index].chunks else None


def _content(
    data: WantedData,
    path: str,
    description: Description,
    source: Source,
    known: Known,
    origins: dict[str, str | dict[str, Any]],
) -> str:
    """Give the content a file is known by.

    Samples that are equal under another time, or another name, are not proof: the chunks that are done are hashed
    again, and only if all are as they were is it the same content. Otherwise it is told apart by its time, for its
    samples cannot.
    """
    now = description.fingerprint
    recorded = known.facts.files.get((data.address, path))
    is_new = recorded is None or recorded.content.partition("@")[0] != now.content
    content = now.content if recorded is None or is_new else recorded.content
    key = unit_key(data.destination, origins, content)
    if is_new and all(key != brought for brought, *_ in known.facts.brought):
        return content
    if known.journal is None or (recorded is not None and not is_new and recorded.modified == now.modified):
        return content
    for bounds, was in known.journal.digests(known.target.identity, key):
        batch = source.read(bounds, columns_of(data.mapping))
        rows = take_rows(batch, bounds.lo, data.mapping, known.target.rules).rows
        if digest(rows) != was:
            return f"{now.content}@{now.modified}"
    return content
