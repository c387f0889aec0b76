"""Cheap features of form: length, punctuation, lists, tone words. No model, no download, a millisecond a text.

They know nothing of content, so they are a null baseline: what a method gains on them, it gains on style alone.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from palate.features.base import Featurizer, fingerprint_of
from palate.progress import Progress, silent

__all__ = ["StyleFeatures"]

_VERSION = 1

_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")
_SENTENCE_END = re.compile(r"[.!?…]+(?=\s|$)")
_LIST_LINE = re.compile(r"^\s*(?:[-*•]|\d+[.)])\s+", re.MULTILINE)
_MARKUP = re.compile(r"\*\*|__|^#{1,6}\s|`|\|", re.MULTILINE)
_EMOJI = re.compile("[\U0001f300-\U0001faff\u2600-\u27bf]")
_CONTRACTION = re.compile(r"(?i)\b\w+['’](?:s|t|re|ve|ll|d|m)\b")


def _any_of(words: str) -> re.Pattern[str]:
    return re.compile(rf"(?i)\b(?:{'|'.join(words.split())})\b")


_HEDGES = _any_of(
    r"maybe perhaps possibly probably might could seems? likely suppose guess roughly about somewhat unsure"
)
_CERTAIN = _any_of(r"always never certainly definitely clearly obviously must absolutely undoubtedly every exactly")
_POLITE = _any_of(r"please thanks? kindly sorry appreciate welcome glad happy pleasure wish")
_FIRST_PERSON = _any_of(r"i me my mine myself we us our ours")
_SECOND_PERSON = _any_of(r"you your yours yourself")


class StyleFeatures(Featurizer):
    """Eighteen numbers on how a response is written; the prompt does not matter.

    Rates are square roots of counts per word or per sentence: the root spreads rare marks and tames long tails.
    """

    name = "style"
    uses_prompt = False
    cacheable = False

    columns = (
        "log_words",
        "log_word_length",
        "log_sentence_length",
        "distinct_words",
        "exclamations",
        "questions",
        "commas",
        "dashes_and_brackets",
        "digits",
        "capitals",
        "list_lines",
        "line_breaks",
        "markup",
        "emoji",
        "contractions",
        "hedging_minus_certainty",
        "politeness",
        "second_minus_first_person",
    )
    """Names of the numbers, in order."""

    @property
    def fingerprint(self) -> str:
        """Fixed by the version of these rules."""
        return fingerprint_of(self.name, _VERSION, {})

    @property
    def dim(self) -> int:
        """18."""
        return len(self.columns)

    def embed(self, items: Sequence[tuple[str, str]], *, progress: Progress = silent) -> np.ndarray:
        """(n, 18) float32; see `columns`."""
        known: dict[str, list[float]] = {}
        for _, response in items:
            if response not in known:
                known[response] = _describe(response)
        progress(len(items), len(items), self.name)
        rows = [known[response] for _, response in items]
        return np.array(rows, np.float32).reshape(len(items), self.dim)


def _describe(text: str) -> list[float]:
    words = _WORD.findall(text)
    n_words = max(1, len(words))
    n_sentences = max(1, len(_SENTENCE_END.findall(text)))
    letters = sum(map(len, words))

    def rate(count: int, per: int = n_words) -> float:
        return float(np.sqrt(count / per))

    def found(pattern: re.Pattern[str]) -> int:
        return len(pattern.findall(text))

    return [
        float(np.log1p(len(words))),
        float(np.log1p(letters / n_words)),
        float(np.log1p(len(words) / n_sentences)),
        len({word.lower() for word in words}) / n_words,
        rate(text.count("!"), n_sentences),
        rate(text.count("?"), n_sentences),
        rate(text.count(",")),
        rate(sum(text.count(sign) for sign in "-–—()[];:")),
        rate(sum(sign.isdigit() for sign in text)),
        rate(sum(sign.isupper() for sign in text)),
        rate(found(_LIST_LINE), n_sentences),
        rate(text.count("\n"), n_sentences),
        rate(found(_MARKUP)),
        rate(found(_EMOJI)),
        rate(found(_CONTRACTION)),
        rate(found(_HEDGES)) - rate(found(_CERTAIN)),
        rate(found(_POLITE)),
        rate(found(_SECOND_PERSON)) - rate(found(_FIRST_PERSON)),
    ]
