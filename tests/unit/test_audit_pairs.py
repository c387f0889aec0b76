"""Divergence by hand, its noise floor by simulation, and the vote model against a known concentration."""

from __future__ import annotations

import numpy as np
import pytest

from palate.evaluate.audit_pairs import Votes, divergence, vote_model


def votes_of(splits: list[tuple[int, int]]) -> Votes:
    """Each pair (2i, 2i + 1) rated by `a` people for the lower and `b` for the higher item; every rater is new."""
    left, right, user, label = [], [], [], []
    for number, (a, b) in enumerate(splits):
        for place in range(a + b):
            turned = place % 2 == 1  # sides must not matter
            for_low = place < a
            left.append(2 * number + turned)
            right.append(2 * number + (not turned))
            user.append(len(user))
            label.append(float(for_low != turned))
    return Votes.of(np.array(left), np.array(right), np.array(user), np.array(label), 2 * len(splits))


def test_divergence_counts_pairs_with_enough_raters_only():
    votes = votes_of([(5, 0), (4, 1), (3, 2), (0, 6), (2, 2)])
    any_dissent, high = divergence(votes, 5, None)
    assert any_dissent["n"] == 4
    assert any_dissent["value"] == pytest.approx(2 / 4)
    assert high["value"] == pytest.approx(1 / 4)  # 2 of 5 is 40 %; 1 of 5 is 20 %
    assert divergence(votes, 4, None)[0]["value"] == pytest.approx(3 / 5)


def test_exactly_thirty_percent_is_high_dissent():
    assert divergence(votes_of([(7, 3)]), 5, None)[1]["value"] == 1.0
    assert divergence(votes_of([(8, 3)]), 5, None)[1]["value"] == 0.0


def test_no_pair_with_enough_raters_is_null_with_the_reason():
    any_dissent, high = divergence(votes_of([(2, 1), (1, 1)]), 5, None)
    assert any_dissent["value"] is None and high["value"] is None
    assert "no pair has 5 raters (the most is 3)" in any_dissent["reason"]


def test_two_answers_of_one_person_are_one_vote_and_ties_are_none():
    columns = [(0, 1, 7, 1.0), (1, 0, 7, 0.0), (0, 1, 8, 0.5), (0, 1, 9, 1.0), (1, 0, 9, 1.0), (3, 3, 9, 1.0)]
    left, right, user, label = (np.array(column) for column in zip(*columns, strict=True))
    votes = Votes.of(left, right, user, label, 4)
    # 7 said the same twice, 8 tied, 9 contradicted the own answer
    assert votes.raters.tolist() == [1] and votes.balance.tolist() == [1]
    assert votes.row_pair.tolist() == [0, 0, 0, 0, 0, -1]


@pytest.mark.parametrize("error", [0.5, 0.1])
def test_noise_floor_is_what_erring_raters_of_one_taste_give(error):
    rng = np.random.default_rng(0)
    raters = rng.integers(5, 9, size=20_000)
    wrong = rng.binomial(raters, error)
    votes = votes_of([(5, 0)] * 3)
    votes = Votes(votes.user, votes.pair, votes.choice, raters, raters - 2 * wrong, votes.row_pair)
    any_dissent, high = divergence(votes, 5, error)
    assert any_dissent["noise_expected"] == pytest.approx(any_dissent["value"], abs=0.01)
    assert high["noise_expected"] == pytest.approx(high["value"], abs=0.01)
    if error == 0.5:
        assert any_dissent["coin_expected"] == pytest.approx(any_dissent["noise_expected"])
    else:
        assert any_dissent["coin_expected"] > any_dissent["noise_expected"]


def test_vote_model_finds_divergence_from_pairs_with_few_raters():
    rng = np.random.default_rng(1)
    alpha = 0.6
    share_for = rng.beta(alpha, alpha, size=6_000)
    raters = rng.integers(2, 4, size=6_000)
    splits = rng.binomial(raters, share_for)
    votes = votes_of([(1, 1)])
    votes = Votes(votes.user, votes.pair, votes.choice, raters, 2 * splits - raters, votes.row_pair)
    found = vote_model(votes, 5)
    ten = rng.binomial(5, rng.beta(alpha, alpha, size=200_000))
    assert found["any"]["low"] <= ((ten > 0) & (ten < 5)).mean() <= found["any"]["high"]
    inside = rng.beta(alpha, alpha, size=200_000)
    assert found["high"]["value"] == pytest.approx(((inside > 0.3) & (inside < 0.7)).mean(), abs=0.03)


def test_vote_model_needs_pairs():
    found = vote_model(votes_of([(2, 1)] * 5), 5)
    assert found["any"] is None and "5 pairs have two raters or more" in found["reason"]
