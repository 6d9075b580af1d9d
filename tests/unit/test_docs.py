"""The documentation, checked: its links, commands, options and examples are real."""

from __future__ import annotations

import re
import shlex
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

import backups
import click
import pytest
import yaml

import vsync
from vsync.applying import events
from vsync.cli import commands, main
from vsync.cli.group import vsync as group
from vsync.connectors.backup.store import open_store
from vsync.state.migrations import FORMAT

ROOT = Path(__file__).parents[2]
PAGES = {
    p.relative_to(ROOT).as_posix(): p for p in [ROOT / "README.md", ROOT / "CHANGELOG.md", *ROOT.glob("docs/*.md")]
}
README = PAGES["README.md"].read_text(encoding="utf-8")
CLI = PAGES["docs/cli.md"].read_text(encoding="utf-8")


def text_of(page: str) -> str:
    return PAGES[page].read_text(encoding="utf-8")


def blocks(text: str, kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def anchors(text: str) -> set[str]:
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


def options(command: click.Command) -> set[str]:
    """List the options of a command, and of all commands of a group."""
    below = command.commands.values() if isinstance(command, click.Group) else ()
    own = {o for p in command.params if isinstance(p, click.Option) for o in p.opts if o.startswith("--")}
    return own.union(*map(options, below))


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", text_of(page)):
        if target.startswith(("http:", "https:")):
            continue
        path, _, anchor = target.partition("#")
        there = (PAGES[page].parent / path).resolve() if path else PAGES[page]
        assert there.exists(), f"{page}: {target}"
        assert not anchor or anchor in anchors(there.read_text(encoding="utf-8")), f"{page}: {target}"


@pytest.mark.parametrize("page", PAGES)
def test_commands_that_are_named_exist(page: str) -> None:
    text = text_of(page)
    written = re.findall(r"^\$ (vsync .*)$|`(vsync [a-z][^`]*)`", text, re.MULTILINE)
    for line in (a or b for a, b in written):
        words = shlex.split(re.split(r" [>|&<]| 2>", line)[0].replace("[", "").replace("]", ""))
        name = words[1]
        if name.startswith("-"):
            continue
        assert name in group.commands, f"{page}: {line}"
        known = options(group.commands[name]) | {"--help"}
        assert {w.split("=")[0] for w in words if w.startswith("--")} <= known, f"{page}: {line}"


@pytest.mark.parametrize("page", PAGES)
def test_options_that_are_named_exist(page: str) -> None:
    programs = "".join((ROOT / "scripts" / name).read_text() for name in ("bench.py", "chaos_run.py"))
    known = set().union(*map(options, group.commands.values()), re.findall(r'"(--[a-z-]+)"', programs)) | {
        "--help",
        "--all",
    }
    ours = "\n".join(line for line in text_of(page).splitlines() if "scripts/" not in line)
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", ours)) <= known


@pytest.mark.parametrize("name", group.commands)
def test_every_option_is_documented_with_its_command(name: str) -> None:
    sections = re.split(r"^## ", CLI, flags=re.MULTILINE)
    section = next(s for s in sections if re.match(rf"vsync .*\b{name}\b|vsync {name}\b", s))
    for option in options(group.commands[name]) - {"--help"}:
        assert f"`{option}" in section, option


def test_exit_codes_are_those_of_the_program() -> None:
    said = {int(c) for cell in re.findall(r"^\| ([\d, ]+) \|", README, re.MULTILINE) for c in cell.split(",")}
    assert said == set(commands.EXIT_CODES)


def test_events_and_their_keys_are_documented() -> None:
    table = CLI.partition("## JSON")[2]
    for event in get_args(events.Event):
        kind = re.sub(r"(?<!^)(?=[A-Z])", "_", event.__name__).lower()
        row = next(line for line in table.splitlines() if f"`{kind}`" in line)
        if kind != "run_ended":
            assert {f.name for f in fields(event)} <= set(re.findall(r"`(\w+)`", row)), kind


def test_the_readme_names_the_two_scripts() -> None:
    for script in ("scripts/demo", "scripts/test"):
        assert f"$ {script}\n" in README
        assert (ROOT / script).stat().st_mode & 0o100


@pytest.mark.parametrize("page", PAGES)
def test_yaml_is_yaml(page: str) -> None:
    for block in blocks(text_of(page), "yaml"):
        assert isinstance(yaml.safe_load(block), dict)


def run(words: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    monkeypatch.setattr("sys.argv", shlex.split(words))
    main()
    seen = capsys.readouterr()
    return seen.out.strip(), seen.err.strip()


def test_the_quick_start_prints_what_it_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(blocks(README, "python")[0], "README.md", "exec"), {})  # noqa: S102 - our own documentation
    (tmp_path / "vsync.yaml").write_text(blocks(README, "yaml")[0])
    said = dict(re.findall(r"```\n\$ (vsync plan|vsync apply --auto-approve)\n(.*?)```", README, re.DOTALL))
    first, second = re.findall(r"```\n\$ vsync plan\n(.*?)```", README, re.DOTALL)

    assert run("vsync plan", capsys, monkeypatch)[0] == first.strip()
    out, err = run("vsync apply --auto-approve", capsys, monkeypatch)
    plan, _, applied = said["vsync apply --auto-approve"].partition("...\n")
    assert not plan
    done = out.removeprefix(first.strip()).strip()
    assert applied.split() == f"{err} {done}".split()
    assert run("vsync plan", capsys, monkeypatch)[0] == second.strip()


@pytest.mark.parametrize(("page", "position"), [("README.md", 1), ("docs/library.md", 0)])
def test_the_library_examples_run(
    page: str, position: int, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(blocks(README, "python")[0], "README.md", "exec"), {})  # noqa: S102 - our own documentation
    (tmp_path / "vsync.yaml").write_text(blocks(README, "yaml")[0])
    names: dict[str, Any] = {}
    exec(compile(blocks(text_of(page), "python")[position], page, "exec"), names)  # noqa: S102 - our own documentation
    assert "collection.books" in capsys.readouterr().out
    assert names["result"].settled[0].left == 1000
    assert vsync.status(tmp_path / ".vsync" / "vsync.db").items[0].rows_done == 1000


def test_a_backup_is_read_without_vsync_as_its_page_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    backups.back_up(open_store("backups"), {"_default": {n: n for n in range(25)}, "rare": {99: 1}})
    exec(compile(blocks(text_of("docs/backup.md"), "python")[0], "backup.md", "exec"), {})  # noqa: S102 - our own
    assert capsys.readouterr().out.splitlines() == [
        "things _default 10 rows from key 0",
        "things _default 10 rows from key 10",
        "things _default 5 rows from key 20",
        "things rare 1 rows from key 99",
    ]


def test_the_format_of_states_is_told_as_it_is() -> None:
    assert f"The state has a format, now {FORMAT}." in (ROOT / "docs" / "state.md").read_text("utf-8")
