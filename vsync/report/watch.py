"""``status --watch``: what a state knows of a running apply, until it ends. It reads only: to stop it harms nothing."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from rich.live import Live
from rich.text import Text

from vsync.report.console import STYLES, console, show
from vsync.report.words import status_lines

if TYPE_CHECKING:
    from collections.abc import Callable

    from vsync.api import Status

LOOK_SECONDS = 1.0


def watch(look: Callable[[], Status], every: float, say: Callable[[Status], None] | None = None) -> None:
    """Redraw on a terminal; elsewhere print it every so many seconds, and when the apply has ended.

    ``say`` prints it instead, as JSON.
    """
    out = console()
    if out.is_terminal and say is None:
        with Live(console=out, auto_refresh=False, transient=True) as live:
            while (seen := look()).running:
                live.update(_drawn(seen), refresh=True)
                time.sleep(LOOK_SECONDS)
        show(status_lines(seen))
        return
    told = None
    while (seen := look()).running:
        if told is None or time.monotonic() - told >= every:
            told = time.monotonic()
            _print(seen, say)
        time.sleep(min(LOOK_SECONDS, every))
    _print(seen, say)


def _drawn(seen: Status) -> Text:
    lines = (Text(text, style=STYLES[style]) for style, text in status_lines(seen))
    return Text("\n", no_wrap=False, overflow="fold").join(lines)


def _print(seen: Status, say: Callable[[Status], None] | None) -> None:
    if say is not None:
        say(seen)
    else:
        show(status_lines(seen))
