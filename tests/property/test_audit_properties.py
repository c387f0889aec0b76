"""What holds of any answers whatever: bounds, symmetries, and what can only go one way."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from palate.evaluate.audit_consistency import ceiling
from palate.evaluate.audit_decision import gain_from, learned_share
from palate.evaluate.audit_pairs import Votes, divergence
from palate.evaluate.audit_people import Agreement, below, majority_agreement

LABELS = st.sampled_from([0.0, 0.25, 0.5, 1.0])
ROWS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4), st.integers(0, 7), LABELS), min_size=1, max_size=60)
SHARE = st.floats(0, 1)
POSITIVE = st.floats(0.01, 50)


def columns(rows) -> tuple[np.ndarray, ...]:
    left, right, user, label = (np.array(column) for column in zip(*rows, strict=True))
    return left, right, user, label.astype(float)


def counted(left, right, user, label, min_raters=2):
    votes = Votes.of(left, right, user, label, 5)
    any_dissent, high = divergence(votes, min_raters, 0.1)
    return (any_dissent["value"], high["value"], any_dissent["n"]), votes


@given(ROWS, st.randoms())
@settings(max_examples=150, deadline=None)
def test_sides_rows_and_names_do_not_matter(rows, random):
    left, right, user, label = columns(rows)
    found, _ = counted(left, right, user, label)
    assert counted(right, left, user, 1 - label)[0] == found
    shuffled = list(rows)
    random.shuffle(shuffled)
    assert counted(*columns(shuffled))[0] == found
    assert counted(left, right, 7 - user, label)[0] == found
    assert counted(4 - left, 4 - right, user, label)[0] == found


@given(ROWS)
@settings(max_examples=150, deadline=None)
def test_high_dissent_is_dissent_and_more_raters_leave_fewer_pairs(rows):
    sizes = []
    for least in (2, 3, 5):
        (any_dissent, high, n), votes = counted(*columns(rows), min_raters=least)
        sizes.append(n)
        if any_dissent is not None:
            assert 0 <= high <= any_dissent <= 1
        assert (votes.minority() * 2 <= votes.raters).all()
    assert sizes == sorted(sizes, reverse=True)


@given(ROWS)
@settings(max_examples=150, deadline=None)
def test_the_own_vote_can_only_help(rows):
    _, votes = counted(*columns(rows))
    with_own, without = majority_agreement(votes, 2, 8)
    assert (with_own.n == without.n).all() and (with_own.right >= without.right).all()


@given(SHARE, SHARE)
def test_ceiling_rises_with_agreement_and_is_never_below_it(first, second):
    low, high = sorted((first, second))
    assert 0.5 <= ceiling(low) <= ceiling(high) <= 1.0
    assert ceiling(high) >= high or high < 0.5


@given(st.integers(0, 30), st.integers(0, 30), SHARE, SHARE, POSITIVE, POSITIVE)
def test_posterior_falls_with_every_vote_that_agrees(right, wrong, first, second, a, b):
    low, high = sorted((first, second))
    votes = Agreement(np.array([right, right + 1.0]), np.array([right + wrong, right + wrong + 1.0]))
    if right + wrong == 0:
        return
    at_low, at_high = below(votes, low, (a, b), doubt=0.0), below(votes, high, (a, b), doubt=0.0)
    assert (at_low <= at_high + 1e-12).all() and at_low[1] <= at_low[0] + 1e-12


@given(st.floats(0.01, 20), st.integers(1, 8), st.integers(1, 200), st.integers(1, 10**5), st.integers(1, 10**5))
def test_shares_are_shares_and_gains_do_not_exceed_full_knowledge(tau2, rank, answers, users, loadings):
    part = float(learned_share(tau2, rank, answers, users, loadings, 0.2))
    assert 0.0 <= part < 1.0
    assert part <= float(learned_share(tau2, rank, answers + 1, users, loadings, 0.2)) + 1e-12
    logits = np.linspace(-1.5, 1.5, 7)
    gain, changed = gain_from(logits, tau2, tau2 * part)
    assert -1e-12 <= gain <= gain_from(logits, tau2, tau2)[0] + 1e-6 and 0 <= changed <= 1
