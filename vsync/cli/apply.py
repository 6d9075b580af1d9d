"""``vsync apply``: asks, hears signals, shows what happens."""

from __future__ import annotations

import os
import shlex
import signal
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from vsync.cli.common import load, saved_plan, show_plan, state_label
from vsync.cli.group import vsync
from vsync.cli.options import Duration, Rate, downtime_options, plan_options
from vsync.errors import ConflictError, StoppedError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from vsync.applying.settings import Settings, Stop
    from vsync.planning.choice import Choice
    from vsync.planning.steps import Plan
    from vsync.spec import Spec


_OPTIONS: list[Callable[..., Any]] = [
    click.option("--json", "as_json", is_flag=True, help="Print JSON objects, one a line."),
    click.option("--transfers", type=click.IntRange(1, 64), help="Requests in flight, where the target bears it."),
    click.option("--bwlimit", type=Rate(), metavar="RATE", help="Send at most so many bytes a second: 50M."),
    click.option(
        "--tpslimit", type=click.FloatRange(min=0, min_open=True), help="Send at most so many requests a second."
    ),
    click.option(
        "--max-duration", type=Duration(), metavar="TIME", help="Stop starting chunks after this: 6h. Exit 8."
    ),
    downtime_options,
    click.option(
        "--stats", type=Duration(), default="30s", metavar="TIME", help="Without a terminal, a line every so often."
    ),
    click.option("--fail-fast", is_flag=True, help="Stop at the first chunk that cannot be done."),
]


def apply_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options of how a plan is carried out."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@vsync.command()
@click.argument("what", metavar="[SPEC | PLANFILE]", type=click.Path(path_type=Path), default=Path("vsync.yaml"))
@plan_options
@click.option("--auto-approve", is_flag=True, help="Do not ask.")
@apply_options
@click.option("--restart", multiple=True, metavar="ADDR", help="Copy all rows of this address again.")
def apply(what: Path, variables: dict[str, str], choice: Choice, state: Path | None, **options: Any) -> None:
    """Make the target hold what the spec says, or carry out a saved plan. Run it again to go on."""
    saved = saved_plan(what)
    if saved and options["restart"]:
        raise UsageError("a saved plan is carried out as it was approved", hint="give --restart with the spec")
    choice = replace(choice, restart=options["restart"])
    carry_out(saved or load(what, variables), f"vsync plan {what}", state, choice, options)


def carry_out(
    subject: Spec | Plan, look_with: str, state: Path | None, choice: Choice, options: dict[str, Any]
) -> None:
    """Apply a spec or a saved plan as the options say, and show what happens; ``look_with`` shows the plan alone."""
    from vsync import api
    from vsync.report import jsonl
    from vsync.report.progress import ProgressReport

    stop = stop_on_signals()
    hint = f"look at it with {look_with}, then add --auto-approve, or apply a saved plan"
    try:
        if options["as_json"]:
            result = api.apply(
                subject, state=state, choice=choice, settings=_settings(options), stop=stop, report=jsonl.say_event,
                confirm=confirmation(hint, subject, state, options),
            )  # fmt: skip
            jsonl.say("summary", empty=result.plan.empty, balance=[asdict(s) for s in result.settled])
            return
        with ProgressReport(options["stats"]) as report:
            result = api.apply(
                subject, state=state, choice=choice, settings=_settings(options), stop=stop, report=report,
                confirm=confirmation(hint, subject, state, options, report),
            )  # fmt: skip
    except StoppedError as e:
        raise stopped(e, stop) from e
    from vsync.report.console import show
    from vsync.report.words import applied_lines, plan_lines

    if result.plan.empty:
        show(plan_lines(result.plan, state=_label(subject, state)))
    else:
        show(applied_lines(result.settled))


def stopped(error: StoppedError, stop: Stop) -> StoppedError:
    """Say how what was stopped goes on."""
    go_on = shlex.join(_going_on(sys.argv[1:]))
    return StoppedError(f"{error.problems[0].what}. Go on with: vsync {go_on}", signal=stop.signal)


def _going_on(words: list[str]) -> list[str]:
    """Leave --restart out: what goes on does not begin anew."""
    kept = [w for w in words if not w.startswith("--restart=")]
    while "--restart" in kept:
        place = kept.index("--restart")
        del kept[place : place + 2]
    return kept


def _label(subject: Spec | Plan, state: Path | None) -> str:
    """Say where the state of a spec lies; of a saved plan nobody asked."""
    from vsync.spec import Spec as Loaded

    return state_label(subject, state) if isinstance(subject, Loaded) else ""


def _settings(options: dict[str, Any]) -> Settings:
    from vsync.applying.settings import TRANSFERS
    from vsync.applying.settings import Settings as Chosen

    return Chosen(
        transfers=options["transfers"] or TRANSFERS,
        retries=options["retries"],
        max_downtime=options["max_downtime"],
        max_duration=options["max_duration"],
        bytes_per_second=options["bwlimit"],
        requests_per_second=options["tpslimit"],
        fail_fast=options["fail_fast"],
    )


def stop_on_signals() -> Stop:
    """Make the first SIGINT or SIGTERM a word to stop, and the second an end at once: the journal bears it."""
    from vsync.applying.settings import Stop as Word

    stop = Word()

    def heard(number: int, _frame: Any) -> None:
        if stop.is_set():
            go_on = shlex.join(_going_on(sys.argv[1:]))
            os.write(2, f"\nStopped at once; what is done is kept. Go on with: vsync {go_on}\n".encode())
            os._exit(128 + number)
        stop.set(number)

    signal.signal(signal.SIGINT, heard)
    signal.signal(signal.SIGTERM, heard)
    return stop


def confirmation(
    hint: str, subject: Spec | Plan, state: Path | None, options: dict[str, Any], report: Any = None
) -> Callable[[Plan], bool]:
    """Make the question that is asked before a plan is carried out; ``hint`` is for those who cannot be asked."""

    def ask(made: Plan) -> bool:
        show_plan(made, as_json=options["as_json"], concise=True, state=_label(subject, state))
        if options["auto_approve"]:
            return True
        if not sys.stdin.isatty():
            raise ConflictError(
                "nobody can be asked: this is no terminal",
                hint=hint,
            )
        if report is not None:
            report.pause()
        agreed = _ask_by_name(made)
        if report is not None:
            report.go_on()
        return agreed

    return ask


def _ask_by_name(made: Plan) -> bool:
    """Ask once for the whole, and by name for each thing that would be destroyed."""
    for change in made.changes:
        if change.action in {"replace", "destroy"}:
            name = input(f"{change.address}: {change.summary}. Its rows are lost. Type {change.address} to agree: ")
            if name.strip() != change.address:
                return False
    return input("Apply this plan? Only yes is taken for yes: ").strip() == "yes"
