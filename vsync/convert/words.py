"""What is said of options that have no meaning any more, and of what vsync does otherwise than MilvusDM."""

from __future__ import annotations

VERSION = "has no meaning: MilvusDM never read it, and vsync asks the server"
INDEX_FILE_SIZE = "has no meaning: MilvusDM ignored it, and a Milvus of today has no such option"
NO_MYSQL = "mysql_parameter is empty: the metadata is read from db/meta.sqlite, as it was"
ONLY_THE_FIRST = "MilvusDM ran only the first job of a file; this one is converted too: remove what is not to run"
ALL_COLLECTIONS = "MilvusDM took only the first of these collections; here all of them are taken"
KEYS_TWICE = (
    "Milvus 1.x lets two rows have one key, and MilvusDM copied both; here that is refused, unless "
    "on_collision: first or last says which is taken"
)
EXPORT = (
    "MilvusDM made a new folder with every run; here the collections lie in this one, and a second run adds what is "
    "not there yet (write: mirror makes it equal)"
)
MYSQL = (
    "the metadata is in MySQL, and only SQLite can be read",
    "bring its tables Tables and TableFiles into FOLDER/db/meta.sqlite, as docs/milvusdm.md says, and leave this empty",
)
INDEX = (
    "MilvusDM built no index, and so its metric got lost; here it is the index's. It loaded nothing: load: false keeps "
    "that. Where the collection has an index of its own, remove indexes:"
)
TANIMOTO = "TANIMOTO is no metric of a Milvus of today: JACCARD is, which puts the same rows first"
NO_METRIC = "nothing says which metric it had: indexes: {embedding: {metric: L2}} would"

EXAMPLES = {
    "data_path": "faiss.index",
    "dest_host": "127.0.0.1",
    "dest_port": "19530",
    "mode": "append",
    "dest_collection_name": "NAME",
    "collection_parameter": "{dimension: 128, metric_type: L2}",
    "source_milvus_path": "FOLDER",
    "source_collection": "{NAME: }",
    "data_dir": "FOLDER",
}

_APPEND = (
    "MilvusDM inserted without a look, and a second run doubled the rows; here rows whose key is there are left as "
    "they are"
)
_SKIP_H2M = (
    "MilvusDM skipped where the collection was there, empty or not; here what held rows at the first plan is skipped"
)
_SKIP = (
    "MilvusDM skipped where the collection or the partition was there, empty or not; here what held rows at the first "
    "plan is skipped"
)
_OVERWRITE = (
    "MilvusDM dropped the collection without a word; here the rows of what the data goes into are replaced, other "
    "partitions are left, and apply wants --allow-destroy"
)
_OVERWRITE_PARTITION = (
    "the rows of the partition alone are replaced, as MilvusDM did; here apply wants --allow-destroy for it"
)


def mode(task: str, said: str, partition: str | None) -> str:
    """Say what a mode of MilvusDM meant, and means here."""
    if said == "skip":
        meant = _SKIP_H2M if task == "H2M" else _SKIP
    elif said == "overwrite":
        meant = _OVERWRITE if partition is None else _OVERWRITE_PARTITION
    else:
        meant = _APPEND
    return f"mode {said}: {meant}"
