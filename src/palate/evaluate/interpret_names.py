"""Short names for axes: from named style statistics, checked on held-out prompts, and from a chat model.

An axis is named after the statistic that goes with it most closely. Which one that is, is decided on some of the prompts,
and how well it fits is measured on the others, so that the best of many statistics does not look good by luck alone.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from palate.evaluate.interpret_axes import center_within
from palate.features.style import StyleFeatures

__all__ = ["STATISTICS", "AxisName", "Statistic", "name_by_statistics", "statistics_of", "typical_words"]

_FOLDS = 5
CLEAR = 0.25
"""A statistic with a smaller held-out correlation gives no name."""


@dataclass(frozen=True)
class Statistic:
    """Something that can be counted in a reply.

    Args:
        name: of the statistic.
        high, low: what a reply with much and with little of it is called.
    """

    name: str
    high: str
    low: str


@dataclass(frozen=True)
class AxisName:
    """What an axis is called.

    Args:
        high, low: its two ends, in a word or three; empty where nothing simple fits.
        statistic: the statistic that goes with it most closely; empty where the pool gives none.
        correlation: of axis and statistic on prompts that had no say in its choice, or None.
        by: "statistics", "chat" or "nothing".
        sign: 1 where the axis goes with the statistic, -1 where against it.
        agreement: share of held-out pairs that the chat model sorts by its own name as the axis does, or None.
    """

    high: str
    low: str
    statistic: str
    correlation: float | None
    by: str
    sign: int = 1
    agreement: float | None = None

    def turned(self) -> AxisName:
        """The name of the same axis turned round."""
        return replace(self, high=self.low, low=self.high, sign=-self.sign)

    @property
    def text(self) -> str:
        """Both ends in one line: "longer / shorter"."""
        return f"{self.high} / {self.low}" if self.high else "no simple name"


_STYLE = {
    "log_words": ("longer", "shorter"),
    "log_word_length": ("long words", "short words"),
    "log_sentence_length": ("long sentences", "short sentences"),
    "distinct_words": ("varied words", "repeated words"),
    "exclamations": ("exclamations", "no exclamations"),
    "questions": ("asks back", "asks nothing"),
    "commas": ("many commas", "few commas"),
    "dashes_and_brackets": ("dashes and brackets", "plain punctuation"),
    "digits": ("numbers", "no numbers"),
    "list_lines": ("lists", "prose"),
    "line_breaks": ("many lines", "one block"),
    "markup": ("markup", "plain text"),
    "emoji": ("emoji", "no emoji"),
    "hedging_minus_certainty": ("hedging", "certain"),
    "politeness": ("polite", "curt"),
    "second_minus_first_person": ("about you", "about me"),
}

_LEXICONS = {
    "formality": (
        "formal",
        "informal",
        "therefore however furthermore moreover regarding shall upon thus hence ensure additionally subsequently advisable "
        "recommended consequently respectively accordingly prior should whether which appropriate typically generally",
        "gonna wanna gotta yeah yep nope hey kinda sorta stuff guys cool ok okay btw dude bit bunch pretty super thing nah "
        "grab chuck totally just it's don't you're that's can't i'd you'll won't",
    ),
    "humour": (
        "humorous",
        "serious",
        "haha lol joke joking jokes kidding funny hilarious pun puns laugh laughing giggle comedy comic ridiculous absurd "
        "silly wink clown",
        "",
    ),
    "enthusiasm": (
        "enthusiastic",
        "restrained",
        "love amazing awesome fantastic wonderful great exciting excited wow brilliant incredible perfect superb delightful "
        "best fun beautiful magic enjoy yes absolutely thrilled",
        "",
    ),
    "rudeness": (
        "rude",
        "friendly",
        "stupid idiot lazy dumb seriously whatever nonsense shut moron useless pathetic clueless obviously duh bother "
        "complaining excuse hardly difficult yourself fool clearly",
        "please thanks thank kindly sorry appreciate welcome glad happy pleasure hope",
    ),
}


def _pattern(words: str) -> re.Pattern[str]:
    return re.compile(rf"(?i)(?<![\w'])(?:{'|'.join(map(re.escape, words.split()))})(?![\w'])")


_PATTERNS = {
    name: (_pattern(for_it), _pattern(against) if against else None)
    for name, (_, _, for_it, against) in _LEXICONS.items()
}
_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")

STATISTICS = tuple(
    [Statistic(name.removeprefix("log_").replace("_", " "), *ends) for name, ends in _STYLE.items()]
    + [Statistic(name, high, low) for name, (high, low, _, _) in _LEXICONS.items()]
    + [Statistic("ends with a question", "ends with a question", "ends with a statement")]
)
"""What names can be made of; the order of the columns of `statistics_of`."""


def statistics_of(replies: Sequence[str]) -> np.ndarray:
    """(n, len(STATISTICS)) float64: each reply's statistics; rates are roots of counts per word, as in `StyleFeatures`."""
    style = StyleFeatures().embed([("", reply) for reply in replies]).astype(float)
    columns = [style[:, StyleFeatures.columns.index(name)] for name in _STYLE]
    plain = [reply.replace("’", "'") for reply in replies]
    words = np.array([max(1, len(_WORD.findall(reply))) for reply in plain], float)
    for for_it, against in _PATTERNS.values():
        rate = np.sqrt(np.array([len(for_it.findall(reply)) for reply in plain]) / words)
        if against is not None:
            rate -= np.sqrt(np.array([len(against.findall(reply)) for reply in plain]) / words)
        columns.append(rate)
    columns.append(np.array([reply.rstrip(" \"'”)*").endswith("?") for reply in replies], float))
    return np.column_stack(columns)


