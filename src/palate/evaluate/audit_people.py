"""Who is with the majority, who is against it, and who is merely noisy?

MV-ACC of a person is the accuracy of the majority's vote on that person's own votes (Paper A, §4.2). The paper does not
say whether the own vote belongs to the majority. With it small groups look agreeable; without it a 3-against-3 split is
lost by all six. Both are reported. Where pairs do not repeat there is no majority, and a consensus model (a reward
shared by everybody, fitted without that person) stands in.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import optimize, stats
from scipy.special import betaln, expit, logit

from palate.evaluate.audit_baselines import draws_for
from palate.evaluate.audit_pairs import Votes
from palate.statistics import mean_over_users, share

__all__ = ["Agreement", "below", "beta_prior", "kinds", "majority_agreement", "mv_acc", "summed"]

SURE = 0.9
"""Posterior probability from which a person is called minority or noisy."""

DOUBT = 0.05
"""Share of people whom the prior of the others does not describe."""

NOISY_BELOW = 0.6
"""A noisy person is not predicted better than this by anybody, nor by the own taste."""

_FEWEST_PEOPLE = 20


@dataclass(frozen=True)
class Agreement:
    """Per person: how often the majority, or another prediction, is right.

    Args:
        right: (n_users,) votes it gets right; an undecided prediction counts half.
        n: (n_users,) votes it was tried on.
    """

    right: np.ndarray
    n: np.ndarray

    @property
    def accuracy(self) -> np.ndarray:
        """(n_users,) NaN for who has no vote."""
        return np.divide(self.right, self.n, out=np.full(len(self.n), np.nan), where=self.n > 0)


def summed(right: np.ndarray, user: np.ndarray, n_users: int) -> Agreement:
    """Agreement from rows: (m,) credit in [0, 1], NaN rows left out, and (m,) people."""
    kept = ~np.isnan(right)
    return Agreement(
        np.bincount(user[kept], right[kept], n_users), np.bincount(user[kept], minlength=n_users).astype(np.float64)
    )


def majority_agreement(votes: Votes, min_raters: int, n_users: int) -> tuple[Agreement, Agreement]:
    """Agreement of each person with the majority *with* the own vote and *without* it, on pairs with enough raters."""
    counted = (votes.choice != 0) & (votes.raters[votes.pair] >= max(2, min_raters))
    user, choice, balance = votes.user[counted], votes.choice[counted], votes.balance[votes.pair[counted]]
    with_own = 0.5 + 0.5 * np.sign(balance) * choice
    without = 0.5 + 0.5 * np.sign(balance - choice) * choice
    return summed(with_own, user, n_users), summed(without, user, n_users)


def beta_prior(agreement: Agreement) -> tuple[float, float]:
    """Beta(a, b) of people's true agreement, by maximum likelihood of the beta-binomial; Beta(1, 1) with few people."""
    known = agreement.n > 0
    right, n = agreement.right[known], agreement.n[known]
    if known.sum() < _FEWEST_PEOPLE or n.max() < 2:
        return 1.0, 1.0
    kinds, counts = np.unique(np.stack([right, n], axis=1), axis=0, return_counts=True)
    right, n = kinds[:, 0], kinds[:, 1]

    def loss(parameters: np.ndarray) -> float:
        mean, size = 1.0 / (1.0 + np.exp(-parameters[0])), np.exp(parameters[1])
        a, b = mean * size, (1.0 - mean) * size
        return -float(counts @ (betaln(right + a, n - right + b) - betaln(a, b)))

    start = [stats.logistic.ppf(np.clip(np.average(right / n, weights=counts), 0.02, 0.98)), np.log(10.0)]
    found = optimize.minimize(loss, start, method="L-BFGS-B", bounds=[(-6, 6), (np.log(0.2), np.log(2000.0))])
    mean, size = 1.0 / (1.0 + np.exp(-found.x[0])), np.exp(found.x[1])
    return float(mean * size), float((1.0 - mean) * size)


