"""Files in and out: whole maps as JSON or pickle, change lines, data frames.

One plain form (``plain``) stands between the store and every file; nothing that is loaded is ever executed.
"""

from chronomap.formats.frame import dataframe
from chronomap.formats.json_file import load_json, save_json
from chronomap.formats.lines import Line, Progress, export_changes, read_changes
from chronomap.formats.pickle_file import load_pickle, pack, save_pickle, unpack
from chronomap.formats.plain import dump, load

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
