"""``vsync backup`` and ``vsync restore``: each makes a spec, and carries it out as apply does."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from vsync.cli.apply import apply_options, carry_out
from vsync.cli.common import Shown, load, show_plan, state_label
from vsync.cli.group import vsync
from vsync.cli.options import state_option_for
from vsync.errors import UsageError, refused

if TYPE_CHECKING:
    from collections.abc import Callable

    from vsync.spec import Spec

_LOOKING = [
    click.option("--plan", "plan_only", is_flag=True, help="Show the plan, and do nothing."),
    click.option("--chunk-bytes", metavar="SIZE", help="About how large a range is: 16MiB."),
    click.option("--show-spec", is_flag=True, help="Print the spec that this command makes, and do nothing."),
]
_CHOOSING = [
    click.option("--collections", multiple=True, metavar="GLOB", help="Only these; may be repeated."),
    click.option("--deny", multiple=True, metavar="GLOB", help="Not these."),
    click.option("--partitions", multiple=True, metavar="GLOB", help="Of each only these partitions."),
    click.option("--where", metavar="EXPRESSION", help="Only rows that this is true of: lang == 'en'"),
]


def _with(options: list[Callable[..., Any]]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def given(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            command = option(command)
        return command

    return given


@vsync.command()
@click.argument("places", nargs=-1, required=True, metavar="[SPEC] REPO")
@click.option("--from", "origin", metavar="URI", help="The Milvus: a Milvus Lite folder or a server.")
@click.option("--token-env", metavar="NAME", help="The variable that holds the server's token.")
@click.option("--database", help="The server's database.")
@click.option("--load-source", is_flag=True, help="Load what is not loaded, and release it afterwards.")
@_with(_CHOOSING)
@_with(_LOOKING)
@state_option_for("in the current folder, or beside SPEC")
@apply_options
def backup(places: tuple[str, ...], origin: str | None, state: Path | None, **options: Any) -> None:
    """Back up a Milvus into a repository: a folder, or s3://BUCKET/PREFIX. Run it again to go on.

    What is backed up is all that a database of a Milvus holds (--from URI), or the collections of a spec's target.
    Rows that are in the repository are not stored again.
    """
    from vsync.backups import backup_spec, source_of

    *specs, repo = places
    if (origin is None) != (len(specs) == 1) or len(specs) > 1:
        hint = "vsync backup --from http://localhost:19530 REPO, or vsync backup SPEC REPO"
        raise UsageError("a backup is of one spec's target, or of one Milvus", hint=hint)
    folder = Path.cwd()
    if origin is not None:
        source, names = _connection(origin, options["token_env"], options["database"]), list[str]()
    else:
        spec = load(Path(specs[0]), {})
        source, names = source_of(spec)
        folder, repo = spec.folder, repo if "://" in repo else str(Path(repo).absolute())
    choice = {
        "collections": _names(options["collections"] or names, options["deny"]),
        "partitions": _names(options["partitions"], ()),
        "where": options["where"],
        "load_source": options["load_source"],
    }
    made = backup_spec(repo, source, folder, choice=choice, chunk_bytes=options["chunk_bytes"], environ=os.environ)
    _do(made, state, {**options, "auto_approve": True})
    if not (options["plan_only"] or options["show_spec"] or options["as_json"]):
        _tell_snapshot(made, repo)


def _tell_snapshot(made: Spec, repo: str) -> None:
    from vsync.connectors.backup import existing
    from vsync.spec import StoreTarget

    assert isinstance(made.target, StoreTarget)
    last = existing(repo).last(str(made.target.options["name"]))
    if last is not None:
        click.echo(f"Snapshot {last.id}. Bring it back with: vsync restore {repo} {last.id} --to URI")


@vsync.command()
@click.argument("repo")
@click.argument("snapshot", required=False)
@click.option("--to", required=True, metavar="URI", help="Where to: a Milvus Lite folder or a server.")
@click.option("--token-env", metavar="NAME", help="The variable that holds the server's token.")
@click.option("--database", help="The server's database; made where it is not there.")
@click.option("--rename", metavar="NAME", help='What each is called there: "{collection}_restored"')
@click.option("--no-aliases", is_flag=True, help="Leave out the aliases that they have in the snapshot.")
@click.option("--write", help="What is done to rows that are there: append, upsert, skip, overwrite or mirror.")
@click.option("--max-delete", metavar="MOST", help="Of mirror: the most that it deletes of each, 10% or 5000.")
@click.option("--accept-loss", multiple=True, metavar="ADDR", help="Let this be lost, where the target cannot hold it.")
@click.option("--allow-destroy", multiple=True, metavar="ADDR", help="Let the rows at this address be destroyed.")
@click.option("--auto-approve", is_flag=True, help="Do not ask.")
@_with(_CHOOSING)
@_with(_LOOKING)
@state_option_for("in the current folder")
@apply_options
def restore(repo: str, snapshot: str | None, to: str, state: Path | None, **options: Any) -> None:
    """Bring a snapshot of a repository into a Milvus: the last one, or the one that is named. Run it again to go on."""
    from vsync.backups import restore_spec

    choice = {
        "collections": _names(options["collections"], options["deny"]),
        "partitions": _names(options["partitions"], ()),
        "where": options["where"],
    }
    target = _connection(to, options["token_env"], options["database"])
    copy = {
        "rename": options["rename"],
        "write": options["write"],
        "max_delete": _most(options["max_delete"]),
        "aliases": [] if options["no_aliases"] else None,
    }
    made = restore_spec(
        repo, snapshot, target, Path.cwd(),
        choice=choice, copy=copy, accept_loss=options["accept_loss"],
        chunk_bytes=options["chunk_bytes"], environ=os.environ,
    )  # fmt: skip
    _do(made, state, options)


def _connection(uri: str, token_env: str | None, database: str | None) -> dict[str, Any]:
    token = {"token": {"env": token_env}} if token_env else {}
    return {"uri": uri, **token, **({"database": database} if database else {})}


def _most(said: str | None) -> str | int | None:
    """Read a number as one; whether the rest means something the spec says."""
    return int(said) if said and said.isdecimal() else said


def _names(allow: Any, deny: Any) -> dict[str, list[str]] | None:
    said = {"allow": list(allow), "deny": list(deny)}
    return {key: names for key, names in said.items() if names} or None


def _do(made: Spec, state: Path | None, options: dict[str, Any]) -> None:
    """Show what is asked for, or carry it out."""
    from vsync import api
    from vsync.planning.choice import Choice

    choice = Choice(allow_destroy=options.get("allow_destroy", ()))
    if options["show_spec"]:
        click.echo(made.to_yaml(), nl=False)
        return
    if options["plan_only"]:
        plan = api.plan(made, state=state, choice=choice)
        show_plan(plan, as_json=options["as_json"], concise=False, state=state_label(made, state))
        if plan.conflicts:
            raise Shown(refused(list(plan.conflicts)), shown=options["as_json"])
        return
    carry_out(made, "--plan", state, choice, options)
