"""MV-ACC by hand with and without the own vote; minorities told from noisy people."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import integrate, stats

from palate.evaluate.audit_baselines import baselines, credit, popularity
from palate.evaluate.audit_pairs import Votes
from palate.evaluate.audit_people import Agreement, below, beta_prior, kinds, majority_agreement


def one_pair(choices: list[float]) -> Votes:
    n = len(choices)
    return Votes.of(np.zeros(n, int), np.ones(n, int), np.arange(n), np.array(choices, float), 2)


def test_three_against_three():
    with_own, without = majority_agreement(one_pair([1, 1, 1, 0, 0, 0]), 5, 6)
    assert with_own.accuracy.tolist() == [0.5] * 6  # the vote is tied
    assert without.accuracy.tolist() == [0.0] * 6  # everybody's others are 2 to 3 against


def test_four_against_one():
    with_own, without = majority_agreement(one_pair([1, 1, 1, 1, 0]), 5, 5)
    assert with_own.accuracy.tolist() == [1, 1, 1, 1, 0]
    assert without.accuracy.tolist() == [1, 1, 1, 1, 0]


def test_three_against_two():
    with_own, without = majority_agreement(one_pair([1, 1, 1, 0, 0]), 5, 5)
    assert with_own.accuracy.tolist() == [1, 1, 1, 0, 0]
    assert without.accuracy.tolist() == [0.5, 0.5, 0.5, 0, 0]  # without an own vote for it the majority is tied


def test_ties_and_thin_pairs_do_not_count():
    with_own, without = majority_agreement(one_pair([1, 1, 0.5, 0, 1]), 5, 5)
    assert with_own.n.sum() == 0 and np.isnan(without.accuracy).all()


def test_posterior_is_the_beta_integral():
    agreement = Agreement(np.array([2.0]), np.array([7.0]))
    density = stats.beta(3 + 2, 1 + 5).pdf
    assert below(agreement, 0.5, (3.0, 1.0), doubt=0.0)[0] == pytest.approx(integrate.quad(density, 0, 0.5)[0])

    def mixed(p: float) -> float:
        return (0.9 * stats.beta(3, 1).pdf(p) + 0.1) * stats.binom.pmf(2, 7, p)

    share = integrate.quad(mixed, 0, 0.5)[0] / integrate.quad(mixed, 0, 1)[0]
    assert below(agreement, 0.5, (3.0, 1.0), doubt=0.1)[0] == pytest.approx(share)


def test_prior_is_that_of_the_people():
    rng = np.random.default_rng(0)
    n = rng.integers(5, 60, size=3000)
    right = rng.binomial(n, rng.beta(6, 2, size=3000))
    a, b = beta_prior(Agreement(right.astype(float), n.astype(float)))
    assert a / (a + b) == pytest.approx(0.75, abs=0.01) and a + b == pytest.approx(8, rel=0.15)


def test_few_unlucky_votes_are_no_minority_but_many_are():
    rng = np.random.default_rng(0)
    n = np.full(300, 40.0)
    right = rng.binomial(40, 0.8, size=300).astype(float)
    n[:2], right[:2] = (3.0, 40.0), (0.0, 6.0)
    nobody = Agreement(np.zeros(300), np.zeros(300))
    minority, _, share, noisy = kinds(Agreement(right, n), nobody, nobody)
    assert not minority[0] and minority[1]
    assert share["count"] == 1 and share["value"] == pytest.approx(1 / 300)
    assert noisy["value"] is None and "cannot be told" in noisy["reason"]


def test_noisy_people_are_told_from_minorities():
    n = np.full(120, 80.0)
    accuracy = np.repeat([0.85, 0.2, 0.425, 0.5, 0.5], [60, 20, 20, 10, 10])
    own = np.repeat([0.9, 0.9, 0.5, 0.85, 0.5], [60, 20, 20, 10, 10])
    steady = np.repeat([0.9, 0.9, 0.5, 0.9, 0.95], [60, 20, 20, 10, 10])

    def drawn(share: np.ndarray) -> Agreement:
        return Agreement(80 * share, n)

    minority, noisy, _, _ = kinds(drawn(accuracy), drawn(own), drawn(steady))
    kind = np.repeat(["majority", "minority", "noisy", "own taste", "steady"], [60, 20, 20, 10, 10])
    assert minority[kind == "minority"].all() and not minority[kind != "minority"].any()
    assert noisy[kind == "noisy"].all()  # though 34 of 80 alone would pass for a minority
    assert below(Agreement(80 * accuracy, n), 0.5)[kind == "noisy"].min() > 0.8
    # a taste of one's own, found by the personal model or shown by one's own repeats, is no noise
    assert not noisy[kind != "noisy"].any()


def test_credit_by_hand():
    margin, label = np.array([2.0, -1.0, 0.0, 3.0, -1.0]), np.array([1.0, 1.0, 0.0, 0.5, 0.2])
    np.testing.assert_array_equal(credit(margin, label), [1.0, 0.0, 0.5, np.nan, 1.0])


def test_popularity_leaves_the_person_out():
    left, right = np.array([0, 0, 1, 0]), np.array([1, 1, 0, 2])
    user, label = np.array([0, 1, 1, 0]), np.array([1.0, 0.0, 1.0, 1.0])
    margin = popularity(left, right, user, label)
    # row 0, person 0: item 0 lost both of person 1's answers (1/4), item 1 won both (3/4)
    assert margin[0] == pytest.approx(1 / 4 - 3 / 4)
    # row 1, person 1: item 0 won both of person 0's answers (3/4), item 1 lost its one (1/3)
    assert margin[1] == pytest.approx(3 / 4 - 1 / 3)
    assert margin[3] == pytest.approx(1 / 4 - 1 / 2)


def test_baselines_see_length_and_position():
    rng = np.random.default_rng(0)
    m = 4000
    left, right = rng.integers(50, size=m), 50 + rng.integers(50, size=m)
    length = rng.permutation(100)
    longer = (length[left] > length[right]).astype(float)
    label = np.where(rng.random(m) < 0.8, longer, 1 - longer)
    user, prompt = rng.integers(40, size=m), np.zeros(m, int)
    found = baselines(left, right, user, label, prompt, length, rng=rng)
    assert found["length"]["low"] <= 0.8 <= found["length"]["high"]
    assert found["position"]["value"] == pytest.approx(0.5, abs=0.05)
    assert found["popularity"]["value"] > 0.65
    assert baselines(left, right, user, label, prompt, None, rng=rng)["length"] is None
