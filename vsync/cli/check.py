"""``vsync check``: compares source and target, shows what differs, and writes it down."""

from __future__ import annotations

import shlex
import sys
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import rich_click as click

from vsync.cli.common import Shown, load, save, state_label
from vsync.cli.group import vsync
from vsync.cli.options import Duration, PlanFile, downtime_options, plan_options, spec_argument
from vsync.errors import MismatchError, UsageError, many, refused

if TYPE_CHECKING:
    from vsync.checking.findings import How
    from vsync.compare import Checked
    from vsync.planning.choice import Choice


@vsync.command()
@spec_argument
@plan_options
@click.option("--quick", is_flag=True, help="Compare counts alone.")
@click.option("--full", is_flag=True, help="Compare the content of every field, not the keys alone.")
@click.option(
    "--sample", type=click.IntRange(min=1), metavar="N", help="Compare the content of N rows, drawn by chance."
)
@click.option("--seed", type=click.IntRange(min=0), help="Draw the same rows again.")
@click.option("--one-way", is_flag=True, help="Rows that only the target has are no difference.")
@click.option("--combined", type=click.Path(path_type=Path), metavar="FILE", help="Write a line for each difference.")
@click.option("--repair", is_flag=True, help="Make a plan that mends what is found; --out names it.")
@click.option("--out", type=PlanFile(), metavar="FILE", help="Save the repair, for apply.")
@click.option("--transfers", type=click.IntRange(1, 64), help="Questions to the target at once, where it bears them.")
@downtime_options
@click.option(
    "--stats", type=Duration(), default="30s", metavar="TIME", help="Without a terminal, a line every so often."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON objects, one a line.")
def check(spec: Path, variables: dict[str, str], choice: Choice, state: Path | None, **options: Any) -> None:
    """Compare the rows of the data with those of the target. Reads only."""
    from vsync.compare import check as compare
    from vsync.report.findings import CheckReport

    how = _how(options)
    loaded = load(spec, variables)
    with ExitStack() as stack:
        combined = stack.enter_context(_combined(options["combined"])) if options["combined"] else None
        with CheckReport(options["stats"], combined, as_json=options["as_json"]) as report:
            checked = compare(
                loaded, how=how, sample=options["sample"] or 0, seed=options["seed"], one_way=options["one_way"],
                repair=options["repair"], state=state, choice=choice, transfers=options["transfers"],
                retries=options["retries"], max_downtime=options["max_downtime"], report=report,
            )  # fmt: skip
    _show(checked, report.shown, options, f"Spec {loaded.name}   State {state_label(loaded, state)}")
    _save_repair(checked, options)
    if checked.differences:
        hint = _how_to_mend(checked) if not options["repair"] else None
        what = f"source and target differ in {many(checked.differences, 'row')}"
        raise Shown(MismatchError(what, hint=hint), shown=options["as_json"])


def _how_to_mend(checked: Checked) -> str:
    """Say the command that mends what this one found."""
    words = [w for w in sys.argv[1:] if w not in {"--quick", "--json"}]
    extra = any(c.extra for c in checked.compared)
    more = "; what the data does not have is deleted with --allow-destroy ADDR" if extra else ""
    return f"mend it: vsync {shlex.join([*words, '--repair', '--out', 'mend.json'])}, then vsync apply mend.json{more}"


def _how(options: dict[str, Any]) -> How:
    chosen = [name for name in ("quick", "full", "sample") if options[name]]
    if len(chosen) > 1:
        raise UsageError(f"--{chosen[0]} and --{chosen[1]} exclude each other", hint="choose one")
    if options["seed"] is not None and not options["sample"]:
        raise UsageError("--seed is of --sample N")
    if options["repair"] != bool(options["out"]):
        raise UsageError("--repair and --out FILE go together", hint="vsync check --repair --out FILE")
    if options["repair"] and options["quick"]:
        raise UsageError("counts name no rows: --repair cannot mend what --quick finds", hint="leave out --quick")
    kinds: dict[str, How] = {"quick": "counts", "full": "content", "sample": "sample"}
    return kinds[chosen[0]] if chosen else "keys"


def _combined(path: Path) -> TextIO:
    try:
        return path.open("w", encoding="utf-8")
    except OSError as e:
        raise UsageError(f"cannot write {path}: {e.strerror}") from e


def _show(checked: Checked, shown: Any, options: dict[str, Any], head: str) -> None:
    from vsync.report import jsonl
    from vsync.report.console import show
    from vsync.report.findings import checked_lines

    if options["as_json"]:
        jsonl.say(
            "summary",
            differences=checked.differences,
            seed=checked.seed,
            compared=[{**asdict(c), "differences": c.differences} for c in checked.compared],
        )
        return
    show([("plain", f"Target {checked.target_label}   {head}"), ("plain", "")])
    show(checked_lines(checked, shown))


def _save_repair(checked: Checked, options: dict[str, Any]) -> None:
    made = checked.repair
    if made is None:
        return
    if made.conflicts:
        raise Shown(refused(list(made.conflicts)), shown=False)
    if made.empty:
        if not options["as_json"]:
            why = "" if not checked.differences else " without --allow-destroy ADDR: the data does not have these rows"
            click.echo(f"There is nothing to mend{why}. {options['out']} is not written.")
        return
    save(made, options["out"])
    if not options["as_json"]:
        out = options["out"]
        click.echo(f"The repair is saved to {out}. Look at it: vsync show {out}; carry it out: vsync apply {out}")
