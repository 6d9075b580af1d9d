"""What an unquoted word of YAML is: a number, a truth value, nothing, text, or a trap."""

from __future__ import annotations

import math
import re

WHOLE = re.compile(r"[-+]?(0|[1-9][0-9]{0,30})\Z")
DECIMAL = re.compile(r"[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]{1,4})?\Z")
_NOTHING = {"", "~", "null", "Null", "NULL"}
_TRUTH = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_WRITE_DECIMAL = "write the decimal number"

# Pattern, what some reader of YAML takes it for, and what to write instead of quoting it.
_TRAPS = (
    (re.compile(r"(yes|on)\Z", re.IGNORECASE), "true to some YAML readers", "write true"),
    (re.compile(r"(no|off)\Z", re.IGNORECASE), "false to some YAML readers", "write false"),
    (re.compile(r"[-+]?0[0-9_]+\Z"), "an octal number to some YAML readers", _WRITE_DECIMAL),
    (re.compile(r"[-+]?0[xob][0-9a-fA-F_]+\Z"), "a number to some YAML readers", _WRITE_DECIMAL),
    (
        re.compile(r"[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?\Z"),
        "a number in base 60 to some YAML readers",
        None,
    ),
    (re.compile(r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}([Tt \t].*)?\Z"), "a date to some YAML readers", None),
    (re.compile(r"[-+]?[0-9][0-9_]*_[0-9_]*\Z"), "a number to some YAML readers", "write it without _"),
    (re.compile(r"[-+]?\.(inf|nan)\Z", re.IGNORECASE), "not a finite number", None),
    (re.compile(r"[-+]?[0-9]{32,}\Z"), "a number of too many digits", None),
)


class TrapError(Exception):
    """A word that other readers of YAML take for something else."""

    def __init__(self, what: str, hint: str) -> None:
        self.what = what
        self.hint = hint
        super().__init__(what)


def resolve(text: str) -> str | int | float | bool | None:
    """Read an unquoted word; raises :class:`TrapError`."""
    if text in _NOTHING:
        return None
    if text in _TRUTH:
        return _TRUTH[text]
    for pattern, meaning, instead in _TRAPS:
        if pattern.match(text):
            quoted = f'quote it if it is text: "{text[:40]}"'
            hint = f"{instead}, or {quoted}" if instead else quoted
            raise TrapError(f"an unquoted {text[:40]} is {meaning}", hint)
    if WHOLE.match(text):
        return int(text)
    if DECIMAL.match(text):
        number = float(text)
        if not math.isfinite(number):
            raise TrapError(f"{text[:40]} is too large for a number", f'quote it if it is text: "{text[:40]}"')
        return number
    return text
