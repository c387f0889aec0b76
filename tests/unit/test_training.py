"""The training loop: determinism, weights, schedule, early stopping, and what it refuses."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from palate.errors import ConfigError, InputError
from palate.models.training import (
    Rows,
    Scaling,
    TableEncoder,
    TrainingConfig,
    build,
    load_weights,
    preference_loss,
    schedule_factor,
    train,
    weights_of,
)
from palate.testing import mirror_town
from palate.types import Comparisons, Items


class Line(nn.Module):
    """A pooled linear reward, the simplest preference module."""

    def __init__(self, dim, dropout=0.0):
        super().__init__()
        self.weight = nn.Linear(dim, 1, bias=False)
        self.dropout = nn.Dropout(dropout)

    def logits(self, left, right, user):
        return self.weight(self.dropout(left - right)).squeeze(-1)

    def penalty(self):
        return 0.5 * self.weight.weight.square().sum()


def config(**changes):
    base = {"optimizer": "sgd", "schedule": "constant", "learning_rate": 0.5, "clip": 0.0, "batch_size": 64}
    return TrainingConfig(**(base | changes))


def fitted(comparisons, settings, *, seed=0, dropout=0.0):
    rng = np.random.default_rng(seed)
    module = build(lambda: Line(comparisons.items.dim, dropout), rng)
    rows = Rows.of(comparisons, np.zeros(len(comparisons)))
    loss = preference_loss(module, TableEncoder(comparisons.items.features), rows)
    return module, train(module, loss, len(rows), settings, rng=rng)


@pytest.fixture(scope="module")
def rows():
    return mirror_town(n_users=20, n_new=2).train


def test_same_seed_same_weights_and_no_global_draws(rows):
    before = torch.get_rng_state()
    one, _ = fitted(rows, config(epochs=3), dropout=0.3)
    torch.rand(5)
    other, _ = fitted(rows, config(epochs=3), dropout=0.3)
    different, _ = fitted(rows, config(epochs=3), dropout=0.3, seed=1)
    assert torch.equal(one.weight.weight, other.weight.weight)
    assert not torch.equal(one.weight.weight, different.weight.weight)
    torch.set_rng_state(before)
    fitted(rows, config(epochs=1), dropout=0.3)
    assert torch.equal(torch.get_rng_state(), before)


def test_full_batches_reach_the_optimum_of_the_penalised_likelihood(rows):
    from palate.models.likelihood import fit_weights

    module, record = fitted(rows, config(steps=400, batch_size=10_000))
    difference = (rows.items.features[rows.left] - rows.items.features[rows.right]).astype(float)
    best = fit_weights(difference, rows.label, rows.weight, l2=1.0, tolerance=1e-10)
    assert module.weight.weight.detach().numpy()[0] == pytest.approx(best, abs=1e-4)
    assert record.steps == 400 and record.losses[-1] < record.losses[0]


def test_weight_two_is_two_rows_and_weight_zero_is_none(rows):
    rng = np.random.default_rng(0)
    weight = rng.integers(0, 3, len(rows)).astype(float)
    heavy = Comparisons.of(rows.items, rows.left, rows.right, rows.user, rows.label, weight=weight)
    twice = rows.take(np.repeat(np.arange(len(rows)), weight.astype(int)))
    full = config(steps=20, batch_size=10_000)
    one, other = (fitted(given, full)[0].weight.weight.detach().numpy() for given in (heavy, twice))
    assert one == pytest.approx(other, abs=1e-6)


def test_gradient_norm_is_clipped(rows):
    start = build(lambda: Line(rows.items.dim), np.random.default_rng(0)).weight.weight.detach().clone()
    steep = Comparisons.of(Items.of(100 * rows.items.features), rows.left, rows.right, rows.user, rows.label)
    module, _ = fitted(steep, config(steps=1, batch_size=10_000, learning_rate=1.0, clip=0.25))
    assert float((module.weight.weight.detach() - start).norm()) == pytest.approx(0.25, rel=1e-4)


def test_schedule():
    warm = config(schedule="cosine", warmup=0.1)
    factors = [schedule_factor(step, 100, warm) for step in range(100)]
    assert factors[0] == pytest.approx(0.1) and factors[9] == pytest.approx(1.0)
    assert factors[55] == pytest.approx(0.5) and factors[-1] < 0.001
    assert np.all(np.diff(factors[10:]) < 0)
    assert [schedule_factor(step, 5, config()) for step in range(5)] == [1.0] * 5


def test_decay_falls_on_matrices_only():
    class Parts(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear, self.norm, self.people = nn.Linear(2, 2), nn.LayerNorm(2), nn.Embedding(3, 2)

    module = Parts()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.fill_(1.0)

    def loss(units, generator):
        return 0.0 * sum(parameter.sum() for parameter in module.parameters())

    settings = config(optimizer="adamw", learning_rate=0.1, weight_decay=0.5, steps=1)
    train(module, loss, 4, settings, rng=np.random.default_rng(0))
    values = {name: float(array.flat[0]) for name, array in weights_of(module).items()}
    assert values.pop("linear.weight") == pytest.approx(0.95)
    assert set(values.values()) == {1.0}


def test_early_stopping_keeps_the_best_weights(rows):
    """Labels of pure noise: what is learned only hurts on the units set aside."""
    rng = np.random.default_rng(0)
    items = Items.of(rng.normal(size=(80, 60)))
    left = rng.integers(0, 80, 120)
    noise = Comparisons.of(items, left, (left + 7) % 80, np.zeros(120), rng.integers(0, 2, 120))
    settings = config(epochs=200, heldout=0.3, patience=4, learning_rate=2.0, batch_size=16)
    module, record = fitted(noise, settings)
    best = int(np.argmin(record.heldout_losses))
    assert len(record.heldout_losses) == best + 1 + 4 < 200
    rows = Rows.of(noise, np.zeros(120))
    assert not module.training and len(rows) == 120
    again, _ = fitted(noise, settings.replace(epochs=best + 1, patience=100))
    assert again.weight.weight.detach().numpy() == pytest.approx(module.weight.weight.detach().numpy())


def test_steps_count_whatever_the_data_and_progress_is_told(rows):
    seen = []
    rng = np.random.default_rng(0)
    module = build(lambda: Line(rows.items.dim), rng)
    tensors = Rows.of(rows, np.zeros(len(rows)))
    loss = preference_loss(module, TableEncoder(rows.items.features), tensors)
    record = train(
        module, loss, len(tensors), config(steps=37), rng=rng, progress=lambda *c: seen.append(c), what="line"
    )
    assert record.steps == 37 and seen[-1] == (37, 37, "line")
    per_epoch = math.ceil(len(tensors) / 64)
    assert train(module, loss, len(tensors), config(epochs=2), rng=rng).steps == 2 * per_epoch


def test_divergence_is_one_clear_error(rows):
    far = Comparisons.of(Items.of(1e20 * rows.items.features), rows.left, rows.right, rows.user, rows.label)
    with pytest.raises(InputError, match="lower learning_rate"):
        fitted(far, config(steps=5, learning_rate=1e19))


def test_scaling_leaves_constant_features_alone():
    features = np.array([[1.0, 5.0], [3.0, 5.0], [99.0, 7.0]])
    used = Comparisons.of(Items.of(features), np.array([0]), np.array([1]), np.array([0]), np.array([1.0]))
    scaling = Scaling.of(used)
    assert scaling.mean.tolist() == [2.0, 5.0] and scaling.scale.tolist() == [1.0, 1.0]
    assert scaling(used.items).dtype == np.float32


def test_weights_round_trip_is_a_copy():
    module = Line(3)
    weights = weights_of(module)
    other = load_weights(Line(3), weights)
    weights["weight.weight"][:] = 0
    assert torch.equal(other.weight.weight, module.weight.weight) and other.weight.weight.any()


def test_frozen_features_take_no_prefix():
    with pytest.raises(InputError, match="prefix"):
        TableEncoder(np.zeros((2, 2))).encode(torch.tensor([0]), prefix=torch.zeros(1))
    with pytest.raises(ConfigError, match="batch_size"):
        TrainingConfig(batch_size=0)
