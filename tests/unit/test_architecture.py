"""The design, enforced: which room imports which, where each vendor lives, how large things get.

The rules are the data at the top. To change the design change them, and docs with them.
"""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

MODULE_LINES = 400
FUNCTION_LINES = 60

EVERYBODY_MAY = {"vsync.errors", "vsync.faults", "vsync.schema", "vsync.schema_json", "vsync.times"}
ARROWS: dict[str, set[str]] = {
    # A room (the longest name here that a module's begins with) -> what it may import beside itself.
    "vsync.errors": set(),
    "vsync.faults": set(),
    "vsync.schema": set(),
    "vsync.schema_json": set(),
    "vsync.times": set(),
    "vsync.connectors.base": {"vsync.rows"},
    "vsync.connectors.registry": {"vsync.connectors.base"},
    "vsync.connectors.files": {"vsync.connectors.base", "vsync.rows"},
    "vsync.connectors.columns": {"vsync.connectors.base", "vsync.connectors.files", "vsync.rows"},
    "vsync.connectors.durable": set(),
    "vsync.connectors.runs": {
        "vsync.connectors.base",
        "vsync.connectors.columns",
        "vsync.connectors.files",
        "vsync.rows",
    },
    # Each connector is a room of its own: none knows another.
    "vsync.connectors": {
        "vsync.connectors.durable",
        "vsync.connectors.runs",
        "vsync.connectors.base",
        "vsync.connectors.columns",
        "vsync.connectors.files",
        "vsync.rows",
    },
    "vsync.rows": {"vsync.connectors.base"},
    "vsync.spec": {"vsync.connectors.registry"},
    "vsync.planning": {"vsync.connectors.base", "vsync.rows", "vsync.spec"},
    "vsync.state": {"vsync.connectors.base", "vsync.planning.facts", "vsync.planning.steps"},
    "vsync.opening": {
        "vsync.connectors.base",
        "vsync.connectors.milvus",
        "vsync.connectors.registry",
        "vsync.planning.steps",
        "vsync.spec",
    },
    "vsync.observing": {
        "vsync.connectors.base",
        "vsync.connectors.files",
        "vsync.connectors.registry",
        "vsync.applying.settings",
        "vsync.checking",
        "vsync.opening",
        "vsync.planning",
        "vsync.rows",
        "vsync.spec",
        "vsync.state.view",
    },
    "vsync.applying": {
        "vsync.connectors.base",
        "vsync.opening",
        "vsync.planning",
        "vsync.rows",
        "vsync.state.ids",
        "vsync.state.journal",
    },
    "vsync.checking": {"vsync.connectors.base", "vsync.planning", "vsync.rows", "vsync.spec"},
    "vsync.compare": {
        "vsync.api",
        "vsync.applying",
        "vsync.checking",
        "vsync.observing",
        "vsync.planning",
        "vsync.spec",
        "vsync.state",
    },
    "vsync.destruction": {
        "vsync.api",
        "vsync.applying",
        "vsync.connectors.base",
        "vsync.planning",
        "vsync.spec",
        "vsync.state",
    },
    "vsync.api": {
        "vsync.applying",
        "vsync.checking.findings",
        "vsync.connectors.base",
        "vsync.init",
        "vsync.observing",
        "vsync.opening",
        "vsync.planning",
        "vsync.spec",
        "vsync.state",
    },
    "vsync": {"vsync.compare", "vsync.destruction", "vsync.api", "vsync.applying", "vsync.planning", "vsync.spec"},
    "vsync.convert": {"vsync.connectors.files", "vsync.connectors.milvus1", "vsync.spec"},
    "vsync.init": {"vsync.connectors", "vsync.planning", "vsync.rows", "vsync.spec"},
    "vsync.report": {
        "vsync.api",
        "vsync.applying.events",
        "vsync.checking.findings",
        "vsync.compare",
        "vsync.connectors.backup",
        "vsync.planning",
        "vsync.state.doctor",
        "vsync.state.listing",
    },
    "vsync.cli": {
        "vsync",
        "vsync.api",
        "vsync.applying.settings",
        "vsync.backups",
        "vsync.checking.findings",
        "vsync.compare",
        "vsync.connectors.backup",
        "vsync.convert",
        "vsync.destruction",
        "vsync.init",
        "vsync.planning",
        "vsync.report",
        "vsync.spec",
        "vsync.state",
    },
    "vsync.backups": {"vsync.spec"},
    "vsync.__main__": {"vsync.cli"},
}

