"""PReF's confidence set for a person's weights: theory that holds for any number of answers, and is wide.

The posterior of a fitted method says how sure it is *if* its prior and its axes are right. The set below needs neither
prior nor calibration, only bounds on the person and the features; in exchange it is far wider than what happens. Questions
are ranked by the same norm, ‖v‖ in H⁻¹, so that it changes no choice of a question.
"""

from __future__ import annotations

import math

from palate.errors import InputError

__all__ = ["confidence_radius"]


def confidence_radius(
    n_answers: int,
    rank: int,
    *,
    l2: float,
    bound: float,
    reach: float = 1.0,
    delta: float = 0.05,
    at_estimate: bool = True,
) -> float:
    """Radius of a set that holds a person's true weights λ with probability 1 − δ, at all numbers of answers at once.

    With λ̂ the penalised estimate and H(λ) = Σ σ′(λ·v_i) v_i v_iᵀ + l2 · I over the answers,

        ‖λ − λ̂‖_{H(λ)} ≤ (1 + 2 S) γ,
        γ = √β (S + ½) + (2/√β) [log(1/δ) + r log 2 + (r/2) log(1 + n / (4 β r))],

    where S = bound · reach and β = l2 / reach² put features on length 1 (`at_estimate=False`; lemma 4.1, Faury et al. 2020,
    lemmas 1, 10 and 11). H at the unknown λ is replaced by H(λ̂), which can be computed, at the price of the factor

        H(λ̂) ≤ e^{reach ‖λ − λ̂‖} H(λ),      ‖λ − λ̂‖ ≤ min(2 bound, (1 + 2 S) γ / √l2)

    (`at_estimate=True`; lemma 4.2, Bach 2010, proposition 1). By lemma 4.3 the logit of a pair with difference v is then
    off by at most radius · ‖v‖_{H(λ̂)⁻¹}, which is radius times what the strategy `pref` returns.

    Args:
        n_answers: answers so far, n ≥ 0.
        rank: number of weights, r ≥ 1.
        l2: penalty of the estimate, that is, the smallest eigenvalue of the prior precision.
        bound: the largest length that λ, and λ̂, may have.
        reach: the largest length of a difference v.
        delta: probability of being wrong.
        at_estimate: for the norm under H(λ̂), or under H(λ).

    Returns:
        The radius; it grows as log n for fixed `l2`, and as √(r log n) where l2 grows as r log n.

    Raises:
        InputError: a number that is out of its range.
    """
    positive = {"rank": rank, "l2": l2, "bound": bound, "reach": reach}
    for name, value in positive.items():
        if not (value > 0 and math.isfinite(value)):
            raise InputError(f"{name}={value}: use a number above 0")
    if n_answers < 0:
        raise InputError(f"n_answers={n_answers}: use 0 or more")
    if not 0.0 < delta < 1.0:
        raise InputError(f"delta={delta}: a probability of being wrong lies between 0 and 1")
    size, beta = bound * reach, l2 / reach**2
    growth = math.log(1.0 / delta) + rank * math.log(2.0) + 0.5 * rank * math.log1p(n_answers / (4.0 * beta * rank))
    gamma = math.sqrt(beta) * (size + 0.5) + 2.0 / math.sqrt(beta) * growth
    radius = (1.0 + 2.0 * size) * gamma
    if not at_estimate:
        return radius
    apart = min(2.0 * bound, radius / math.sqrt(l2))
    return math.exp(0.5 * reach * apart) * radius
