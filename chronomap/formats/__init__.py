"""Files in and out: the whole map as JSON or pickle, its history as change lines, a table for pandas.

``dumping`` and ``loading`` turn a store into plain containers and back (``legacy``: what ChronoMap 2 left). ``plain``
says which values a file can hold. ``json_file`` (with ``tagged``) and ``pickle_file`` (with ``pickle_gate``) write
these containers, ``changes`` writes a history line by line, all of them through ``replacing``. A file that anybody
could have written is checked as a whole before a store sees it, and reading it runs no code.
"""

from chronomap.formats.changes import Line, Progress, export_changes, read_changes
from chronomap.formats.dumping import dump
from chronomap.formats.frame import dataframe
from chronomap.formats.json_file import load_json, save_json
from chronomap.formats.loading import load
from chronomap.formats.pickle_file import load_pickle, pack, save_pickle, unpack

__all__ = [
    "Line",
    "Progress",
    "dataframe",
    "dump",
    "export_changes",
    "load",
    "load_json",
    "load_pickle",
    "pack",
    "read_changes",
    "save_json",
    "save_pickle",
    "unpack",
]
