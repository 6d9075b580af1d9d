"""The commands that look and show; apply has a room of its own."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import rich_click as click

from vsync.cli.common import Shown, load, save, saved_plan, show_plan, show_refreshed, state_label
from vsync.cli.group import vsync
from vsync.cli.options import PlanFile, plan_options, spec_argument, spec_options
from vsync.errors import UsageError, many, refused

if TYPE_CHECKING:
    from vsync.checking.findings import Event
    from vsync.planning.choice import Choice

EXIT_CODES = {
    0: "done, or nothing to do",
    1: "an error",
    2: "changes are pending (plan --detailed-exitcode)",
    3: "finished, but rows were rejected, or source and target differ",
    4: "the plan is stale, or a source or the target changed meanwhile",
    5: "the server was away too long: run it again",
    8: "a limit was reached (--max-duration, max_delete)",
    11: "another process holds the state, or the Milvus Lite folder",
    12: "refused: a conflict, or something would be destroyed that was not allowed to be",
    64: "the command line is not understood",
    130: "stopped by Ctrl-C; run it again to go on",
    143: "stopped by SIGTERM; run it again to go on",
}


@vsync.command()
@spec_argument
@spec_options
def validate(spec: Path, variables: dict[str, str]) -> None:
    """Check a spec, without a connection."""
    loaded = load(spec, variables)
    copies = f", and {len(loaded.copies)} of copy:" if loaded.copies else ""
    click.echo(f"{spec}: a valid spec of {many(len(loaded.collections), 'collection')}{copies}")


@vsync.command()
@spec_argument
@plan_options
@click.option("--out", type=PlanFile(), metavar="FILE", help="Save the plan, for apply.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON objects, one a line.")
@click.option(
    "--detailed-exitcode", is_flag=True, help="Exit 0 without changes, 2 with; errors have their own codes as ever."
)
@click.option("--deep", is_flag=True, help="Check every value and compare every key now, not when applied.")
@click.option("--concise", is_flag=True, help="Leave out what stays as it is.")
@click.option("--refresh-only", is_flag=True, help="Plan nothing: show what moved on the target since it was applied.")
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
    refresh_only: bool,  # noqa: FBT001
) -> None:
    """Show what it takes to make the target hold what the spec says. Nothing is written."""
    from vsync import api

    loaded = load(spec, variables)
    if refresh_only:
        if out is not None or deep:
            raise UsageError("--refresh-only plans nothing", hint="leave --out and --deep out")
        seen = api.refresh(loaded, state=state, choice=choice)
        show_refreshed(seen, as_json=as_json, concise=concise)
        sys.exit(2 if detailed_exitcode and seen.moved else 0)
    made = api.plan(loaded, state=state, choice=choice, deep=deep, report=None if as_json else _comparing)
    show_plan(made, as_json=as_json, concise=concise, state=state_label(loaded, state))
    if made.conflicts:
        if out is not None and not as_json:
            click.echo(f"{out} is not written: nothing of this plan can be applied.")
        raise Shown(refused(list(made.conflicts)), shown=as_json)
    if out is not None:
        save(made, out)
        if not as_json:
            click.echo(f"Saved to {out}. Carry it out with: vsync apply {out}")
    if detailed_exitcode and not made.empty:
        sys.exit(2)


@vsync.command()
@click.argument("what", metavar="SPEC | PLANFILE", type=click.Path(path_type=Path), default=Path("vsync.yaml"))
@spec_options
@click.option("--steps", is_flag=True, help="Print the ordered steps of a saved plan.")
def show(what: Path, variables: dict[str, str], steps: bool) -> None:  # noqa: FBT001 - click passes flags by name
    """Print a spec in its long form, or a saved plan."""
    from vsync.planning.words import describe

    saved = saved_plan(what)
    if saved is None:
        if steps:
            raise UsageError(f"{what} is a spec: only a plan has steps", hint="make one: vsync plan --out FILE")
        click.echo(load(what, variables).to_yaml(), nl=False)
    elif steps:
        for step in saved.steps:
            click.echo(describe(step, saved))
    else:
        show_plan(saved, as_json=False, concise=False, state="")


def _comparing(event: Event) -> None:
    """Say that a plan reads rows: a mirror's takes as long as a check does."""
    from vsync.checking.findings import CheckBegan

    if isinstance(event, CheckBegan):
        click.echo(f"  comparing {event.address} with its data: {event.rows:,} rows of both sides", err=True)


@vsync.command()
def schema() -> None:
    """Print the JSON Schema of specs, for editors."""
    import json

    from vsync.spec import json_schema

    click.echo(json.dumps(json_schema(), indent=2))


@vsync.command()
@click.option(
    "--from", "origin", required=True, metavar="FILE | URI", help="A data file, a Milvus Lite folder or a server."
)
@click.option("--collections", default="*", metavar="GLOB", help="Of a Milvus: only these.")
@click.option("--target", help="Where it is to go: ./milvus.db for a file. With a Milvus, the spec copies it there.")
@click.option("--token-env", metavar="NAME", help="The variable that holds the server's token.")
@click.option("--database", help="The server's database.")
def init(origin: str, collections: str, target: str | None, token_env: str | None, database: str | None) -> None:
    """Write the long form of a spec from what is found in a file or a Milvus, to stdout."""
    from vsync.init import spec_from

    click.echo(
        spec_from(origin, collections=collections, target=target, token_env=token_env, database=database), nl=False
    )


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
        raise UsageError(
            f"there is no command {topic!r}", hint="vsync --help lists the commands, vsync help exit-codes the codes"
        )
    assert ctx.parent is not None
    about = command.context_class(command, info_name=topic or "vsync", parent=ctx.parent if topic else None)
    click.echo(command.get_help(about))
