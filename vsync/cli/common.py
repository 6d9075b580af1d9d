"""What several commands do: load a spec or a saved plan, show a plan, save one."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from vsync.errors import UsageError, VsyncError

if TYPE_CHECKING:
    from pathlib import Path

    from vsync.api import Refreshed
    from vsync.planning.steps import Plan
    from vsync.spec import Spec


class Shown(Exception):  # noqa: N818 - no error of its own: carries one that may have been shown already
    """Carries an error to the boundary; ``shown`` where the user has seen its text."""

    def __init__(self, error: VsyncError, *, shown: bool) -> None:
        super().__init__(str(error))
        self.error = error
        self.shown = shown


def load(path: Path, variables: dict[str, str]) -> Spec:
    """Load a spec; the environment is looked at here, and nowhere deeper."""
    from vsync.spec import load_spec

    return load_spec(path, variables, os.environ)


def state_label(spec: Spec, state: Path | None) -> str:
    """Say where the state of a spec lies, as seen from here."""
    from vsync.api import state_path

    path = state_path(spec, state)
    return os.path.relpath(path)


def show_plan(made: Plan, *, as_json: bool, concise: bool, state: str) -> None:
    """Print a plan, as text or as JSON objects."""
    if as_json:
        from vsync.report.jsonl import say_plan

        say_plan(made)
        return
    from vsync.report.console import show as show_lines
    from vsync.report.words import plan_lines

    show_lines(plan_lines(made, concise=concise, state=state))


def show_refreshed(seen: Refreshed, *, as_json: bool, concise: bool) -> None:
    """Print what moved on a target, as text or as JSON objects."""
    if as_json:
        from vsync.report.jsonl import say_refresh

        say_refresh(seen)
        return
    from vsync.report.console import show as show_lines
    from vsync.report.words import refresh_lines

    show_lines(refresh_lines(seen, concise=concise))


def state_of(spec: Path, state: Path | None) -> Path:
    """Say where the state of a spec lies that is not read: it may be gone, or broken."""
    return state or spec.absolute().parent / ".vsync" / f"{spec.stem}.db"


def save(made: Plan, out: Path) -> None:
    """Write a plan for its owner alone: it names hosts and paths."""
    try:
        handle = os.open(out, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(made.to_json())
    except OSError as e:
        raise UsageError(f"cannot write {out}: {e.strerror}") from e


def saved_plan(path: Path) -> Plan | None:
    """Read a saved plan; ``None`` where the file is no JSON, and so a spec."""
    from vsync.planning.steps import Plan as Saved

    if path.suffix != ".json":
        return None
    try:
        return Saved.from_json(path.read_bytes(), str(path))
    except OSError as e:
        raise UsageError(f"cannot read {path}: {e.strerror}", hint="make a plan: vsync plan --out FILE") from e
