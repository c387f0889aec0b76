"""Repeats and circles by hand, the ceiling by simulation."""

from __future__ import annotations

import numpy as np
import pytest

from palate.evaluate.audit_consistency import Answers, ceiling, consistency, repeats, triads


def answers(rows: list[tuple], time: list[float] | None = None) -> Answers:
    """Rows (user, left, right, label)."""
    user, left, right, label = (np.array(column) for column in zip(*rows, strict=True))
    return Answers.of(left, right, user, label.astype(float), None if time is None else np.array(time, float))


def test_repeats_by_hand():
    rows = [(0, 1, 2, 1), (0, 2, 1, 0), (0, 1, 2, 0), (1, 1, 2, 1), (2, 3, 4, 0.5), (2, 3, 4, 1)]
    user, agrees, counts = repeats(answers(rows))
    # person 0: 1 over 2, again (sides exchanged), then 2 over 1; person 1 once; person 2's tie does not count
    assert user.tolist() == [0, 0] and agrees.tolist() == [1.0, 0.0]
    assert counts == {"repeats": 2, "other_order": 2, "same_order": 0}


def test_repeats_follow_time_not_file_order():
    rows = [(0, 1, 2, 1), (0, 1, 2, 0), (0, 1, 2, 1)]
    assert repeats(answers(rows, [1, 2, 3]))[1].tolist() == [0.0, 0.0]
    assert repeats(answers(rows, [1, 3, 2]))[1].tolist() == [1.0, 0.0]


def test_triads_by_hand():
    circle = [(0, 1, 2, 1), (0, 2, 3, 1), (0, 3, 1, 1)]  # 1 > 2 > 3 > 1
    line = [(1, 1, 2, 1), (1, 3, 2, 0), (1, 1, 3, 1)]  # 1 > 2 > 3, 1 > 3
    open_end = [(2, 1, 2, 1), (2, 2, 3, 1)]
    user, circular, counts = triads(answers(circle + line + open_end), rng=np.random.default_rng(0))
    assert user.tolist() == [0, 1] and circular.tolist() == [1.0, 0.0]
    assert counts == {"triads": 2, "circular": 1}


@pytest.mark.parametrize("agreement,expected", [(1.0, 1.0), (0.5, 0.5), (0.82, 0.9), (0.3, 0.5)])
def test_ceiling_by_hand(agreement, expected):
    assert ceiling(agreement) == pytest.approx(expected)  # .9² + .1² = .82


def test_ceiling_is_reached_with_even_noise_and_an_upper_bound_with_uneven_noise():
    rng = np.random.default_rng(0)
    for q in (np.full(200_000, 0.8), rng.uniform(0.5, 1.0, 200_000), rng.choice([0.5, 1.0], 200_000)):
        agreement = ((rng.random(len(q)) < q) == (rng.random(len(q)) < q)).mean()
        best = np.maximum(q, 1 - q).mean()
        assert agreement - 0.005 <= best <= ceiling(agreement) + 0.005
        if q.std() == 0:
            assert best == pytest.approx(ceiling(agreement), abs=0.005)
        if set(np.unique(q)) == {0.5, 1.0}:
            assert best == pytest.approx(agreement, abs=0.005)


def erring(error: float, n_users: int, n_items: int, rng: np.random.Generator, times: int) -> Answers:
    """People with one fixed order of items who flip answers; all pairs, each `times` times."""
    low, high = np.triu_indices(n_items, 1)
    low, high = np.tile(low, times), np.tile(high, times)
    rows = n_users * len(low)
    label = (rng.random(rows) >= error).astype(float)
    user = np.repeat(np.arange(n_users), len(low))
    return Answers.of(np.tile(low, n_users), np.tile(high, n_users), user, label)


@pytest.mark.parametrize("error", [0.0, 0.1, 0.3])
def test_circles_and_repeats_tell_the_same_noise(error):
    rng = np.random.default_rng(1)
    by_repeats = consistency(erring(error, 60, 8, rng, times=2), rng=rng)
    by_circles = consistency(erring(error, 60, 8, rng, times=1), rng=rng)
    if error:  # without errors, two equal rows look like copies
        assert by_repeats.method.startswith("the same pair")
        assert by_repeats.agreement.low <= error**2 + (1 - error) ** 2 <= by_repeats.agreement.high
        assert by_repeats.ceiling()["low"] <= 1 - error <= by_repeats.ceiling()["high"]
    assert by_circles.method.startswith("circles")
    assert by_circles.agreement.value == pytest.approx(error**2 + (1 - error) ** 2, abs=0.03)


def test_copies_are_not_consistency():
    rows = [(person, 0, 1, 1) for person in range(40) for _ in range(2)]
    found = consistency(answers(rows), rng=np.random.default_rng(0))
    assert found.agreement is None and "look like copies" in found.reason
    assert found.to_dict()["value"] is None and found.to_dict()["ceiling"] is None


def test_equal_rows_at_different_times_are_consistency():
    rows = [(person, 0, 1, 1) for person in range(40) for _ in range(2)]
    found = consistency(answers(rows, list(range(80))), rng=np.random.default_rng(0))
    assert found.agreement.value == 1.0


def test_nothing_repeated_is_null_with_the_reason():
    found = consistency(answers([(0, 0, 1, 1), (1, 0, 1, 0)]), rng=np.random.default_rng(0))
    assert found.to_dict()["reason"].startswith("0 repeated pairs (at least 30 are needed); 0 triads")


def test_very_many_triads_are_sampled_by_person(monkeypatch):
    monkeypatch.setattr("palate.evaluate.audit_consistency._MOST_WEDGES", 200)
    user, _, _ = triads(erring(0.1, 50, 8, np.random.default_rng(0), 1), rng=np.random.default_rng(0))
    assert 0 < len(np.unique(user)) < 50
    # whoever is kept is kept whole: 8 choose 3 triads each
    assert set(np.bincount(user)[np.unique(user)]) == {56}
