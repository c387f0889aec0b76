"""The formula behind the power curve against simulation, and each verdict."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit

from palate.evaluate.audit_decision import (
    DETECT,
    WORTH,
    Design,
    decide,
    gain_from,
    learned_share,
    power_curve,
    reference_variance,
)
from palate.statistics import Estimate

LOGITS = np.linspace(-2, 2, 101)


def test_gain_from_is_what_a_simulation_gives():
    rng = np.random.default_rng(0)
    tau2, known, m = 2.0, 1.2, 400_000
    mu = rng.choice(LOGITS, m)
    delta = rng.normal(0, np.sqrt(known), m)
    chance = expit(mu + delta + rng.normal(0, np.sqrt(tau2 - known), m))
    personal = np.where(mu + delta > 0, chance, 1 - chance).mean()
    pooled = np.where(mu >= 0, chance, 1 - chance).mean()
    gain, changed = gain_from(LOGITS, tau2, known)
    assert gain == pytest.approx(personal - pooled, abs=0.004)
    assert changed == pytest.approx((np.sign(mu + delta) != np.where(mu >= 0, 1, -1)).mean(), abs=0.004)


def test_nothing_known_gains_nothing():
    assert gain_from(LOGITS, 2.0, 0.0) == (0.0, 0.0)


def test_learned_share_solves_state_evolution():
    tau2, rank, k, users, loadings, information = 1.5, 2, 40.0, 800, 300, 0.2
    a = (k - 1) * information * tau2 / rank
    b = users * k / loadings * information * tau2 / rank
    person, item = 1.0, 1.0
    for _ in range(10_000):  # each side learned from the other
        person, item = a * item / (1 + a * item), b * person / (1 + b * person)
    assert float(learned_share(tau2, rank, k, users, loadings, information)) == pytest.approx(person * item, abs=1e-6)


def test_below_the_threshold_nothing_is_learned():
    assert float(learned_share(1.0, 2, 1.0, 100_000, 10, 0.25)) == 0.0  # one answer each teaches nothing
    assert float(learned_share(1.0, 2, 5.0, 20, 5000, 0.25)) == 0.0


def test_more_people_or_answers_never_gain_less():
    points = power_curve(LOGITS, 1.0, 500)
    table = {(point["users"], point["answers"]): point["expected_gain"] for point in points}
    users, answers = sorted({u for u, _ in table}), sorted({k for _, k in table})
    grid = np.array([[table[u, k] for k in answers] for u in users])
    assert (np.diff(grid, axis=0) >= -1e-12).all() and (np.diff(grid, axis=1) >= -1e-12).all()
    assert grid[0, 0] == 0.0 < DETECT < grid[-1, -1] < WORTH * 3


def test_reference_is_worth_what_it_says():
    assert gain_from(LOGITS, reference_variance(LOGITS), np.inf)[0] == pytest.approx(WORTH, abs=1e-3)
    # where everybody agrees strongly, tastes must be stronger to be worth it
    assert reference_variance(4 * LOGITS) > reference_variance(LOGITS)


def large(tau2: float | None = None) -> Design:
    return Design(LOGITS, np.full(1000, 60.0), 300, tau2)


def small() -> Design:
    return Design(LOGITS, np.full(30, 5.0), 300)


def verdict(gain: Estimate | None, design: Design, most: float | None = None, obstacle: str | None = None):
    return decide(gain, most, design, worthwhile=0.01, obstacle=obstacle)


def test_a_sure_gain_says_personalize():
    found = verdict(Estimate(0.05, 0.03, 0.07, 1000), large(1.5))
    assert found.verdict == "personalize" and found.expected_gain.value == 0.05 and found.need is None
    assert "+0.050 accuracy [+0.030, +0.070]" in found.reason
    assert "as strong as the probe found" in found.assumes


def test_no_gain_in_data_that_would_show_it_says_dont():
    found = verdict(Estimate(0.001, -0.002, 0.004, 1000), large())
    assert found.verdict == "don't" and found.power > 0.99 and found.need is None


def test_no_gain_in_data_that_would_not_show_it_says_collect_and_how_much():
    found = verdict(Estimate(0.001, -0.002, 0.004, 30), small())
    assert found.verdict == "collect" and found.power < 0.1
    enough = Design(LOGITS, np.full(found.need["users"], float(found.need["answers"])), 300)
    assert verdict(Estimate(0.001, -0.002, 0.004, 1000), enough).verdict == "don't"
    assert f"ask about {found.need['users']:,} people" in found.reason


@pytest.mark.parametrize(
    "gain,because",
    [
        (Estimate(0.05, -0.01, 0.11, 60), "the interval includes no gain"),
        (Estimate(0.05, 0.03, 0.07, 10), "from only 10 people"),
        (None, "everybody answered once"),
    ],
)
def test_unsure_gains_say_collect(gain, because):
    found = verdict(gain, small(), obstacle="everybody answered once")
    assert found.verdict == "collect" and because in found.reason


def test_a_sure_but_small_gain_asks_for_more_where_more_would_help():
    growing = verdict(Estimate(0.006, 0.003, 0.009, 1000), large(1.0))
    assert growing.verdict == "collect" and "tastes are there" in growing.reason
    assert growing.need["users"] * growing.need["answers"] > 0
    assert verdict(Estimate(0.006, 0.003, 0.009, 1000), large(0.05)).verdict == "don't"  # even full knowledge is little
    assert verdict(Estimate(0.006, -0.003, 0.009, 1000), large(1.0)).verdict == "don't"  # not sure at all


def test_nothing_left_to_gain_says_dont_even_in_small_data():
    found = verdict(None, small(), most=0.004, obstacle="everybody answered once")
    assert found.verdict == "don't" and "at most 0.004" in found.reason


def test_need_is_the_cheapest_design_that_shows_a_gain():
    found = verdict(None, small())
    cost = found.need["users"] * found.need["answers"]
    for point in found.curve:
        if point["users"] * point["answers"] < cost:
            assert point["expected_gain"] < DETECT or point["power"] < 0.8


def test_hopelessly_many_items_say_so():
    found = verdict(None, Design(LOGITS, np.ones(1000), 10**9))
    assert found.need is None and "ask about fewer items" in found.reason


def test_rows_that_exist_are_looked_at_before_anybody_is_asked():
    found = verdict(None, Design(LOGITS, np.full(30, 5.0), 300, unseen=4000))
    assert "look at the other 4,000 rows" in found.reason and "ask about" not in found.reason


def test_to_dict_has_the_curve():
    found = verdict(None, small()).to_dict()
    assert set(found["power_curve"][0]) == {"users", "answers", "expected_gain", "power"}
    assert found["expected_gain"] is None
