"""``vsync convert``: from MilvusDM's configurations to specs."""

from __future__ import annotations

from pathlib import Path

import rich_click as click

from vsync.cli.group import vsync
from vsync.errors import UsageError


@vsync.command()
@click.argument("what", metavar="FILE | FOLDER", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), metavar="FILE", help="Write the spec there, not to stdout.")
@click.option("--target", help="Where the rows are to go, instead of dest_host and dest_port.")
def convert(what: Path, out: Path | None, target: str | None) -> None:
    """Write the spec that does what a configuration of MilvusDM did (F2M, H2M, M2M, M2H).

    Comments name each option that has no meaning any more, and each thing that differs. Of a folder that MilvusDM
    exported to, all configurations in it make one spec.
    """
    from vsync.convert import convert as converted

    if out is not None and out.exists():
        raise UsageError(f"{out} is there already", hint="name another file, or remove it")
    text = converted(what, target=target, folder=out.absolute().parent if out else None)
    if out is None:
        click.echo(text, nl=False)
        return
    try:
        out.write_text(text, encoding="utf-8")
    except OSError as e:
        raise UsageError(f"cannot write {out}: {e.strerror}") from e
    click.echo(f"Written to {out}. See what it would do with: vsync plan {out}", err=True)
