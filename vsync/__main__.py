"""``python -m vsync`` is ``vsync``."""

from vsync.cli import main

main()