def name_by_statistics(values: np.ndarray, statistics: np.ndarray, prompt: np.ndarray) -> AxisName:
    """Name an axis after the statistic that goes with it.

    Args:
        values: (n,) coordinates of the replies on the axis.
        statistics: (n, s) of the same replies, from `statistics_of`.
        prompt: (n,) prompt of each; whole prompts are held out, in five folds.
    """
    table = _standard(center_within(statistics, prompt))
    target = center_within(values, prompt)
    fit = table.T @ target
    if not np.any(fit):
        return AxisName("", "", "", None, "nothing")
    best = int(np.argmax(np.abs(fit)))
    correlation = _held_out(target, table, prompt)
    statistic = STATISTICS[best]
    sign = 1 if fit[best] > 0 else -1
    ends = (statistic.high, statistic.low)[::sign]
    if correlation is None or correlation < CLEAR:
        return AxisName("", "", statistic.name, correlation, "nothing", sign)
    return AxisName(*ends, statistic.name, correlation, "statistics", sign)


def _held_out(target: np.ndarray, table: np.ndarray, prompt: np.ndarray) -> float | None:
    """Correlation of the axis with what the choice on other prompts predicts; None with fewer than five prompts."""
    prompts, index = np.unique(prompt, return_inverse=True)
    if len(prompts) < _FOLDS:
        return None
    fold = np.random.default_rng(0).permutation(len(prompts))[index] % _FOLDS
    predicted = np.zeros(len(target))
    for part in range(_FOLDS):
        rest, held = fold != part, fold == part
        fit = table[rest].T @ target[rest]
        best = int(np.argmax(np.abs(fit)))
        predicted[held] = np.sign(fit[best]) * table[held, best]
    size = np.linalg.norm(predicted) * np.linalg.norm(target)
    return float(predicted @ target / size) if size > 0 else None


def _standard(table: np.ndarray) -> np.ndarray:
    norm = np.linalg.norm(table, axis=0)
    return np.divide(table, norm, out=np.zeros_like(table), where=norm > 1e-9)


def typical_words(
    values: np.ndarray, replies: Sequence[str], *, count: int = 6, least: int = 4
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Words that replies at the high and at the low end have in common.

    A word's score is the t statistic of the coordinates of the replies that contain it; words in fewer than `least` replies
    do not count.

    Returns:
        up to `count` words for the high end and for the low end, most telling first.
    """
    rows: dict[str, list[int]] = {}
    for row, reply in enumerate(replies):
        for word in {word.lower() for word in _WORD.findall(reply)}:
            rows.setdefault(word, []).append(row)
    centre, spread = float(np.mean(values)), float(np.std(values))
    if spread == 0:
        return (), ()
    scores = {
        word: (float(np.mean(values[found])) - centre) * len(found) ** 0.5 / spread
        for word, found in rows.items()
        if least <= len(found) < len(replies)
    }
    order = sorted(scores, key=lambda word: (-scores[word], word))
    high = tuple(word for word in order[:count] if scores[word] > 2)
    low = tuple(word for word in reversed(order[-count:]) if scores[word] < -2)
    return high, low
