"""The command line: the only reader of argv and of the environment. Calls the API, maps errors to exit codes."""

from __future__ import annotations

import errno
import os
import sys
import warnings

import rich_click as click
from click.exceptions import Exit

from vsync import faults
from vsync.cli import apply, backup, check, commands, convert, destroy, repository, state, status
from vsync.cli.common import Shown
from vsync.cli.group import vsync, wants_json
from vsync.errors import UsageError, VsyncError

__all__ = ["apply", "backup", "check", "commands", "convert", "destroy", "main", "repository", "state", "status"]

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG}
"""What a file that takes the output says when it takes no more."""


def main() -> None:
    """Run the command line; every error of a user's ends here, in words and with its exit code."""
    as_json = wants_json()
    _quieten()
    try:
        if os.environ.get("VSYNC_FAULT") or os.environ.get("VSYNC_FAULT_LOG"):
            faults.arm(os.environ.get("VSYNC_FAULT"), os.environ.get("VSYNC_FAULT_LOG"))
        vsync.main(standalone_mode=False, prog_name="vsync")
    except Exit as e:
        sys.exit(e.exit_code)
    except click.ClickException as e:
        _show_usage(e, as_json=as_json)
        sys.exit(UsageError.exit_code)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)
    except Shown as e:
        if not e.shown:
            _show_error(e.error, as_json=False)
        sys.exit(e.error.exit_code)
    except VsyncError as e:
        _show_error(e, as_json=as_json)
        sys.exit(e.exit_code)
    except BrokenPipeError:
        _cut_off()
        sys.exit(1)
    except Exception as e:
        if os.environ.get("VSYNC_DEBUG"):
            raise
        full = isinstance(e, OSError) and e.filename is None and e.errno in _FULL
        _show_error(_of_a_file(e) or _of_vsync(e), as_json=as_json and not full)
        if full:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what it still holds goes nowhere
        sys.exit(1)


def _quieten() -> None:
    """Let libraries warn only those who ask Python for it: with -W, or PYTHONWARNINGS."""
    if not sys.warnoptions:
        warnings.simplefilter("ignore")


def _of_a_file(error: Exception) -> VsyncError | None:
    """Say which file it is that cannot be used, or that the output cannot; ``None`` for any other error."""
    if not isinstance(error, OSError) or not (error.filename or error.errno in _FULL):
        return None
    hint = "is there room, and may you read and write there?"
    return VsyncError(f"{error.filename or 'the output'}: {error.strerror}", hint=hint)


def _of_vsync(error: Exception) -> VsyncError:
    what = f"vsync itself failed: {type(error).__name__}: {error}"
    return VsyncError(what, hint="this is a fault of vsync; VSYNC_DEBUG=1 shows where")


def _cut_off() -> None:
    """Let what is still to be printed go nowhere; whoever waits for rows to be written is told."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    if {*sys.argv[1:2]} & {"apply", "backup", "restore"}:
        hint = "what is done is kept: run the same command again"
        _show_error(VsyncError("the output was closed before the end", hint=hint), as_json=False)


def _show_usage(error: click.ClickException, *, as_json: bool) -> None:
    if as_json:
        _show_error(UsageError(error.format_message()), as_json=True)
    else:
        error.show()


def _show_error(error: VsyncError, *, as_json: bool) -> None:
    if as_json:
        from vsync.report.jsonl import say_error

        say_error(error)
        return
    from vsync.report.console import show_error

    show_error(error)
