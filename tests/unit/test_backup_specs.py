"""The specs that `vsync backup` and `vsync restore` make: what is wrong with one has its line where it is shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from vsync import backups


@pytest.mark.parametrize("where", ["lang == 'en'", "title == '${HOME}'", "a == \"#\" and b == 'it: is'"])
def test_what_is_wrong_has_its_line_in_what_is_shown(where: str) -> None:
    spec = backups.restore_spec(
        "repo", None, {"uri": "http://new:19530"}, Path(), choice={"where": where}, copy={"write": "append"}
    )
    shown = spec.to_yaml()
    name, line, column = str(spec.where("copy", 0, "from")).rsplit(":", 2)
    assert name.startswith("restore-repo-")
    at = shown.splitlines()[int(line) - 1][int(column) - 1 :]
    assert at.startswith("backup: {repo: repo")
    assert spec.copies[0].source.where == where
    assert "${HOME}" not in shown or "$${HOME}" in shown
