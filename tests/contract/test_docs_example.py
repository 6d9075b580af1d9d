"""The example of docs/sources.md is a source that keeps the contract: it is run as it stands there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from contract.source_contract import Case, SourceContract

from vsync.errors import SourceError

DOCS = Path(__file__).parents[2] / "docs" / "sources.md"
EXAMPLE, TEST = re.findall(r"```python\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
made: dict[str, Any] = {"np": np, "pa": pa, "pytest": pytest, "Case": Case, "SourceContract": SourceContract}
exec(compile(EXAMPLE + TEST, str(DOCS), "exec"), made)  # noqa: S102  # our own documentation

case = made["case"]
TestFvecsSource = made["TestFvecsSource"]


def test_a_file_that_is_cut_off(tmp_path: Path) -> None:
    for size in (0, 3, 4, 40):
        (tmp_path / "a.fvecs").write_bytes(b"\x08\0\0\0".ljust(40, b"\0")[:size].ljust(size, b"\0"))
        with pytest.raises(SourceError, match="is not a whole"):
            made["open_source"](tmp_path / "a.fvecs")
