"""``vsync status``: how far an apply is, once or until it ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

import rich_click as click

from vsync.cli.common import state_of
from vsync.cli.group import vsync
from vsync.cli.options import Duration, spec_argument, state_option
from vsync.errors import JournalError, SpecError

if TYPE_CHECKING:
    from pathlib import Path


@vsync.command()
@spec_argument
@state_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON objects, one a line.")
@click.option("--watch", is_flag=True, help="Show it again and again, until the apply ends.")
@click.option("--stats", type=Duration(), default="30s", metavar="TIME", help="Without a terminal, --watch so often.")
def status(spec: Path, state: Path | None, as_json: bool, watch: bool, stats: float) -> None:  # noqa: FBT001 - click
    """Show how far the last apply is, or went: read from the state alone, also while it runs."""
    from vsync import api
    from vsync.report import jsonl
    from vsync.report.console import show
    from vsync.report.words import status_lines

    path = state_of(spec, state)
    if not path.exists() and state is not None:
        raise JournalError("there is no state", where=str(state), hint="check the path that --state gives")
    if not path.exists() and not spec.exists():
        raise SpecError(
            "the spec cannot be read: there is none", where=str(spec), hint="check the path, or name --state"
        )
    if watch:
        from vsync.report.watch import watch as watch_it

        watch_it(lambda: api.status(path), stats, jsonl.say_status if as_json else None)
        return
    seen = api.status(path)
    if as_json:
        jsonl.say_status(seen)
    else:
        show(status_lines(seen))
