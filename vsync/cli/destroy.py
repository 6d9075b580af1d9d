"""``vsync destroy``: drops what vsync made."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import rich_click as click

from vsync.cli.apply import confirmation, stop_on_signals, stopped
from vsync.cli.common import load
from vsync.cli.group import vsync
from vsync.cli.options import downtime_options, spec_argument, spec_options, state_option
from vsync.errors import StoppedError

if TYPE_CHECKING:
    from pathlib import Path

STATS = 30.0
"""For how many seconds at most nothing is said, where nobody watches."""


@vsync.command()
@spec_argument
@spec_options
@state_option
@click.option("--allow-destroy", multiple=True, metavar="ADDR", help="Let the collection at this address be dropped.")
@click.option("--auto-approve", is_flag=True, help="Do not ask.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON objects, one a line.")
@downtime_options
def destroy(
    spec: Path, variables: dict[str, str], state: Path | None, allow_destroy: tuple[str, ...], **options: Any
) -> None:
    """Drop the collections that vsync made of a spec, with their rows. Without --allow-destroy it only names them."""
    from vsync.applying.settings import Settings
    from vsync.destruction import destroy as drop
    from vsync.planning.choice import Choice
    from vsync.report import jsonl
    from vsync.report.console import show
    from vsync.report.progress import ProgressReport
    from vsync.report.words import destroyed_lines

    loaded, stop, as_json = load(spec, variables), stop_on_signals(), options["as_json"]
    try:
        with ExitStack() as stack:
            bars = None if as_json else stack.enter_context(ProgressReport(STATS))
            made = drop(
                loaded,
                state=state,
                choice=Choice(allow_destroy=allow_destroy),
                settings=Settings(retries=options["retries"], max_downtime=options["max_downtime"]),
                stop=stop,
                report=bars or jsonl.say_event,
                confirm=confirmation("look at what goes, and add --auto-approve", loaded, state, options, bars),
            )
    except StoppedError as e:
        raise stopped(e, stop) from e
    if as_json:
        jsonl.say("summary", empty=made.empty, destroyed=[c.address for c in made.changes if c.action == "destroy"])
    else:
        show(destroyed_lines(made))