HOMES: dict[str, tuple[str, ...]] = {
    # A vendor's module -> the files of vsync that may import it, as the beginnings of their paths.
    "pymilvus": ("connectors/milvus/",),
    "milvus_lite": ("connectors/milvus/",),
    "grpc": ("connectors/milvus/",),
    "google.protobuf": ("connectors/milvus/",),
    "h5py": ("connectors/hdf5/",),
    "hdf5plugin": ("connectors/hdf5/",),
    "faiss": ("connectors/faiss.py",),
    "obstore": ("connectors/backup/store.py",),
    "pyarrow.parquet": ("connectors/parquet.py", "state/ids.py"),
    "sqlite3": ("state/file.py", "connectors/milvus1/meta.py"),
    "sqlite_utils": ("state/file.py",),
    "stamina": ("applying/retry.py",),
    "yaml": ("spec/",),
    "pydantic": ("spec/", "planning/steps.py"),
    "rich": ("report/",),
    "rich_click": ("cli/",),
    "click": ("cli/",),
    "pandas": (),
}

PURE = "planning/"
IMPURE = {
    "datetime",
    "glob",
    "io",
    "os",
    "pathlib",
    "random",
    "shutil",
    "socket",
    "subprocess",
    "tempfile",
    "time",
}

CATCHES_ALL = {
    "cli/__init__.py": "the one boundary where every exception ends",
    "connectors/milvus/client.py": "an embedded Lite is a whole server: its start may raise anything",
}
"""Where every exception may be caught; elsewhere only to clean up and raise it again."""

KINDS_KNOWN_TO = ("connectors/", "convert/", "spec/")
"""Where the names of file formats may stand; everybody else asks a capability."""

HEAVY = ("faiss", "grpc", "h5py", "milvus_lite", "numpy", "pandas", "pyarrow", "pymilvus", "sqlite_utils")
"""What --help and reading a spec do without, so that they answer in 0.3 s."""


