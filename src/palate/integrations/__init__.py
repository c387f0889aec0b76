"""Palate beside other programs: what they export, read; what they train with, given. None of them is needed to import this."""

from palate.integrations import argilla, label_studio

__all__ = ["argilla", "label_studio"]
