"""A configuration of MilvusDM taken apart: one method for each of its four jobs."""

from __future__ import annotations

import glob
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vsync.connectors.milvus1.meta import DEFAULT, Collection, read_meta
from vsync.convert import words
from vsync.convert.jobs import BINARY, FLOAT, MODES, Body, Job
from vsync.errors import Problem, SourceError
from vsync.spec.nodes import BAD, Node, Report, compose
from vsync.spec.values import one_of, show
from vsync.spec.variables import read_text

if TYPE_CHECKING:
    from collections.abc import Sequence

_DEST = ("dest_host", "dest_port", "mode")
_INTO = (*_DEST, "dest_collection_name", "collection_parameter")
_UNREAD = ("milvus_version", "milvus-version")
# For each job what has to be there, and what may be.
_KEYS = {
    "F2M": (("data_path", *_INTO), ("dest_partition_name",)),
    "H2M": (_INTO, ("data_path", "data_dir", "dest_partition_name")),
    "M2M": (("source_milvus_path", "source_collection", *_DEST), ("mysql_parameter",)),
    "M2H": (("source_milvus_path", "source_collection", "data_dir"), ("mysql_parameter",)),
}
_PORTS = 65535


class Reading:
    """What is found while configurations are read: problems, and notes on what has no meaning any more or differs.

    ``folder`` is where the spec will lie.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.problems: list[Problem] = []
        self.notes: list[str] = []

    def note(self, where: str | None, text: str) -> None:
        """Note something once; where it is about all, it has no place."""
        line = f"{where}: {text}" if where else text
        if line not in self.notes:
            self.notes.append(line)

    def path(self, written: str) -> str:
        """Write a path, which is relative to where MilvusDM ran, relative to where the spec will lie."""
        if Path(written).is_absolute() or self.folder == Path.cwd():
            return written
        return os.path.relpath(written, self.folder)


def read_file(path: Path, reading: Reading) -> list[Job]:
    """Read all jobs of one configuration; MilvusDM itself ran only the first."""
    text = read_text(path, "the configuration")
    report = Report(str(path))
    root = compose(text, report) if text.strip() else Node({})
    if root is not None and root.value is not BAD:
        jobs = _jobs(root, reading, report)
        reading.problems += report.problems
        return jobs
    reading.problems += report.problems
    return []


def is_configuration(path: Path) -> bool:
    """Tell whether a file of YAML is a configuration of MilvusDM."""
    report = Report(str(path))
    root = compose(read_text(path, "the configuration"), report)
    return root is not None and isinstance(root.value, dict) and bool(root.value.keys() & _KEYS.keys())


def _jobs(root: Node, reading: Reading, report: Report) -> list[Job]:
    if not isinstance(root.value, dict) or not root.value:
        report.add(root.mark, "a configuration of MilvusDM begins with its job", f"write one of {', '.join(_KEYS)}")
        return []
    jobs: list[Job] = []
    for position, (task, node) in enumerate(root.value.items()):
        if task not in _KEYS:
            report.add(node.at, f"'{task}' is none of MilvusDM's jobs", one_of(task, _KEYS))
        elif not isinstance(node.value, dict):
            report.add(node.at, f"{task} has no options below it", f"it needs {', '.join(_KEYS[task][0])}")
        else:
            if position:
                reading.note(report.where(node.at), f"{task}: {words.ONLY_THE_FIRST}")
            made = _Task(task, node, reading, report).job()
            jobs += [made] if made else []
    return jobs


class _Task:
    """One job that is read: its options, and where they were written."""

    def __init__(self, task: str, node: Node, reading: Reading, report: Report) -> None:
        self.task, self.node, self.reading, self.report = task, node, reading, report
        self.said: dict[str, Node] = {key: n for key, n in node.value.items() if n.value not in (None, "", BAD)}

    def job(self) -> Job | None:
        """Read it; ``None`` where something is wrong, which is reported."""
        needed, possible = _KEYS[self.task]
        for key, node in self.node.value.items():
            if key in _UNREAD:
                self.note(node, f"{key} {words.VERSION}")
            elif key not in (*needed, *possible):
                hint = one_of(key, (*needed, *possible))
                self.report.add(node.at, f"unknown key '{key}' in {self.task}", hint)
        for key in needed:
            if key not in self.said:
                at = self.node.value[key].at if key in self.node.value else self.node.at
                self.report.add(at, f"'{key}' of {self.task} is missing", f"write {key}: {words.EXAMPLES[key]}")
        before = len(self.report.problems)
        if before:
            return None
        bodies = self.files() if self.task in {"F2M", "H2M"} else self.collections()
        target = self.hdf5() if self.task == "M2H" else self.server()
        if len(self.report.problems) > before:
            return None
        return Job(self.task, target, tuple(bodies), self.report.where(self.node.at))

    def note(self, node: Node, text: str) -> None:
        self.reading.note(self.report.where(node.at), text)

    def text(self, node: Node) -> str:
        """Take a scalar as text, as it was written."""
        if isinstance(node.value, dict | list):
            self.report.add(node.at, f"this must be text, not {show(node.value)}")
            return "_"
        return node.text

    def server(self) -> str:
        """Give the address of the Milvus that the rows go to."""
        host, port = self.text(self.said["dest_host"]), self.said["dest_port"]
        if not self.text(port).isdecimal() or not 0 < int(port.text) <= _PORTS:
            self.report.add(port.mark, f"{show(port.value)} is no port", "write 19530")
        return f"http://[{host}]:{port.text}" if ":" in host else f"http://{host}:{port.text}"

    def hdf5(self) -> dict[str, Any]:
        """Give the folder that is exported to."""
        node = self.said["data_dir"]
        self.note(node, words.EXPORT)
        return {"hdf5": {"path": self.reading.path(self.text(node)), "layout": "milvusdm"}}

    def mode(self) -> str:
        """Read how rows were written."""
        if "mode" not in self.said:
            return "append"
        node = self.said["mode"]
        if node.value not in MODES:
            self.report.add(node.mark, f"{show(node.value)} is no mode", one_of(node.value, MODES))
        return self.text(node)

    def parameter(self) -> tuple[int, str]:
        """Read the dimension and the metric."""
        node = self.said["collection_parameter"]
        if not isinstance(node.value, dict):
            self.report.add(node.at, "collection_parameter is a mapping", "it needs dimension and metric_type")
            return 0, ""
        for key, inner in node.value.items():
            if key == "index_file_size":
                self.note(inner, f"{key} {words.INDEX_FILE_SIZE}")
            elif key not in {"dimension", "metric_type"}:
                hint = one_of(key, ["dimension", "metric_type"])
                self.report.add(inner.at, f"unknown key '{key}' in collection_parameter", hint)
        dim, metric = (node.value.get(key, Node(None, node.at)) for key in ("dimension", "metric_type"))
        if not isinstance(dim.value, int) or isinstance(dim.value, bool) or dim.value < 1:
            self.report.add(
                dim.mark, f"dimension must be a whole number, not {show(dim.value)}", "write dimension: 128"
            )
        if metric.value not in (*FLOAT, *BINARY):
            hint = one_of(metric.value, (*FLOAT, *BINARY))
            self.report.add(metric.mark, f"metric_type is not known: {show(metric.value)}", hint)
        return dim.value, metric.value

    def files(self) -> list[Body]:
        """Read where the rows of F2M and H2M are, and where they go."""
        dim, metric = self.parameter()
        mode = self.mode()
        partition = self.text(self.said["dest_partition_name"]) if "dest_partition_name" in self.said else None
        name = self.said["dest_collection_name"]
        where = self.report.where(name.at)
        sources = (
            [{"faiss": p} for p in self.paths()] if self.task == "F2M" else [{"hdf5": p} for p in self.hdf5_paths()]
        )
        self.note(self.said["mode"], words.mode(self.task, mode, partition))
        return [Body(self.text(name), partition, tuple(sources), mode, dim, metric, where)]

    def paths(self) -> list[str]:
        """List the files of ``data_path``."""
        node = self.said["data_path"]
        if self.task == "F2M" or not isinstance(node.value, list):
            return [self.reading.path(self.text(node))]
        return [self.reading.path(self.text(item)) for item in node.value]

    def hdf5_paths(self) -> list[str]:
        """List the files of H2M, or give the glob of its folder."""
        both = [self.said[key] for key in ("data_path", "data_dir") if key in self.said]
        if len(both) != 1:
            what = "data_path and data_dir are both written" if both else "neither data_path nor data_dir is written"
            self.report.add(self.node.at, what, "write one of them: data_path: [FILE, ...], or data_dir: FOLDER")
            return []
        if "data_path" in self.said:
            return self.paths()
        return [f"{glob.escape(self.reading.path(self.text(both[0])).rstrip('/'))}/*.h5"]

    def collections(self) -> list[Body]:
        """Read which collections of a Milvus 1.x are taken; its metadata tells their partitions."""
        if "mysql_parameter" in self.said:
            self.report.add(self.said["mysql_parameter"].at, *words.MYSQL)
            return []
        if "mysql_parameter" in self.node.value:
            self.note(self.node.value["mysql_parameter"], words.NO_MYSQL)
        path, chosen = self.said["source_milvus_path"], self.said["source_collection"]
        try:
            meta = read_meta(Path(self.text(path)))
        except SourceError as error:
            for problem in error.problems:
                self.report.add(path.mark, f"{problem.where}: {problem.what}", problem.hint)
            return []
        if chosen.value == "*":
            chosen = Node(dict.fromkeys(meta.collections, Node(None, chosen.mark, chosen.key)), chosen.mark)
        if not isinstance(chosen.value, dict):
            hint = "write {NAME: [TAG, ...]}, or {NAME: } for all of its partitions"
            self.report.add(chosen.at, f"source_collection is a mapping, not {show(chosen.value)}", hint)
            return []
        if len(chosen.value) > 1:
            self.note(chosen, words.ALL_COLLECTIONS)
        mode = self.mode()
        bodies: list[Body] = []
        for name, tags in chosen.value.items():
            if name in meta.collections:
                bodies += self.partitions(meta.collections[name], tags, mode)
            else:
                near = one_of(name, meta.collections)
                self.report.add(tags.at, f"there is no collection '{name}' in {path.text}", near)
        return bodies

    def partitions(self, collection: Collection, tags: Node, mode: str) -> list[Body]:
        """Make one body of rows of each partition that is taken: of all, where none is named."""
        items = tags.value if isinstance(tags.value, list) else [] if tags.value in (None, "") else [tags]
        for item in items:
            if self.text(item) not in collection.tables:
                what = f"the collection '{collection.name}' has no partition '{item.text}'"
                self.report.add(item.mark, what, one_of(item.text, collection.tables))
        chosen: Sequence[str] = [item.text for item in items] or list(collection.tables)
        path = self.reading.path(self.text(self.said["source_milvus_path"]))
        where = self.report.where(tags.at)
        self.reading.note(None, words.KEYS_TWICE)
        if "mode" in self.said:
            partition = chosen[0] if items and chosen[0] != DEFAULT else None
            self.note(self.said["mode"], words.mode(self.task, mode, partition))
        bodies = []
        for tag in dict.fromkeys(chosen):
            source: dict[str, Any] = {"path": path, "collection": collection.name}
            if len(collection.tables) > 1:
                source["partitions"] = [tag]
            into = None if tag == DEFAULT else tag
            bodies.append(
                Body(collection.name, into, ({"milvus1": source},), mode, collection.dim, collection.metric, where)
            )
        return bodies
