"""The group of all commands."""

from __future__ import annotations

import difflib
import os
import sys
from typing import Any

import rich_click as click

PREFIX = "VSYNC"
"""What the environment variables begin with that give options."""


class Commands(click.RichGroup):
    """A group that says what was meant where a command is mistyped, and takes options from the environment."""

    def add_command(self, cmd: Any, name: str | None = None, *args: Any, **kwargs: Any) -> None:
        """Add a command; each option of it has an environment variable of its own name: ``VSYNC_PLAN_EXCEPT``."""
        super().add_command(cmd, name, *args, **kwargs)
        words = [self.name, name or cmd.name] if self.name != "vsync" else [name or cmd.name]
        for option in cmd.params:
            if isinstance(option, click.Option):
                option.envvar = [_variable(*words, name[2:]) for name in option.opts if name.startswith("--")]

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


def _variable(*words: str) -> str:
    return "_".join((PREFIX, *words)).replace("-", "_").upper()


def wants_json() -> bool:
    """Tell whether the command that is run is to print JSON, before anything is known of its words."""
    words = sys.argv[1:]
    said = [os.environ.get(_variable(*words[:n], "json"), "") for n in (1, 2) if len(words) >= n]
    return "--json" in words or any(value.lower() in {"1", "true", "t", "yes", "y", "on"} for value in said)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
def vsync() -> None:
    """Sync a Milvus with what a spec declares.

    A YAML spec says what a Milvus should hold; plan shows the difference, apply makes it so, and an interrupted
    apply goes on where it stopped.
    """
