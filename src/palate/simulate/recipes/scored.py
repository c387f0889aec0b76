"""People whose choices follow from scores of the replies: each weighs some scorers in their own way.

    reward_u(reply) = Σ_s weight_us · z_s(reply),       z = (score - mean) / deviation over the pool

With `noise=0`, as in the papers, a person always chooses the reply of the higher reward and equal rewards are a tie; with
`noise` σ > 0 the probability is σ(difference / noise), Bradley and Terry's model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import expit

from palate.data.dataset import CONSENSUS_PROBABILITY, TRUE_PROBABILITY
from palate.errors import InputError
from palate.rng import derive
from palate.simulate.recipes.made import Made, dataset_of
from palate.simulate.recipes.pool import LENGTH, ReplyPool, reply_pool

__all__ = ["STYLES", "Scorers", "answer", "long_short", "personal_llm", "scorers_of"]

STYLES = (
    "characters", "log_word_length", "log_sentence_length", "distinct_words", "exclamations", "questions", "contractions",
    "hedging_minus_certainty", "politeness", "second_minus_first_person",
)  # fmt: skip
"""The ten statistics that stand for PersonalLLM's ten reward models where a pool has no scores of its own."""

_MOST_TYPICAL = 1000
_BLOCK = 10_000


@dataclass(frozen=True)
class Scorers:
    """Scores on one scale.

    Args:
        names: k names.
        values: (n_items, k) z-scores over the pool.
        mean, deviation: (k,) of the raw scores, so that others can put new replies on this scale.
        given: (k,) whether the score came with the pool; the others are counted in the text.
    """

    names: tuple[str, ...]
    values: np.ndarray
    mean: np.ndarray
    deviation: np.ndarray
    given: tuple[bool, ...]

    def record(self) -> list[dict[str, Any]]:
        """Name, source and constants of each."""
        return [
            {"name": name, "from": "pool" if own else "text", "mean": float(mean), "deviation": float(spread)}
            for name, own, mean, spread in zip(self.names, self.given, self.mean, self.deviation, strict=True)
        ]


def scorers_of(pool: ReplyPool, names: Sequence[str] | None = None) -> Scorers:
    """Scorers by name; by default the pool's own score columns, or else `STYLES`. Unnamed ones that are constant are left out.

    Raises:
        InputError: an unknown or repeated name, or a named score that is the same for all replies.
    """
    chosen = list(names) if names is not None else list(pool.given) or list(STYLES)
    if not chosen or len(set(chosen)) < len(chosen):
        raise InputError(f"scorers={chosen}: name at least one, each once")
    raw = {name: pool.score(name) for name in chosen}
    flat = [name for name, column in raw.items() if not column.std() > 1e-12]
    if flat and (names is not None or len(flat) == len(raw)):
        raise InputError(f"scorer {flat[0]!r} is the same for all {pool.n_items} replies; leave it out")
    kept = [name for name in raw if name not in flat]
    table = np.stack([raw[name] for name in kept], axis=1)
    mean, deviation = table.mean(axis=0), table.std(axis=0)
    return Scorers(tuple(kept), (table - mean) / deviation, mean, deviation, tuple(name in pool.given for name in kept))


def personal_llm(
    pool: Any = None,
    n_users: int = 1000,
    comparisons: tuple[int, int] = (25, 50),
    *,
    alpha: float = 0.05,
    scorers: Sequence[str] | None = None,
    noise: float = 0.0,
    seed: int = 0,
) -> Made:
    """PersonalLLM: a person weighs several reward models, by a draw from a Dirichlet distribution.

    Args:
        pool: as in `reply_pool`; score columns are its reward models.
        n_users: people; the paper's preference database has 1,000 to 10,000.
        comparisons: least and most answers of a person, drawn evenly.
        alpha: of the Dirichlet distribution: near 0 everybody follows one scorer, large makes all alike.
        scorers: names of the scorers; by default the pool's own, else `STYLES`.
        noise: 0, or the standard of Bradley-Terry noise in units of reward.
        seed: fixes everything; people keep their weights when more are added.

    Raises:
        InputError: a setting out of its range, or a pool without a prompt that has two replies.

    Source: Zollo et al. 2024, "PersonalLLM"; the preference database of their program (α = .01 there).
    """
    least, most = comparisons
    if not 1 <= least <= most:
        raise InputError(f"comparisons=({least}, {most}): give the least and the most, 1 or more")
    if not (alpha > 0 and np.isfinite(alpha)):
        raise InputError(f"alpha={alpha}: the Dirichlet distribution needs more than 0")
    pool = reply_pool(pool)
    chosen = scorers_of(pool, scorers)
    weights = np.array(
        [
            derive(seed, "personalllm", person).dirichlet(np.full(len(chosen.names), alpha))
            for person in _people(n_users)
        ]
    )
    counts = [int(derive(seed, "personalllm count", person).integers(least, most + 1)) for person in range(n_users)]
    truth = [{"weights": dict(zip(chosen.names, map(float, row.round(6)), strict=True))} for row in weights]
    settings = {"alpha": alpha, "comparisons": [least, most]}
    return answer("personalllm", pool, chosen, weights, truth, counts=counts, noise=noise, seed=seed, settings=settings)


