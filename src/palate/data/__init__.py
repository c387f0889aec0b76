"""Preference data: reading it, knowing it, and splitting it without leaks."""

from palate.data.dataset import PreferenceDataset
from palate.data.formats import read
from palate.data.sources import SOURCES, Source, Votes, available, get_source, load, load_votes, locate
from palate.data.split import CELLS, PROTOCOLS, Split, split

__all__ = [
    "CELLS",
    "PROTOCOLS",
    "SOURCES",
    "PreferenceDataset",
    "Source",
    "Split",
    "Votes",
    "available",
    "get_source",
    "load",
    "load_votes",
    "locate",
    "read",
    "split",
]
