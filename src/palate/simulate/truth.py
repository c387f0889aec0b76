"""What simulations share: people with known rewards, what they chose, and what they would have chosen.

P(u prefers left) = σ(r_u(left) - r_u(right)),   r_u(i) = shared_i + loadings_i · people_u
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from scipy.special import expit

from palate.data.dataset import CONSENSUS_PROBABILITY, NEW_PERSON, TRUE_PROBABILITY, PreferenceDataset
from palate.errors import InputError
from palate.rng import RNGLike, derive, normalise

__all__ = ["ItemTable", "Simulation", "Truth", "draw_pairs", "simulate"]


@dataclass(frozen=True)
class Truth:
    """The true rewards of everybody, in logits.

    Args:
        shared: (n_items,) what everybody likes.
        loadings: (n_items, r) what tastes differ about.
        people: (n_users, r) how much each person cares.
        new: (n_users,) people of a kind that is not among the others (they are for testing on new people).
        traits: each person's tastes in words, or None.
        axes: r names of what tastes differ about, or None.
    """

    shared: np.ndarray
    loadings: np.ndarray
    people: np.ndarray
    new: np.ndarray
    traits: tuple[tuple[str, ...], ...] | None = None
    axes: tuple[str, ...] | None = None

    def reward(self, users: np.ndarray | None = None) -> np.ndarray:
        """(k, n_items) rewards of some people, all by default."""
        people = self.people if users is None else self.people[users]
        return self.shared + people @ self.loadings.T

    def logit(self, left: np.ndarray, right: np.ndarray, user: np.ndarray) -> np.ndarray:
        """(m,) reward of left minus that of right, row by row."""
        taste = ((self.loadings[left] - self.loadings[right]) * self.people[user]).sum(axis=1)
        return self.shared[left] - self.shared[right] + taste

    def probability(self, left: np.ndarray, right: np.ndarray, user: np.ndarray) -> np.ndarray:
        """(m,) true probability that the person prefers left: nobody can predict better."""
        return expit(self.logit(left, right, user))

    def consensus(self, left: np.ndarray, right: np.ndarray, *, most: int = 1000) -> np.ndarray:
        """(m,) share of (up to `most`) people who would prefer left: the best prediction without knowing the person."""
        people = self.people[np.linspace(0, len(self.people) - 1, min(most, len(self.people))).astype(int)]
        pairs, row = np.unique(left.astype(np.int64) * len(self.shared) + right, return_inverse=True)
        left, right = np.divmod(pairs, len(self.shared))
        total = np.empty(len(pairs))
        for start in range(0, len(pairs), 10_000):
            part = slice(start, start + 10_000)
            taste = (self.loadings[left[part]] - self.loadings[right[part]]) @ people.T
            total[part] = expit((self.shared[left[part]] - self.shared[right[part]])[:, None] + taste).mean(axis=1)
        return total[row]

    def matters(self, left: np.ndarray, right: np.ndarray, user: np.ndarray) -> np.ndarray:
        """(m,) bool: whether the two items differ in anything the person cares about, beside what everybody likes."""
        return np.any((self.loadings[left] - self.loadings[right]) * self.people[user] != 0, axis=1)


@dataclass(frozen=True)
class Simulation:
    """Simulated people, their answers, and the truth behind them.

    Args:
        dataset: the answers.
        truth: rewards by the dataset's numbers of people and items.
        features: (n_items, d) float32, or None where features are to be made from the texts.
    """

    dataset: PreferenceDataset
    truth: Truth
    features: np.ndarray | None = None

    @property
    def probability(self) -> np.ndarray:
        """(m,) true probability of every row of the dataset."""
        return self.truth.probability(self.dataset.left, self.dataset.right, self.dataset.user)

    def oracle_accuracy(self) -> float:
        """Expected accuracy of who knows every true reward, mean over rows: the Bayes ceiling."""
        p = self.probability
        return float(np.maximum(p, 1.0 - p).mean())

    @property
    def consensus(self) -> np.ndarray:
        """(m,) the best probability of every row that can be told without knowing the person."""
        return self.truth.consensus(self.dataset.left, self.dataset.right)

    def consensus_accuracy(self) -> float:
        """Expected accuracy of the best prediction that does not know the person."""
        p = self.probability
        return float(np.where(self.consensus > 0.5, p, 1.0 - p).mean())

    def ceilings(self) -> dict[str, dict[str, float]]:
        """What can be expected at best on these rows: `accuracy`, `auc` and `log_loss` of `oracle` and of `consensus`.

        The oracle knows every true reward (nobody can be better), the consensus what share of people would prefer left
        (the best without knowing the person). Accuracy and log-loss are means over rows, AUC over people.
        """
        p = self.probability
        found = {}
        for name, told in (("oracle", p), ("consensus", self.consensus)):
            sure = np.clip(told, 1e-12, 1.0 - 1e-12)
            found[name] = {
                "accuracy": float(np.where(told > 0.5, p, 1.0 - p).mean()),
                "auc": _expected_auc(told, p, self.dataset.user),
                "log_loss": float(-(p * np.log(sure) + (1.0 - p) * np.log1p(-sure)).mean()),
            }
        return found

    def indifferent_share(self) -> float:
        """Share of rows whose two items differ in nothing the person cares about: there the person is like everybody."""
        return float(1.0 - self.truth.matters(self.dataset.left, self.dataset.right, self.dataset.user).mean())

    def people_frame(self) -> pl.DataFrame:
        """What each person cares about: `user new_person taste`, and a column of weights for each axis."""
        truth = self.truth
        names = truth.axes or tuple(f"axis {number}" for number in range(truth.people.shape[1]))
        words = [" and ".join(traits) for traits in truth.traits] if truth.traits else [""] * len(truth.people)
        head = {"user": list(self.dataset.users), NEW_PERSON: truth.new, "taste": words}
        return pl.DataFrame(head | {f"weight of {name}": truth.people[:, i] + 0.0 for i, name in enumerate(names)})

    def fresh(self, rows_per_user: int, *, rng: RNGLike = None) -> PreferenceDataset:
        """New answers of the same people about items that they have not been asked about.

        Returns:
            A dataset with the same people and items by the same numbers; up to `rows_per_user` rows a person.
        """
        rng = normalise(rng)
        old, n = self.dataset, self.dataset.n_items
        met = np.unique(
            np.concatenate([old.user.astype(np.int64) * n + old.left, old.user.astype(np.int64) * n + old.right])
        )
        user = np.repeat(np.arange(old.n_users, dtype=np.int32), 20 * rows_per_user)
        left, right = draw_pairs(old.item_prompt, len(user), rng)
        new = ~np.isin(user.astype(np.int64) * n + left, met) & ~np.isin(user.astype(np.int64) * n + right, met)
        user, left, right = user[new], left[new], right[new]
        first = np.searchsorted(user, np.arange(old.n_users))
        kept = np.arange(len(user)) - first[user] < rows_per_user
        return _answered(old, self.truth, left[kept], right[kept], user[kept], rng, TRUE_PROBABILITY in old.extra)


def _expected_auc(score: np.ndarray, p: np.ndarray, user: np.ndarray) -> float:
    """Mean over people of the AUC of `score` when labels are 1 with probability `p`.

    Every pair is seen from both sides, as sides mean nothing; the AUC is that of expected counts.
    """
    areas = []
    for person in np.unique(user):
        own = user == person
        # From both sides; rounded, because 1 − (1 − p) is not p in floating point.
        levels, level = np.unique(np.round([*score[own], *(1.0 - score[own])], 12), return_inverse=True)
        wins = np.bincount(level, np.concatenate([p[own], 1.0 - p[own]]), len(levels))
        losses = np.bincount(level, np.concatenate([1.0 - p[own], p[own]]), len(levels))
        areas.append(wins @ (np.cumsum(losses) - losses / 2) / (wins.sum() * losses.sum()))
    return float(np.mean(areas))


@dataclass(frozen=True)
class ItemTable:
    """Texts numbered as `PreferenceDataset` numbers them.

    Args:
        prompts, responses: distinct texts, sorted.
        item_prompt, item_response: (n_items,) int32.
        order: (n_items,) where each item stood in the lists it was made from.
    """

    prompts: tuple[str, ...]
    responses: tuple[str, ...]
    item_prompt: np.ndarray
    item_response: np.ndarray
    order: np.ndarray

    @classmethod
    def of(cls, prompt: Sequence[str], reply: Sequence[str]) -> ItemTable:
        """From one prompt and one reply per item; all items must differ."""
        prompts, responses = sorted(set(prompt)), sorted(set(reply))
        prompt_number = {text: number for number, text in enumerate(prompts)}
        response_number = {text: number for number, text in enumerate(responses)}
        item_prompt = np.array([prompt_number[text] for text in prompt], np.int32)
        item_response = np.array([response_number[text] for text in reply], np.int32)
        order = np.lexsort((item_response, item_prompt))
        return cls(tuple(prompts), tuple(responses), item_prompt[order], item_response[order], order)


def simulate(
    table: ItemTable,
    truth: Truth,
    rows_per_user: int | np.ndarray,
    *,
    rng: np.random.Generator,
    name: str,
    repeats: float = 0.0,
    features: np.ndarray | None = None,
    told: bool = False,
) -> Simulation:
    """Let people answer random pairs of replies to one prompt, by Bradley-Terry.

    Args:
        table: the items.
        truth: rewards, by the table's numbers.
        rows_per_user: answers of each person, one number or (n_users,) numbers.
        rng: draws pairs and answers.
        name: of the dataset.
        repeats: share of the answers that are the same person's second answer to an earlier pair, sides exchanged.
        features: (n_items, d) by the table's numbers, or None.
        told: let the data set carry the truth, as extra columns.
    """
    n_users = len(truth.people)
    counts = np.broadcast_to(np.asarray(rows_per_user), n_users)
    if counts.min(initial=1) < 1:
        raise InputError(f"rows_per_user={counts.min()}: people must answer; use at least 1")
    if not 0.0 <= repeats <= 0.5:
        raise InputError(f"repeats={repeats}: a share of second answers lies between 0 and 0.5")
    user = np.repeat(np.arange(n_users, dtype=np.int32), counts)
    left, right = draw_pairs(table.item_prompt, len(user), rng)
    start = np.cumsum(counts) - counts
    place = np.arange(len(user)) - start[user]
    again = np.round(repeats * counts).astype(int)[user]
    second = np.flatnonzero(place >= counts[user] - again)
    first = second - (counts[user] - again)[second]
    left[second], right[second] = right[first], left[first]
    width = len(str(n_users - 1))
    empty = np.zeros(0, np.int32)
    blank = PreferenceDataset(
        users=tuple(f"person-{number:0{width}d}" for number in range(n_users)),
        prompts=table.prompts,
        responses=table.responses,
        item_prompt=table.item_prompt,
        item_response=table.item_response,
        left=empty,
        right=empty.copy(),
        user=empty.copy(),
        label=np.zeros(0),
        weight=np.zeros(0),
        name=name,
        licence="CC0-1.0",
    )
    return Simulation(_answered(blank, truth, left, right, user, rng, told), truth, features)


def draw_pairs(item_prompt: np.ndarray, m: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """(m,) left and (m,) right: a random prompt with at least two replies, then two of its replies."""
    counts = np.bincount(item_prompt)
    prompts = np.flatnonzero(counts > 1)
    if len(prompts) == 0:
        raise InputError("no prompt has two replies; pairs need two replies to the same prompt")
    order = np.argsort(item_prompt, kind="stable")
    start = np.concatenate([[0], np.cumsum(counts)])
    chosen = prompts[rng.integers(len(prompts), size=m)]
    size = counts[chosen]
    first = rng.integers(size)
    second = (first + rng.integers(1, size)) % size
    return order[start[chosen] + first].astype(np.int32), order[start[chosen] + second].astype(np.int32)


def _answered(
    dataset: PreferenceDataset,
    truth: Truth,
    left: np.ndarray,
    right: np.ndarray,
    user: np.ndarray,
    rng: np.random.Generator,
    told: bool,
) -> PreferenceDataset:
    probability = truth.probability(left, right, user)
    label = (rng.random(len(user)) < probability).astype(np.float64)
    extra = {NEW_PERSON: truth.new[user]} if truth.new.any() else {}
    if told:
        extra |= {TRUE_PROBABILITY: probability, CONSENSUS_PROBABILITY: truth.consensus(left, right)}
    return replace(
        dataset, left=left, right=right, user=user, label=label, weight=np.ones(len(user)), time=None, extra=extra
    )


def stream(seed: int, *labels: str) -> np.random.Generator:
    """A generator for one part of a simulation, so that changing one part leaves the others as they were."""
    return derive(seed, "simulate", *labels)
