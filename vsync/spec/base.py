"""What the parts of a spec have in common: frozen, told apart by what they say, written in their long form."""

from typing import Any

from pydantic import BaseModel, ConfigDict

from vsync.spec.secret import Secret
from vsync.spec.variables import escape


class Model(BaseModel):
    """What the parts of a spec have in common."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        populate_by_name=True,
        hide_input_in_errors=True,
        defer_build=True,
    )

    def long(self) -> Any:
        """Write it in its long form as plain data, without what is not said or as it is by default."""
        written = {}
        for name, info in type(self).model_fields.items():
            value = getattr(self, name)
            if value is not None and value != info.get_default(call_default_factory=True):
                written[info.alias or name] = to_long(value)
        return written


def under_kind(kind: str, path: str, options: dict[str, Any]) -> dict[str, Any]:
    """Write a place of files in its long form, its kind as the key."""
    long = to_long(path)
    return {kind: {"path": long, **to_long(options)} if options else long}


def to_long(value: Any) -> Any:
    """Write any value of a spec in its long form; ``${`` is escaped, for it is text here."""
    if isinstance(value, Model | Secret):
        return value.long()
    if isinstance(value, dict):
        return {key: to_long(item) for key, item in value.items()}
    if isinstance(value, list):
        return [to_long(item) for item in value]
    return escape(str(value)) if isinstance(value, str) else value
