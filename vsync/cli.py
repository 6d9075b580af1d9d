"""The command line: the only reader of argv and of the environment. Calls the API, maps errors to exit codes."""

from __future__ import annotations

import difflib
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from vsync.errors import ConflictError, StoppedError, UsageError, VsyncError
from vsync.options import Duration, Rate, plan_options, spec_argument, spec_options, state_option

if TYPE_CHECKING:
    from collections.abc import Callable

    from vsync.applying.settings import Settings, Stop
    from vsync.planning.choice import Choice
    from vsync.planning.steps import Plan
    from vsync.spec import Spec

EXIT_CODES = {
    0: "done, or nothing to do",
    1: "an error",
    2: "changes are pending (plan --detailed-exitcode)",
    3: "finished, but rows were rejected, or source and target differ",
    4: "the plan is stale, or a source changed",
    5: "the server was away too long: run it again",
    8: "a limit was reached (--max-duration)",
    11: "another process holds the state, or the Milvus Lite folder",
    12: "refused: a conflict, or something would be destroyed that was not allowed to be",
    64: "the command line is not understood",
    130: "stopped by Ctrl-C; run it again to go on",
    143: "stopped by SIGTERM; run it again to go on",
}


class Commands(click.RichGroup):
    """A group that says what was meant where a command is mistyped."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command, or say which is near."""
        if args and self.get_command(ctx, args[0]) is None:
            near = difflib.get_close_matches(args[0], self.list_commands(ctx), 1)
            hint = f"Did you mean {near[0]}?" if near else "vsync --help lists the commands."
            raise click.UsageError(f"There is no command {args[0]!r}. {hint}", ctx)
        return super().resolve_command(ctx, args)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "auto_envvar_prefix": "VSYNC"})
def vsync() -> None:
    """Declarative sync for Milvus.

    A YAML spec says what a Milvus should hold; plan shows the difference, apply makes it so, and an interrupted
    apply goes on where it stopped.
    """


@vsync.command()
@spec_argument
@spec_options
def validate(spec: Path, variables: dict[str, str]) -> None:
    """Check a spec, without a connection."""
    loaded = _load(spec, variables)
    click.echo(f"{spec}: a valid spec of {len(loaded.collections)} collection(s)")


@vsync.command()
@spec_argument
@plan_options
@click.option("--out", type=click.Path(path_type=Path), metavar="FILE", help="Save the plan, for apply.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON objects, one a line.")
@click.option("--detailed-exitcode", is_flag=True, help="Exit 0 without changes, 2 with, 1 on errors.")
@click.option("--deep", is_flag=True, help="Check every value and compare every key now, not when applied.")
@click.option("--concise", is_flag=True, help="Leave out what stays as it is.")
def plan(
    spec: Path,
    variables: dict[str, str],
    choice: Choice,
    state: Path | None,
    out: Path | None,
    as_json: bool,  # noqa: FBT001 - click passes flags by name
    detailed_exitcode: bool,  # noqa: FBT001
    deep: bool,  # noqa: FBT001
    concise: bool,  # noqa: FBT001
) -> None:
    """Show what it takes to make the target hold what the spec says. Nothing is written."""
    from vsync import api

    loaded = _load(spec, variables)
    made = api.plan(loaded, state=state, choice=choice, deep=deep)
    _show_plan(made, as_json=as_json, concise=concise, state=_state_label(loaded, state))
    if made.conflicts:
        raise _Shown(ConflictError(list(made.conflicts)), shown=as_json)
    if out is not None:
        _save(made, out)
        if not as_json:
            click.echo(f"Saved to {out}. Carry it out with: vsync apply {out}")
    if detailed_exitcode and not made.empty:
        sys.exit(2)


