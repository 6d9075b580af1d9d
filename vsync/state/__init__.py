"""The state of a spec: one SQLite file in ``.vsync/``, its backup, and its lock.

- ``file``        where it lies, how it is opened, copied, and refused where it is damaged
- ``migrations``  its format, and the steps from each to the next
- ``view``        what it knows, read by plans, by status, and by the apply that writes it
- ``journal``     its transitions, written by the thread that drives an apply, and by nobody else
- ``lock``        one apply at a time, freed by the kernel
- ``ids``         which key became which, of rows whose keys a server makes
- ``listing``, ``moving``, ``doctor``  what ``vsync state`` shows, renames, forgets, examines and brings back
"""
