"""The group of all commands."""

from __future__ import annotations

import difflib
from typing import Any

import rich_click as click


class Commands(click.RichGroup):
    """A group that says what was meant where a command is mistyped."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the words; without any, help is what was meant."""
        given = args or ([] if ctx.resilient_parsing else ["--help"])
        parsed: list[str] = super().parse_args(ctx, given)
        return parsed

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command, or say which is near."""
        if args and self.get_command(ctx, args[0]) is None:
            near = difflib.get_close_matches(args[0], self.list_commands(ctx), 1)
            hint = f"Did you mean {near[0]}?" if near else "vsync --help lists the commands."
            raise click.UsageError(f"There is no command {args[0]!r}. {hint}", ctx)
        return super().resolve_command(ctx, args)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "auto_envvar_prefix": "VSYNC"})
def vsync() -> None:
    """Sync a Milvus with what a spec declares.

    A YAML spec says what a Milvus should hold; plan shows the difference, apply makes it so, and an interrupted
    apply goes on where it stopped.
    """
