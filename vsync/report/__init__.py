"""Showing plans, errors and what happens during an apply: renders, decides nothing.

- ``words``    numbers, bytes, durations and plans as plain lines of text, with their styles
- ``console``  those lines on a terminal or in a log, by rich
- ``bars``     how far something is: bars on a terminal, a line every so often elsewhere
- ``progress`` an apply as it goes;  ``findings`` a check, and what it finds
- ``watch``    a running apply, from its state alone;  ``state`` what ``vsync state`` shows
- ``backups``  what the commands of a repository show
- ``jsonl``    the same as JSON objects, one a line
"""
