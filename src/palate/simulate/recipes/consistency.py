"""Whether a simulated person agrees with themselves: order flips, second answers, circles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["Consistency", "count_circles"]


@dataclass(frozen=True)
class Consistency:
    """Counts by person, (n_users,) each.

    Args:
        users: ids.
        questions: pairs that were asked, in both orders.
        flips: of these, where the two orders chose different replies: the order decided.
        ties: where no order preferred either.
        unreadable: where an answer could not be read, even when asked again; these rows are not in the data.
        first: one-sided answers that chose the reply shown first, and
        sided: all one-sided answers; half of them come first where the order means nothing.
        repeats: pairs decided both times when asked again in other words, and
        agreeing: of these, those decided alike.
        triads: three replies of which all three pairs were decided, and
        circles: of these, the circular ones (a over b over c over a).
    """

    users: Sequence[str]
    questions: np.ndarray
    flips: np.ndarray
    ties: np.ndarray
    unreadable: np.ndarray
    first: np.ndarray
    sided: np.ndarray
    repeats: np.ndarray
    agreeing: np.ndarray
    triads: np.ndarray
    circles: np.ndarray

    def rows(self) -> list[dict[str, Any]]:
        """A dictionary a person: counts and shares; a share of nothing is None."""
        return [{"user": name} | self._told(np.array([number])) for number, name in enumerate(self.users)]

    def total(self) -> dict[str, Any]:
        """The same over all people, and how many people flip on more than half of their questions."""
        told = self._told(np.arange(len(self.users)))
        return told | {"people_mostly_flipping": int((self.flips > 0.5 * np.maximum(self.questions, 1)).sum())}

    def _told(self, who: np.ndarray) -> dict[str, Any]:
        names = (
            "questions",
            "flips",
            "ties",
            "unreadable",
            "first",
            "sided",
            "repeats",
            "agreeing",
            "triads",
            "circles",
        )
        count = {name: int(getattr(self, name)[who].sum()) for name in names}
        return count | {
            "flip_share": _share(count["flips"], count["questions"]),
            "first_share": _share(count["first"], count["sided"]),
            "repeat_agreement": _share(count["agreeing"], count["repeats"]),
            "circle_share": _share(count["circles"], count["triads"]),
        }


def _share(part: int, whole: int) -> float | None:
    return round(part / whole, 4) if whole else None


def count_circles(left: np.ndarray, right: np.ndarray, label: np.ndarray) -> tuple[int, int]:
    """Triads of which all pairs were decided, and the circular ones among them, of one person.

    Args:
        left, right: (m,) items.
        label: (m,) 1 where left won, 0 where right; other rows are no decisions. Of several answers to a pair the last counts.
    """
    wins: dict[int, set[int]] = {}
    decided: dict[tuple[int, int], tuple[int, int]] = {}
    for a, b, y in zip(left.tolist(), right.tolist(), label.tolist(), strict=True):
        if y in (0.0, 1.0) and a != b:
            decided[min(a, b), max(a, b)] = (a, b) if y == 1.0 else (b, a)
    for winner, loser in decided.values():
        wins.setdefault(winner, set()).add(loser)
    beside: dict[int, set[int]] = {}
    for low, high in decided:
        beside.setdefault(low, set()).add(high)
    triads = circles = 0
    for low, high in decided:
        for third in beside[low] & beside.get(high, set()):
            triads += 1
            trio = (low, high, third)
            # In a circle each of the three wins exactly once.
            circles += all(len(wins.get(item, set()) & set(trio)) == 1 for item in trio)
    return triads, circles