def below(
    agreement: Agreement, limit: float, prior: tuple[float, float] | None = None, *, doubt: float = DOUBT
) -> np.ndarray:
    """(n_users,) posterior probability that a person's true agreement is below `limit`; NaN for who has no vote.

    The prior is that of the people at hand, so that one person with three unlucky votes is not called a minority,
    mixed with a little of a uniform one, so that a lone dissenter among people who are all alike can be.

    Args:
        agreement: of each person.
        limit: in [0, 1].
        prior: Beta(a, b), learned from `agreement` by default.
        doubt: weight of the uniform prior in the mixture.
    """
    a, b = beta_prior(agreement) if prior is None else prior
    right, wrong = agreement.right, agreement.n - agreement.right
    log_odds = betaln(right + 1.0, wrong + 1.0) - (betaln(right + a, wrong + b) - betaln(a, b))
    apart = expit(log_odds + logit(doubt))
    posterior = (1.0 - apart) * stats.beta.cdf(limit, a + right, b + wrong)
    posterior += apart * stats.beta.cdf(limit, 1.0 + right, 1.0 + wrong)
    return np.where(agreement.n > 0, posterior, np.nan)


def mv_acc(with_own: Agreement | None, without: Agreement, method: str, *, rng: np.random.Generator) -> dict[str, Any]:
    """MV-ACC over people, with and without the own vote, its range, and a histogram."""
    accuracy = without.accuracy
    known = accuracy[~np.isnan(accuracy)]
    result = mean_over_users(accuracy, rng=rng, draws=draws_for(len(known))).to_dict() | {"method": method}
    result["reason"] = None if len(known) else "nobody has an answer that is not a tie"
    if with_own is None:
        result["with_own_vote"] = None
        result["with_own_vote_reason"] = "too few pairs have enough raters; the consensus model leaves the person out"
    else:
        result["with_own_vote"] = mean_over_users(with_own.accuracy, rng=rng, draws=draws_for(len(known))).to_dict()
        result["with_own_vote_reason"] = None
    edges = np.linspace(0.0, 1.0, 21)
    result["histogram"] = {"edges": edges.tolist(), "people": np.histogram(known, edges)[0].tolist()}
    result["range"] = [float(known.min()), float(known.max())] if len(known) else None
    return result


def kinds(
    without: Agreement, personal: Agreement, itself: Agreement
) -> tuple[np.ndarray, np.ndarray, dict[str, Any], dict[str, Any]]:
    """Tell minorities from noisy people.

    A minority person is surely below ½ with the majority: consistently against it, and so predictable, by the own taste
    or by the opposite of the majority. A noisy person is predicted by nothing: surely below .6 by the majority, not
    surely above .6 by its opposite, surely below .6 by a personal model on held-out rows, and not shown to be steady by
    the own repeats. Who looks like both (a coin tosser with bad luck) is noisy.

    Args:
        without: agreement with the majority, own vote left out.
        personal: agreement of the cross-fitted personal model with held-out rows (n = 0 where it was not tried).
        itself: agreement with the own repeats (n = 0 where there are none).

    Returns:
        (n_users,) masks of minority and noisy people, and the dicts `minority_share` and `noisy_share`.
    """
    tried = without.n > 0
    doubtful = _surely(below(without, NOISY_BELOW)) & ~_surely(below(without, 1.0 - NOISY_BELOW))
    # by the own repeats a coin tosser agrees half of the time, a person with a ceiling of .75 in 62.5 %
    steady = _surely(1.0 - below(itself, 0.625, (1.0, 1.0)))
    noisy = tried & doubtful & _surely(below(personal, NOISY_BELOW)) & ~steady
    minority = tried & _surely(below(without, 0.5)) & ~noisy
    n = int(tried.sum())
    about = "beta-binomial posterior, P({}) > .9"
    minority_share = share(float(minority.sum()), n, unit="users").to_dict()
    minority_share |= {"count": int(minority.sum()), "method": about.format("MV-ACC < .5")}
    # Paper A counts whoever happens to fall below ½; beside it what the posteriors add up to
    minority_share["below_half"] = float((without.accuracy[tried] < 0.5).mean()) if n else None
    minority_share["posterior_mean"] = float(below(without, 0.5)[tried].mean()) if n else None
    minority_share["reason"] = None if n else "nobody has an answer that is not a tie"
    noisy_share = share(float(noisy.sum()), n, unit="users").to_dict()
    noisy_share["count"] = int(noisy.sum())
    if (personal.n > 0).any():
        noisy_share |= {"method": about.format("< .6 by the majority and by the own taste"), "reason": None}
    else:
        reason = "no held-out rows tried the own taste, so noise cannot be told from taste"
        noisy_share |= {"value": None, "low": None, "high": None, "method": None, "reason": reason}
    return minority, noisy, minority_share, noisy_share


def _surely(posterior: np.ndarray) -> np.ndarray:
    return np.nan_to_num(posterior, nan=0.0) > SURE
