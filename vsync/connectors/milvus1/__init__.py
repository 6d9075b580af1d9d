"""The folder that a Milvus 1.x (or 0.10) kept its data in, as a source: no server of that time is needed.

``meta`` reads what its SQLite says is there, ``segments`` the files of rows, ``log`` what never got into them.
"""

from vsync.connectors.milvus1.source import open_source

__all__ = ["open_source"]