@dataclass(frozen=True)
class Module:
    """A file of vsync, parsed; ``path`` is relative to the package."""

    path: str
    source: str

    @property
    def name(self) -> str:
        return ".".join(["vsync", *Path(self.path).with_suffix("").parts]).removesuffix(".__init__")

    @property
    def nodes(self) -> Iterator[ast.AST]:
        return ast.walk(ast.parse(self.source))

    def imports(self) -> Iterator[tuple[int, str]]:
        """Yield the line and full name of everything imported; of vsync the modules, not what is in them."""
        for node in self.nodes:
            if isinstance(node, ast.Import):
                yield from ((node.lineno, alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                assert node.module is not None, f"{self.path}:{node.lineno}: imports are absolute"
                assert node.level == 0, f"{self.path}:{node.lineno}: imports are absolute"
                for alias in node.names:
                    name = f"{node.module}.{alias.name}"
                    inside = within(name, "vsync") and not is_module(name)
                    yield node.lineno, node.module if inside else name


def package() -> list[Module]:
    """Read all of vsync."""
    folder = ROOT / "vsync"
    return [
        Module(path.relative_to(folder).as_posix(), path.read_text("utf-8")) for path in sorted(folder.rglob("*.py"))
    ]


def within(name: str, *rooms: str) -> bool:
    """Tell whether a dotted name is one of the rooms, or in one."""
    return any(name == room or name.startswith(room + ".") for room in rooms)


def is_module(name: str) -> bool:
    path = ROOT.joinpath(*name.split("."))
    return path.is_dir() or path.with_suffix(".py").exists()


def wrong_arrows(module: Module) -> Iterator[tuple[int, str]]:
    room = max((room for room in ARROWS if within(module.name, room)), key=len)
    if room == "vsync" and module.name != "vsync":
        yield 1, f"{module.name} is new: say in ARROWS what it may import"
    own = ".".join(module.name.split(".")[:3]) if room == "vsync.connectors" else room
    allowed = EVERYBODY_MAY | ARROWS[room] | {own}
    for line, name in module.imports():
        if within(name, "vsync") and not (name in allowed or within(name, *(allowed - {"vsync"}))):
            yield line, f"{room} may not import {name}"


def types_alone(module: Module) -> Iterator[tuple[int, str]]:
    if not module.path.startswith("report/"):
        return
    guarded = {
        node.lineno
        for block in module.nodes
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
        for node in ast.walk(block)
        if isinstance(node, ast.Import | ast.ImportFrom)
    }
    for line, name in module.imports():
        if within(name, "vsync.api") and line not in guarded:
            yield line, "report/ knows the api by its types alone: import it under TYPE_CHECKING"


def strangers(module: Module) -> Iterator[tuple[int, str]]:
    for line, name in module.imports():
        for vendor, homes in HOMES.items():
            if within(name, vendor) and not module.path.startswith(homes or ("nowhere",)):
                yield line, f"{vendor} is imported only in {' '.join(homes) or 'no place at all'}"


def impurities(module: Module) -> Iterator[tuple[int, str]]:
    if module.path.startswith(PURE):
        for line, name in module.imports():
            if within(name, *IMPURE):
                yield line, f"{PURE} reads no file, no socket and no clock, and needs no {name}"
        for node in module.nodes:
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "open":
                yield node.lineno, f"{PURE} opens nothing"


def too_large(module: Module) -> Iterator[tuple[int, str]]:
    lines = len(module.source.splitlines())
    if lines > MODULE_LINES:
        yield MODULE_LINES, f"a module of {lines} lines: {MODULE_LINES} at the most"
    for node in module.nodes:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > FUNCTION_LINES:
                yield node.lineno, f"{node.name} has {lines} lines: {FUNCTION_LINES} at the most"


def fog(module: Module) -> Iterator[tuple[int, str]]:
    if module.path in CATCHES_ALL:
        return
    for node in module.nodes:
        if isinstance(node, ast.ExceptHandler | ast.Call) and {"Exception", "BaseException"} & caught_by(node):
            yield node.lineno, f"only {' '.join(CATCHES_ALL)} may catch everything"


def caught_by(node: ast.ExceptHandler | ast.Call) -> set[str]:
    """Name what a handler, or a ``suppress``, keeps from going on."""
    if isinstance(node, ast.Call):
        return {ast.unparse(a) for a in node.args} if ast.unparse(node.func).endswith("suppress") else set()
    last = node.body[-1]
    if isinstance(last, ast.Raise) and last.exc is None:
        return set()
    if node.type is None:
        return {"BaseException"}
    kinds = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
    return {ast.unparse(kind) for kind in kinds}


def vectors_as_lists(module: Module) -> Iterator[tuple[int, str]]:
    lines = module.source.splitlines()
    for node in module.nodes:
        if isinstance(node, ast.Attribute) and node.attr in {"to_pylist", "tolist"}:
            line = node.end_lineno or node.lineno
            if "# not a vector" not in lines[line - 1]:
                yield line, f"{node.attr} makes lists; where it is small say why: # not a vector: REASON"


def format_names(module: Module) -> Iterator[tuple[int, str]]:
    from vsync.connectors.registry import FILE_KINDS

    if not module.path.startswith(KINDS_KNOWN_TO):
        for node in module.nodes:
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in FILE_KINDS:
                yield node.lineno, f"only {' '.join(KINDS_KNOWN_TO)} know the name {node.value}"


Rule = Callable[[Module], Iterator[tuple[int, str]]]
RULES: list[Rule] = [
    wrong_arrows,
    types_alone,
    strangers,
    impurities,
    too_large,
    fog,
    vectors_as_lists,
    format_names,
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: str(rule.__name__))
def test_vsync_keeps_the_rule(rule: Rule) -> None:
    problems = [f"vsync/{m.path}:{line}: {what}" for m in package() for line, what in rule(m)]
    assert not problems, "\n".join(["", *dict.fromkeys(problems)])


BAD: list[tuple[Rule, str, str]] = [
    (wrong_arrows, "planning/x.py", "from vsync.state import journal"),
    (wrong_arrows, "state/x.py", "from vsync.applying import run"),
    (wrong_arrows, "applying/x.py", "from vsync.state import lock"),
    (wrong_arrows, "report/x.py", "from vsync.state.view import View"),
    (wrong_arrows, "planning/x.py", "from vsync import api"),
    (wrong_arrows, "planning/x.py", "import vsync.observing.sources"),
    (wrong_arrows, "connectors/hdf5/source.py", "from vsync.connectors import faiss"),
    (wrong_arrows, "connectors/milvus/read.py", "from vsync.planning.steps import Plan"),
    (wrong_arrows, "spec/x.py", "def f():\n    from vsync.connectors.milvus import client"),
    (wrong_arrows, "schema.py", "from vsync.rows import digest"),
    (wrong_arrows, "api.py", "from vsync.cli import main"),
    (wrong_arrows, "newcomer.py", "import json"),
    (wrong_arrows, "applying/x.py", "from vsync import Plan"),
    (types_alone, "report/x.py", "def f():\n    from vsync.api import plan"),
    (strangers, "applying/copy.py", "import pymilvus.exceptions"),
    (strangers, "connectors/files.py", "from google.protobuf import message"),
    (strangers, "connectors/hdf5/source.py", "from pyarrow import parquet"),
    (strangers, "applying/copy.py", "from stamina import retry"),
    (strangers, "connectors/hdf5/source.py", "import pandas"),
    (strangers, "cli/x.py", "from rich.console import Console"),
    (impurities, "planning/x.py", "from pathlib import Path"),
    (impurities, "planning/x.py", "import datetime"),
    (impurities, "planning/x.py", "with open('x') as f: pass"),
    (too_large, "schema.py", "\n" * 401),
    (too_large, "schema.py", "def f():\n" + "    x = 1\n" * 60),
    (fog, "api.py", "try: pass\nexcept Exception: pass"),
    (fog, "api.py", "try: pass\nexcept (ValueError, BaseException): pass"),
    (fog, "api.py", "try: pass\nexcept: pass"),
    (fog, "api.py", "with contextlib.suppress(Exception): pass"),
    (vectors_as_lists, "rows/x.py", "a = column.to_pylist()"),
    (vectors_as_lists, "rows/x.py", "f = array.tolist"),
    (format_names, "applying/x.py", "if kind == 'faiss': pass"),
]


@pytest.mark.parametrize(("rule", "path", "source"), BAD)
def test_the_rule_sees_what_breaks_it(rule: Rule, path: str, source: str) -> None:
    assert list(rule(Module(path, source)))


GOOD: list[tuple[Rule, str, str]] = [
    (
        wrong_arrows,
        "planning/x.py",
        "from vsync.planning.steps import Plan\nfrom vsync.connectors.base import Column",
    ),
    (
        wrong_arrows,
        "connectors/hdf5/source.py",
        "from vsync.connectors import columns, files\nfrom vsync import errors",
    ),
    (wrong_arrows, "connectors/milvus/read.py", "from vsync.connectors.milvus.codec import encode"),
    (wrong_arrows, "cli/x.py", "import vsync\nfrom vsync import api\nfrom vsync.report import console"),
    (types_alone, "report/x.py", "if TYPE_CHECKING:\n    from vsync.api import Status"),
    (strangers, "connectors/milvus/x.py", "import grpc"),
    (strangers, "state/file.py", "import sqlite3"),
    (strangers, "rows/x.py", "import pyarrow.compute"),
    (impurities, "applying/x.py", "import time"),
    (too_large, "schema.py", "def f():\n" + "    x = 1\n" * 59),
    (fog, "api.py", "try: pass\nexcept (ValueError, OSError): pass"),
    (fog, "api.py", "try: pass\nexcept BaseException:\n    close()\n    raise"),
    (vectors_as_lists, "rows/x.py", "a = keys.to_pylist()  # not a vector: ten names"),
    (format_names, "applying/x.py", "word = 'a faiss index'"),
]


@pytest.mark.parametrize(("rule", "path", "source"), GOOD)
def test_the_rule_lets_be_what_keeps_it(rule: Rule, path: str, source: str) -> None:
    assert not list(rule(Module(path, source)))


def test_no_room_can_be_reached_from_itself() -> None:
    reached = {room: set(arrows) for room, arrows in ARROWS.items()}
    for _ in ARROWS:
        for arrows in reached.values():
            arrows |= {far for near in tuple(arrows) for far in reached.get(near, reached.get(parent(near), set()))}
    # The contract of connectors and the form of rows speak of each other, in types.
    known = {"vsync.rows", "vsync.connectors.base"}
    assert {room for room, arrows in reached.items() if room in arrows} <= known


def parent(name: str) -> str:
    return name.rpartition(".")[0]


def test_tests_do_not_sleep() -> None:
    sleepers = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in sorted((ROOT / "tests").rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] == "sleep"
    ]
    assert not sleepers, f"a test waits for a condition, never for a time: {sleepers}"


def imported_by(program: str) -> set[str]:
    """Run a program in a fresh Python and tell the names of all modules that it imported."""
    report = "import atexit, json, sys\natexit.register(lambda: sys.stderr.write(json.dumps([*sys.modules])))"
    command = [sys.executable, "-c", f"{report}\n{program}"]
    result = subprocess.run(command, capture_output=True, cwd=ROOT, check=False)
    assert result.returncode == 0, result.stderr.decode()
    return set(json.loads(result.stderr.splitlines()[-1]))


RUN = "import runpy; sys.argv = ['vsync', {}]; runpy.run_module('vsync', run_name='__main__')"


@pytest.mark.parametrize(
    "program",
    [
        "import vsync",
        "import vsync.spec",
        RUN.format("'--help'"),
        RUN.format("'apply', '--help'"),
        RUN.format("'schema'"),
    ],
)
def test_what_answers_at_once_loads_nothing_heavy(program: str) -> None:
    modules = imported_by(program)
    assert "vsync" in modules
    assert not modules & set(HEAVY)
