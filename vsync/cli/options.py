"""What the commands' options have in common: types of values, and the options of a spec and of a plan."""

from __future__ import annotations

import re
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

if TYPE_CHECKING:
    from collections.abc import Callable

_TIME = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)?\Z")
_SECONDS = {None: 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_RATE = re.compile(r"(\d+(?:\.\d+)?)([kKMG])?(?:i?B)?\Z")
_BYTES = {None: 1, "k": 2**10, "K": 2**10, "M": 2**20, "G": 2**30}


class Duration(click.ParamType[float]):
    """``30s``, ``10m``, ``6h`` or seconds; gives seconds."""

    name = "time"

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        """Read a duration."""
        if isinstance(value, float):
            return value
        found = _TIME.match(str(value))
        if not found:
            self.fail(f"{value!r} is no time: write 30s, 10m or 6h", param, ctx)
        return float(found[1]) * _SECONDS[found[2]]


class PlanFile(click.ParamType[Path]):
    """The name of a saved plan: apply knows a plan by its ending."""

    name = "file"

    def convert(self, value: Any, param: Any, ctx: Any) -> Path:
        """Read a name."""
        path = Path(value)
        if path.suffix != ".json":
            self.fail(f"{str(value)!r} does not end with .json, by which apply knows a plan from a spec", param, ctx)
        return path


class Rate(click.ParamType[float]):
    """``50M``, ``512K`` or bytes, a second, as in rclone: powers of 1024; gives bytes."""

    name = "rate"

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        """Read a rate."""
        if isinstance(value, float):
            return value
        found = _RATE.match(str(value))
        if not found or not float(found[1]):
            self.fail(f"{value!r} is no rate: write 50M or 512K", param, ctx)
        return float(found[1]) * _BYTES[found[2]]


spec_argument = click.argument("spec", type=click.Path(path_type=Path), default=Path("vsync.yaml"))


def state_option_for(usual: str) -> Callable[..., Any]:
    """Make ``--state`` of a command whose state lies in ``usual`` where nobody says otherwise."""
    about = f"Where the state lies, instead of .vsync/ {usual}."
    return click.option("--state", type=click.Path(path_type=Path), metavar="FILE", help=about)


state_option = state_option_for("beside the spec")

_SPEC_OPTIONS = [
    click.option("--var", "var", multiple=True, metavar="NAME=VALUE", help="A variable of the spec, ${NAME}."),
    click.option(
        "--var-file",
        multiple=True,
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="Variables from a YAML file.",
    ),
]
_PLAN_OPTIONS = [
    *_SPEC_OPTIONS,
    state_option,
    click.option("--only", multiple=True, metavar="ADDR", help="Only what is at this address, or below it."),
    click.option("--except", "leave_out", multiple=True, metavar="ADDR", help="Not what is at this address."),
    click.option("--allow-destroy", multiple=True, metavar="ADDR", help="Let the rows at this address be destroyed."),
]

_DOWNTIME_OPTIONS = [
    click.option(
        "--max-downtime", type=Duration(), default="10m", metavar="TIME", help="Wait for a target so long. Exit 5."
    ),
    click.option("--retries", type=click.IntRange(min=0), help="Try a failed request so often again."),
]


def spec_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command ``--var`` and ``--var-file``; it is called with ``variables``, a name's last value wins."""

    @wraps(command)
    def called(*, var: tuple[str, ...], var_file: tuple[Path, ...], **rest: Any) -> Any:
        return command(variables=_variables(var, var_file), **rest)

    return _with(called, _SPEC_OPTIONS)


def plan_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options of a plan; it is called with ``variables``, ``state`` and ``choice``."""

    @wraps(command)
    def called(
        *,
        var: tuple[str, ...],
        var_file: tuple[Path, ...],
        only: tuple[str, ...],
        leave_out: tuple[str, ...],
        allow_destroy: tuple[str, ...],
        **rest: Any,
    ) -> Any:
        from vsync.planning.choice import Choice

        return command(variables=_variables(var, var_file), choice=Choice(only, leave_out, allow_destroy), **rest)

    return _with(called, _PLAN_OPTIONS)


def downtime_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command ``--max-downtime`` and ``--retries``."""
    return _with(command, _DOWNTIME_OPTIONS)


def _with(called: Callable[..., Any], options: list[Callable[..., Any]]) -> Callable[..., Any]:
    for option in reversed(options):
        called = option(called)
    return called


def _variables(var: tuple[str, ...], var_file: tuple[Path, ...]) -> dict[str, str]:
    from vsync.spec import load_variables

    variables: dict[str, str] = {}
    for path in var_file:
        variables |= load_variables(path)
    for text in var:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise click.BadParameter(f"{text!r} is not NAME=VALUE", param_hint="--var")
        variables[name] = value
    return variables