@vsync.command()
@click.argument("what", metavar="[SPEC | PLANFILE]", type=click.Path(path_type=Path), default=Path("vsync.yaml"))
@plan_options
@click.option("--auto-approve", is_flag=True, help="Do not ask.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON objects, one a line.")
@click.option("--transfers", type=click.IntRange(1, 64), help="Requests in flight, where the target bears it.")
@click.option("--bwlimit", type=Rate(), metavar="RATE", help="Send at most so many bytes a second: 50M.")
@click.option("--tpslimit", type=click.FloatRange(min=0, min_open=True), help="Send at most so many requests a second.")
@click.option("--max-duration", type=Duration(), metavar="TIME", help="Stop starting chunks after this: 6h. Exit 8.")
@click.option("--max-downtime", type=Duration(), default="10m", metavar="TIME", help="Wait for a target so long. Exit 5.")
@click.option("--retries", type=click.IntRange(min=0), help="Try a failed request so often again.")
@click.option("--stats", type=Duration(), default="30s", metavar="TIME", help="Without a terminal, a line every so often.")
@click.option("--fail-fast", is_flag=True, help="Stop at the first chunk that cannot be done.")
def apply(what: Path, variables: dict[str, str], choice: Choice, state: Path | None, **options: Any) -> None:
    """Make the target hold what the spec says, or carry out a saved plan. Run it again to go on."""
    from vsync import api
    from vsync.report import jsonl
    from vsync.report.progress import ProgressReport

    as_json = options["as_json"]
    saved = _saved_plan(what)
    subject = saved or _load(what, variables)
    stop = _stop_on_signals()
    command = f"vsync apply {what}"
    try:
        if as_json:
            result = api.apply(
                subject, state=state, choice=choice, settings=_settings(options), stop=stop, report=jsonl.say_event,
                confirm=_confirm(what, subject, state, options),
            )  # fmt: skip
            jsonl.say("summary", empty=result.plan.empty, balance=[str(s) for s in result.settled])
            return
        with ProgressReport(options["stats"]) as report:
            result = api.apply(
                subject, state=state, choice=choice, settings=_settings(options), stop=stop, report=report,
                confirm=_confirm(what, subject, state, options, report),
            )  # fmt: skip
    except StoppedError as e:
        raise StoppedError(f"{e.problems[0].what}. Go on with: {command}", signal=stop.signal) from e
    from vsync.report.console import show
    from vsync.report.words import applied_lines, plan_lines

    if result.plan.empty:
        show(plan_lines(result.plan))
    else:
        show(applied_lines(result.settled))


@vsync.command()
@spec_argument
@state_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON objects, one a line.")
def status(spec: Path, state: Path | None, as_json: bool) -> None:  # noqa: FBT001 - click passes flags by name
    """Show how far the last apply is, or went: read from the state alone, also while it runs."""
    from vsync import api
    from vsync.report import jsonl
    from vsync.report.console import show
    from vsync.report.words import status_lines

    seen = api.status(state or spec.absolute().parent / ".vsync" / f"{spec.stem}.db")
    if as_json:
        jsonl.say_status(seen)
    else:
        show(status_lines(seen))


@vsync.command()
@click.argument("what", metavar="SPEC | PLANFILE", type=click.Path(path_type=Path), default=Path("vsync.yaml"))
@spec_options
@click.option("--steps", is_flag=True, help="Print the ordered steps of a saved plan.")
def show(what: Path, variables: dict[str, str], steps: bool) -> None:  # noqa: FBT001 - click passes flags by name
    """Print a spec in its long form, or a saved plan."""
    from vsync.planning.steps import describe

    saved = _saved_plan(what)
    if saved is None:
        if steps:
            raise UsageError(f"{what} is a spec: only a plan has steps", hint="make one: vsync plan --out FILE")
        click.echo(_load(what, variables).to_yaml(), nl=False)
    elif steps:
        for step in saved.steps:
            click.echo(describe(step, saved))
    else:
        _show_plan(saved, as_json=False, concise=False, state="")


@vsync.command()
def schema() -> None:
    """Print the JSON Schema of specs, for editors."""
    import json

    from vsync.spec import json_schema

    click.echo(json.dumps(json_schema(), indent=2))


@vsync.command()
@click.option("--from", "origin", required=True, metavar="FILE | URI", help="A data file, a Milvus Lite folder or a server.")
@click.option("--collections", default="*", metavar="GLOB", help="Of a Milvus: only these.")
@click.option("--target", default="./milvus.db", show_default=True, help="What the spec of a file names as its target.")
@click.option("--token-env", metavar="NAME", help="The variable that holds the server's token.")
@click.option("--database", help="The server's database.")
def init(origin: str, collections: str, target: str, token_env: str | None, database: str | None) -> None:
    """Write the long form of a spec from what is found in a file or a Milvus, to stdout."""
    from vsync.init import spec_from

    click.echo(spec_from(origin, collections=collections, target=target, token_env=token_env, database=database), nl=False)


@vsync.command()
def version() -> None:
    """Print the version."""
    from importlib.metadata import version as installed

    click.echo(f"vsync {installed('vsync')}")


