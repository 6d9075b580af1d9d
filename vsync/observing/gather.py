"""All the facts of a plan, in the order in which they can be had."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from vsync.errors import SourceError
from vsync.observing.comparing import compare
from vsync.observing.policy import settle_collisions
from vsync.observing.sources import Known, make_units, open_items
from vsync.planning.choice import refuse_unknown
from vsync.planning.facts import Facts, JournalFacts, TargetFacts, UnitFacts
from vsync.planning.wanted import Wanted, want

if TYPE_CHECKING:
    from collections.abc import Callable

    from vsync.checking.findings import Event
    from vsync.connectors.base import Target
    from vsync.errors import Problem
    from vsync.opening import Sources
    from vsync.planning.choice import Choice
    from vsync.planning.steps import Plan
    from vsync.spec import Spec
    from vsync.state.view import View


def gather(
    spec: Spec,
    target: Target,
    sources: Sources,
    journal: View | None,
    choice: Choice,
    *,
    saved: Plan | None = None,
    whole: bool = False,
    report: Callable[[Event], None] = lambda _event: None,
) -> Facts:
    """Look at sources, journal and target; what cannot be had is a problem in the facts, so that all are shown.

    What a ``saved`` plan has frozen of collections stays so. ``whole``: it is all for a comparison that somebody else
    makes. ``report`` hears how far a comparison is that the plan needs.
    """
    refuse_unknown(choice, spec)
    journal_facts = journal.facts(target.identity) if journal else JournalFacts()
    target_facts = _target_facts(spec, target, journal_facts)
    known = Known(journal, target, journal_facts, target_facts.live, saved, whole, choice)
    problems: list[Problem] = []
    wanted: dict[str, Wanted] = {}
    units: list[UnitFacts] = []
    for name in spec.collections:
        if not choice.takes(f"collection.{name}"):
            continue
        missing = len(problems)
        items = open_items(spec, name, sources, problems)
        if len(problems) > missing:
            continue
        live = target_facts.live.get(name)
        unfinished = journal_facts.unfinished(name, live) or name in target_facts.unfinished
        found = want(spec, name, items, live, target.nearest, unfinished=unfinished)
        wanted[name] = found
        if found.problems:
            continue
        try:
            cut = make_units(spec, found, known, sources)
            made, collisions = settle_collisions(spec, name, found, cut, known, sources)
        except SourceError as e:
            problems += e.problems
            continue
        units += made
        problems += collisions
    facts = Facts(target_facts, journal_facts, wanted, tuple(units), tuple(problems))
    if whole or problems:
        return facts
    return replace(facts, compared=compare(spec, facts, choice, known, sources, report))


def _target_facts(spec: Spec, target: Target, journal: JournalFacts) -> TargetFacts:
    has_database = target.has_database()
    orphans = [a.removeprefix("collection.") for a in journal.collections]
    names = list(dict.fromkeys([*spec.collections, *orphans]))
    live = target.observe(names) if has_database else {}
    live = {
        n: c if n in spec.collections and spec.collections[n].data else replace(c, rows=None) for n, c in live.items()
    }
    return TargetFacts(
        identity=target.identity,
        label=target.label,
        database=spec.target.database,
        has_database=has_database,
        live=live,
        aliases=target.aliases() if has_database else {},
        judge=target.conflicts,
        same_index=target.same,
        keeps=target.keeps,
        unfinished=frozenset(name for name in spec.collections if target.unfinished([name])),
    )
