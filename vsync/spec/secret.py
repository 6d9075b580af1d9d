"""Secrets are named in a spec, never written: by a variable, a file, or a command that prints them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from vsync.errors import SpecError
from vsync.spec.nodes import BAD
from vsync.spec.values import Text, plain, wrong
from vsync.spec.variables import escape

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_SECONDS = 120
_FORMS = "write {env: NAME}, {file: PATH} or {cmd: [PROGRAM, ARGUMENT, ...]}"


class Secret(BaseModel):
    """Where a secret is had: exactly one of ``env``, ``file`` and ``cmd``."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=True, defer_build=True)

    env: Text | None = Field(None, description="The name of an environment variable that holds it")
    file: Text | None = Field(None, description="A file that holds it, relative to the spec's folder")
    cmd: list[Text] | None = Field(None, min_length=1, description="A command that prints it")

    @model_validator(mode="after")
    def _one(self) -> Secret:
        if sum(form is not None for form in (self.env, self.file, self.cmd)) != 1:
            raise wrong("a secret is had from exactly one place", _FORMS)
        if self.env is not None and not _VARIABLE.match(self.env):
            raise wrong("env: is the name of a variable, not its value", "a name has letters, digits and _")
        return self

    def long(self) -> dict[str, Any]:
        """Write the reference."""
        if self.cmd is not None:
            return {"cmd": [escape(part) for part in self.cmd]}
        return {"env": self.env} if self.env is not None else {"file": escape(self.file or "")}

    def resolve(self, folder: Path, environ: Mapping[str, str]) -> str:
        """Fetch the secret; raises :class:`SpecError`, which names the place and never what was found there.

        A line end after it is not part of it. ``file`` is relative to ``folder``, and ``cmd`` runs in it.
        """
        if self.env is not None:
            found, place = environ.get(self.env, ""), f"the environment variable {self.env}"
        elif self.file is not None:
            found, place = _read(folder / self.file), f"the file {self.file}"
        else:
            command = self.cmd or []
            found, place = _run(command, folder, environ), f"what the command {command[0]} printed"
        found = found.rstrip("\r\n")
        if not found:
            raise SpecError(f"the token is not there: {place} is empty or not set", hint="set it and run this again")
        if not found.isprintable():
            raise SpecError(f"{place} is not a token: it has line ends or control characters in it")
        return found


def check_token(value: Any) -> Any:
    """Refuse a secret that stands in the spec itself, without repeating it."""
    if isinstance(value, dict | Secret):
        return value
    if value is BAD:
        return plain(value)
    raise wrong("a token is not written into a spec", _FORMS)


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except UnicodeDecodeError:
        raise SpecError(f"the file of a token is not text: {path}") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it cannot be a path"
        raise SpecError(f"the file of a token cannot be read: {path}: {reason}", hint="check file:") from None


def _run(command: list[str], folder: Path, environ: Mapping[str, str]) -> str:
    """Run a command for what it prints; its stderr stays the terminal's, for it may ask for something."""
    import subprocess

    hint = "run it yourself to see what it says"
    try:
        done = subprocess.run(  # noqa: S603 - the user's own command, from the user's own spec, without a shell
            command, cwd=folder, env=dict(environ), stdout=subprocess.PIPE, timeout=_SECONDS, check=False
        )
        printed = done.stdout.decode("utf-8")
    except subprocess.TimeoutExpired:
        raise SpecError(f"the command {command[0]} gave no token in {_SECONDS} s", hint=hint) from None
    except UnicodeDecodeError:
        raise SpecError(f"the command {command[0]} printed no text", hint=hint) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it cannot be run"
        raise SpecError(f"the command {command[0]} gave no token: {reason}", hint=hint) from None
    if done.returncode:
        raise SpecError(f"the command {command[0]} gave no token: exit code {done.returncode}", hint=hint)
    return printed