def long_short(
    pool: Any = None,
    n_users: int = 10,
    comparisons: int = 500,
    *,
    short_share: float = 0.3,
    noise: float = 0.0,
    seed: int = 0,
) -> Made:
    """P-RLHF's synthetic preference: most people prefer the longer reply, the others the shorter one.

    Args:
        pool: as in `reply_pool`.
        n_users: people; the paper's top workers are 10 or 40.
        comparisons: of each, different pairs; fewer where the pool has fewer.
        short_share: share of people who prefer the shorter reply; rounded, but at least one of each kind.
        noise: as in `personal_llm`.
        seed: fixes everything.

    Raises:
        InputError: a setting out of its range.

    Source: Li et al. 2024, "Personalized Language Modeling from Personalized Human Feedback", § 5.
    """
    if not 0.0 <= short_share <= 1.0:
        raise InputError(f"short_share={short_share}: a share lies between 0 and 1")
    pool, people = reply_pool(pool), _people(n_users)
    chosen = scorers_of(pool, [LENGTH])
    short = int(round(short_share * n_users))
    if 0 < short_share < 1 and n_users > 1:
        short = min(max(short, 1), n_users - 1)
    sign = np.ones(n_users)
    sign[derive(seed, "long short").permutation(n_users)[:short]] = -1.0
    truth = [{"prefers": "longer" if sign[person] > 0 else "shorter"} for person in people]
    return answer(
        "long-short", pool, chosen, sign[:, None], truth, counts=[comparisons] * n_users, noise=noise, seed=seed,
        settings={"short_share": short_share, "comparisons": comparisons},
    )  # fmt: skip


def _people(n_users: int) -> range:
    if n_users < 1:
        raise InputError(f"n_users={n_users}: use at least 1")
    return range(n_users)


def answer(
    recipe: str,
    pool: ReplyPool,
    scorers: Scorers,
    weights: np.ndarray,
    truth: Sequence[Mapping[str, Any]],
    *,
    noise: float,
    seed: int,
    settings: Mapping[str, Any],
    counts: Sequence[int] | None = None,
    pairs: tuple[np.ndarray, np.ndarray] | None = None,
) -> Made:
    """Let people with these weights answer.

    Args:
        recipe, settings: for the record.
        pool, scorers: of the replies.
        weights: (n_users, k).
        truth: everybody's truth in words or numbers.
        noise: of the answers, 0 for none.
        seed: of pairs and answers.
        counts: pairs that each person draws for themselves; or
        pairs: those that everybody answers.
    """
    if not (noise >= 0 and np.isfinite(noise)):
        raise InputError(f"noise={noise}: 0 for none, or more")
    left, right, user = _questions(pool, len(weights), counts, pairs, seed, recipe)
    probability_of = _link(noise)
    gap = scorers.values[left] - scorers.values[right]
    probability = probability_of((gap * weights[user]).sum(axis=1))
    label = probability.copy()
    if noise:
        label = (derive(seed, recipe, "answers").random(len(label)) < probability).astype(np.float64)
    width = len(str(len(weights) - 1))
    names = [f"person-{number:0{width}d}" for number in range(len(weights))]
    extra = {TRUE_PROBABILITY: probability, CONSENSUS_PROBABILITY: _consensus(gap, weights, probability_of)}
    dataset = dataset_of(pool, f"{recipe} over {pool.name}", names, left, right, user, label, extra=extra)
    record = {
        "settings": {**settings, "n_users": len(weights), "noise": noise},
        "seed": seed,
        "labels": "scores",
        "scorers": scorers.record(),
        "pool": {"name": pool.name, "fingerprint": pool.fingerprint, "n_items": pool.n_items},
        "licences": {"texts": pool.licence or "not said", "choices and truth": "CC0-1.0, beyond the texts"},
    }
    return Made(recipe, dataset, [{"user": name} | dict(row) for name, row in zip(names, truth, strict=True)], record)


def _questions(
    pool: ReplyPool,
    n_users: int,
    counts: Sequence[int] | None,
    pairs: tuple[np.ndarray, np.ndarray] | None,
    seed: int,
    recipe: str,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    if pairs is not None:
        m = len(pairs[0])
        return np.tile(pairs[0], n_users), np.tile(pairs[1], n_users), np.repeat(np.arange(n_users), m)
    if counts is None or min(counts) < 1:
        raise InputError("comparisons=0: people must answer; use at least 1")
    return pool.draw_each(np.asarray(counts), derive(seed, recipe, "pairs"))


def _link(noise: float) -> Callable[[np.ndarray], np.ndarray]:
    """From a difference of rewards to the probability of the left reply."""
    if noise:
        return lambda gap: expit(gap / noise)
    # Sums of the same terms in another order differ in the last bits; that is a tie.
    return lambda gap: np.where(np.abs(gap) < 1e-9, 0.5, (gap > 0).astype(np.float64))


def _consensus(gap: np.ndarray, weights: np.ndarray, probability_of: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """(m,) share of (up to 1,000) people who would prefer left."""
    some = weights[np.linspace(0, len(weights) - 1, min(_MOST_TYPICAL, len(weights))).astype(int)]
    parts = [probability_of(gap[at : at + _BLOCK] @ some.T).mean(axis=1) for at in range(0, len(gap), _BLOCK)]
    return np.concatenate(parts)
