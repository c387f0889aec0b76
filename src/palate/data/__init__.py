"""Preference data: reading it, knowing it, and splitting it without leaks."""

from palate.data.columns import USER_COLUMNS
from palate.data.dataset import PreferenceDataset
from palate.data.formats import read
from palate.data.repeats import Repeats, find_repeats, pair_codes
from palate.data.source import RemoteFile, Source
from palate.data.sources import SOURCES, Votes, available, catalogue, get, get_source, load, load_votes, locate, state
from palate.data.split import CELLS, PROTOCOLS, Split, split
from palate.data.write import Written, trl_frame, write, write_split, write_trl

__all__ = [
    "CELLS",
    "PROTOCOLS",
    "SOURCES",
    "USER_COLUMNS",
    "PreferenceDataset",
    "RemoteFile",
    "Repeats",
    "Source",
    "Split",
    "Votes",
    "Written",
    "available",
    "catalogue",
    "find_repeats",
    "get",
    "get_source",
    "load",
    "load_votes",
    "locate",
    "pair_codes",
    "read",
    "split",
    "state",
    "trl_frame",
    "write",
    "write_split",
    "write_trl",
]
