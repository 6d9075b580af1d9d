"""The state of a spec: one SQLite file in ``.vsync/``, and its lock.

- ``file``     where it lies, its tables, its format
- ``view``     what it knows, read by plans, by status, and by the apply that writes it
- ``journal``  its transitions, written by the thread that drives an apply, and by nobody else
- ``lock``     one apply at a time, freed by the kernel
"""
