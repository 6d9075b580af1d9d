"""HDF5: files of anybody's as sources, and the files that vsync itself writes."""

from vsync.connectors.hdf5.source import open_source

__all__ = ["open_source"]
