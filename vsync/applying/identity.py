"""Whether collections are still those that the plan saw: anybody may drop, rename or make one again at any moment.

What one collection acknowledged says nothing of another that has its name now. So each is known by its id from the
first look on, and asked for it again before each step and each chunk, and after its rows were counted. What is sent
in the moment in between may go into the new one: its rows are there like those of anybody else.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from vsync.errors import StalePlanError
from vsync.planning import steps as s
from vsync.planning.build import observed_digest

if TYPE_CHECKING:
    from vsync.applying.retry import Retry
    from vsync.connectors.base import Target

AGAIN = "run the same command again: it plans anew, from what is there now"


@dataclass(slots=True)
class Identities:
    """The ids of the collections that an apply is at work on; ``None`` for one that is still to be made.

    ``loaded`` names those that were loaded at the first look.
    """

    target: Target
    retry: Retry
    known: dict[str, str | None] = field(default_factory=dict)
    loaded: set[str] = field(default_factory=set)

    def look(self, plan: s.Plan) -> None:
        """Take the first look; raises StalePlanError where something is not as the plan saw it."""
        names = sorted({name for step in plan.steps if (name := collection_of(step, plan)) is not None})
        live = self.retry.call(partial(self.target.observe, names, count=False))
        for name in names:
            if observed_digest(live.get(name)) != plan.observed[name]:
                raise StalePlanError(f"collection.{name} changed since the plan was made", hint=AGAIN)
            self.known[name] = live[name].id if name in live else None
        self.loaded = {name for name, one in live.items() if one.loaded}

    def learn(self, name: str) -> str:
        """Take a collection for the one that is there now, since this apply has made or dropped it; gives its id."""
        self.known[name] = found = self.retry.call(self.target.collection_id, name)
        return found or ""

    def check(self, name: str) -> str:
        """Give a collection's id; raises StalePlanError where it is not what it was."""
        known, now = self.known[name], self.retry.call(self.target.collection_id, name)
        if now == known:
            return now or ""
        if now is None:
            what = "is not there any more: somebody dropped or renamed it meanwhile"
        elif known is None:
            what = "is there now: somebody made it meanwhile"
        else:
            what = "is another one than before: somebody dropped it meanwhile and made it again"
        raise StalePlanError(f"collection.{name} {what}", hint=AGAIN)

    def check_all(self) -> None:
        """Check every collection that is there, as far as is known."""
        for name, known in self.known.items():
            if known is not None:
                self.check(name)

    def is_to_be_loaded(self, name: str, plan: s.Plan) -> bool:
        """Tell whether a collection is loaded once the plan's steps are done, and so can be counted."""
        said = [
            isinstance(step, s.Load)
            for step in plan.steps
            if isinstance(step, s.Load | s.Release | s.DropIndex) and step.collection == name
        ]
        return said[-1] if said else name in self.loaded


def collection_of(step: s.Step, plan: s.Plan) -> str | None:
    """Name the collection that a step is about."""
    if isinstance(step, s.CreateDatabase | s.Finish):
        return None
    if isinstance(step, s.CopyChunk | s.RewriteRows):
        return plan.destination(plan.units[step.unit].destination).collection
    if isinstance(step, s.Verify | s.Clear | s.DeleteRows | s.Recount):
        return plan.destination(step.destination).collection
    return step.collection