@vsync.command("help")
@click.argument("topic", default="")
@click.pass_context
def help_(ctx: click.Context, topic: str) -> None:
    """Explain a command, or: vsync help exit-codes."""
    if topic == "exit-codes":
        for code, meaning in EXIT_CODES.items():
            click.echo(f"{code:>4}  {meaning}")
        return
    command = vsync.get_command(ctx, topic) if topic else vsync
    if command is None:
        raise UsageError(f"there is no command {topic!r}", hint="vsync --help lists the commands, vsync help exit-codes the codes")
    assert ctx.parent is not None
    click.echo(command.get_help(click.Context(command, info_name=topic or "vsync", parent=ctx.parent if topic else None)))


class _Shown(Exception):  # noqa: N818 - no error of its own: carries one that may have been shown already
    """Carries an error to the boundary; ``shown`` where the user has seen its text."""

    def __init__(self, error: VsyncError, *, shown: bool) -> None:
        super().__init__(str(error))
        self.error = error
        self.shown = shown


def _load(path: Path, variables: dict[str, str]) -> Spec:
    from vsync.spec import load_spec

    return load_spec(path, variables, os.environ)


def _state_label(spec: Spec, state: Path | None) -> str:
    from vsync.api import state_path

    path = state_path(spec, state)
    return os.path.relpath(path)


def _show_plan(made: Plan, *, as_json: bool, concise: bool, state: str) -> None:
    if as_json:
        from vsync.report.jsonl import say_plan

        say_plan(made)
        return
    from vsync.report.console import show as show_lines
    from vsync.report.words import plan_lines

    show_lines(plan_lines(made, concise=concise, state=state))


def _save(made: Plan, out: Path) -> None:
    try:
        handle = os.open(out, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(made.to_json())
    except OSError as e:
        raise UsageError(f"cannot write {out}: {e.strerror}") from e


def _saved_plan(path: Path) -> Plan | None:
    """Read a saved plan; ``None`` where the file is no JSON, and so a spec."""
    from vsync.planning.steps import Plan as Saved

    if path.suffix != ".json":
        return None
    try:
        return Saved.from_json(path.read_bytes(), str(path))
    except OSError as e:
        raise UsageError(f"cannot read {path}: {e.strerror}", hint="make a plan: vsync plan --out FILE") from e


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


def _stop_on_signals() -> Stop:
    """Make the first SIGINT or SIGTERM a word to stop, and the second an end at once: the journal bears it."""
    from vsync.applying.settings import Stop as Word

    stop = Word()

    def heard(number: int, _frame: Any) -> None:
        if stop.is_set():
            os._exit(128 + number)
        stop.set(number)

    signal.signal(signal.SIGINT, heard)
    signal.signal(signal.SIGTERM, heard)
    return stop


def _confirm(
    what: Path, subject: Spec | Plan, state: Path | None, options: dict[str, Any], report: Any = None
) -> Callable[[Plan], bool]:
    """Make the question that is asked before a spec is applied; a saved plan was approved when it was saved."""

    def ask(made: Plan) -> bool:
        from vsync.spec import Spec as Loaded

        label = _state_label(subject, state) if isinstance(subject, Loaded) else ""
        _show_plan(made, as_json=options["as_json"], concise=True, state=label)
        if options["auto_approve"]:
            return True
        if not sys.stdin.isatty():
            raise ConflictError(
                "nobody can be asked: this is no terminal",
                hint=f"look at it with vsync plan {what}, then add --auto-approve, or apply a saved plan",
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


def main() -> None:
    """Run the command line; every error of a user's ends here, in words and with its exit code."""
    as_json = "--json" in sys.argv
    try:
        vsync.main(standalone_mode=False, prog_name="vsync")
    except click.exceptions.Exit as e:
        sys.exit(e.exit_code)
    except click.ClickException as e:
        e.show()
        sys.exit(64)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)
    except _Shown as e:
        if not e.shown:
            _show_error(e.error, as_json=False)
        sys.exit(e.error.exit_code)
    except VsyncError as e:
        _show_error(e, as_json=as_json)
        sys.exit(e.exit_code)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(1)
    except Exception as e:
        if os.environ.get("VSYNC_DEBUG"):
            raise
        what = f"vsync itself failed: {type(e).__name__}: {e}"
        _show_error(VsyncError(what, hint="this is a fault of vsync; VSYNC_DEBUG=1 shows where"), as_json=as_json)
        sys.exit(1)


def _show_error(error: VsyncError, *, as_json: bool) -> None:
    if as_json:
        from vsync.report.jsonl import say_error

        say_error(error)
        return
    from vsync.report.console import show_error

    show_error(error)


if __name__ == "__main__":
    main()
