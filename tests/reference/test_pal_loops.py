"""`pal` against plain Python loops: both variants, both losses, one gradient step, and where a new person is placed."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from palate.models import make
from palate.models.pal import PAL
from palate.models.pal_network import pal_loss
from palate.models.training import Rows, TableEncoder, train, weights_of
from palate.types import Comparisons, Items

DIM, PROMPT, WIDTH, K, PEOPLE = 3, 2, 4, 2, 3


def linear(w, name, x):
    weight, bias = w[f"{name}.weight"], w.get(f"{name}.bias")
    total = [sum(weight[j][i] * x[i] for i in range(len(x))) for j in range(len(weight))]
    return total if bias is None else [a + b for a, b in zip(total, bias, strict=True)]


def gelu(x):
    return 0.5 * x * (1.0 + math.erf(x / math.sqrt(2.0)))


def project(w, name, x, *, relu, skip):
    hidden = [max(0.0, number) if relu else gelu(number) for number in linear(w, f"{name}.inner", x)]
    out = linear(w, f"{name}.outer", hidden)
    if not skip:
        return out
    beside = linear(w, f"{name}.skip", x) if f"{name}.skip.weight" in w else x
    return [a + b for a, b in zip(out, beside, strict=True)]


def mixed(logits, points):
    powers = [math.exp(number) for number in logits]
    return [
        sum(p * point[i] for p, point in zip(powers, points, strict=True)) / sum(powers) for i in range(len(points[0]))
    ]


def reward(w, variant, x, prompt, own):
    a = variant == "a"
    point = project(w, "project", x, relu=a, skip=a)
    if a:
        ideal = project(w, "project", mixed(own, w["prototypes.weight"]), relu=True, skip=True)
        return -math.sqrt(sum((p - q) ** 2 for p, q in zip(point, ideal, strict=True)))
    ideal = mixed(own, [project(w, f"of_prompt.{k}", prompt, relu=False, skip=False) for k in range(K)])
    dot = sum(p * q for p, q in zip(point, ideal, strict=True))
    lengths = math.sqrt(sum(p * p for p in point)) * math.sqrt(sum(q * q for q in ideal))
    return min(100.0, math.exp(w["log_sharpness"])) * dot / lengths


def row_loss(kind, s, y):
    if kind == "hinge":
        return y * max(0.0, 1 - s) + (1 - y) * max(0.0, 1 + s)
    return y * math.log1p(math.exp(-s)) + (1 - y) * math.log1p(math.exp(s))


def loss(w, variant, kind, rows, x, prompts, offset, user_l2):
    total = 0.5 * user_l2 * sum(number * number for number in np.ravel(w["people.weight"]))
    of = rows.items.prompt
    for i in range(len(rows)):
        own, left, right = w["people.weight"][rows.user[i]], rows.left[i], rows.right[i]
        s = reward(w, variant, x[left], prompts[of[left]], own) - reward(w, variant, x[right], prompts[of[right]], own)
        total += rows.weight[i] * row_loss(kind, s + offset[i], rows.label[i])
    return total / sum(rows.weight)


@pytest.fixture
def rows():
    rng = np.random.default_rng(0)
    items = Items.of(rng.normal(size=(9, DIM)), prompt=np.arange(9) // 3, prompt_features=rng.normal(size=(3, PROMPT)))
    left = rng.integers(0, 9, 12)
    right = (left + rng.integers(1, 9, 12)) % 9
    label = np.array([0, 1, 0.5, 1, 0.3, 0, 1, 1, 0, 0.5, 1, 0])
    weight = np.array([1, 2, 0.5, 1, 1, 0.7, 1, 3, 1, 1, 1, 1.0])
    return Comparisons.of(items, left, right, np.arange(12) % PEOPLE, label, weight=weight)


def settings(**changes):
    base = {"prototypes": K, "width": WIDTH, "optimizer": "sgd", "schedule": "constant", "warmup": 0.0, "user_l2": 0.2}
    return base | {"weight_decay": 0.0, "clip": 0.0, "steps": 1, "batch_size": 99, "learning_rate": 1.0} | changes


CASES = [("a", "hinge", WIDTH), ("a", "logistic", DIM), ("b", "logistic", WIDTH), ("b", "hinge", WIDTH)]


@pytest.mark.parametrize(("variant", "kind", "width"), CASES)
def test_loss_and_one_gradient_step(rows, variant, kind, width):
    """Width equal to DIM: the skip is the input itself."""
    method = make("pal", **settings(variant=variant, loss=kind, width=width))
    network = method.module(DIM, PEOPLE, 0, PROMPT)
    before = {name: array.astype(np.float64) for name, array in weights_of(network).items()}
    offset = np.linspace(-0.5, 0.5, len(rows))
    items = rows.items
    prompts, prompt_of = (
        torch.from_numpy(items.prompt_features).float(),
        torch.from_numpy(items.prompt.astype(np.int64)),
    )
    objective = pal_loss(network, TableEncoder(items.features), prompts, prompt_of, Rows.of(rows, offset), kind, 0.2)
    record = train(network, objective, len(rows), method.config, rng=np.random.default_rng(0))
    given = (variant, kind, rows, items.features.astype(float), prompts.double().numpy(), offset, 0.2)
    assert record.losses[0] == pytest.approx(loss(before, *given), abs=2e-6)
    after = weights_of(network)
    for name, array in before.items():
        for index in np.ndindex(array.shape):
            value, sides = array[index], []
            for step in (1e-6, -1e-6):
                array[index] = value + step
                sides.append(loss(before, *given))
            array[index] = value
            assert after[name][index] == pytest.approx(value - (sides[0] - sides[1]) / 2e-6, abs=2e-5), (name, index)


@pytest.mark.parametrize("variant", ["a", "b"])
def test_rewards_and_places_of_new_people_are_the_loops(rows, variant):
    method = make("pal", **settings(variant=variant, steps=30, learning_rate=0.1, adapt_steps=100)).fit(rows, rng=0)
    x = (rows.items.features - method.mean_) / method.scale_
    prompts = rows.items.prompt_features
    if variant == "b":
        prompts = (prompts - method.prompt_mean_) / method.prompt_scale_
    of = rows.items.prompt
    states = method.adapt(rows)
    found = method.reward(rows.items, states)
    for person in range(PEOPLE):
        mixture = states.arrays["mixture"][person]
        for item in range(len(x)):
            expected = reward(method.weights_, variant, x[item], prompts[of[item]], mixture)
            assert found[person, item] == pytest.approx(expected, abs=1e-5)
        own = rows.for_users(np.array([person]))

        def objective(e, own=own):
            deviation = e - method.prior_mean_
            total = 0.5 * deviation @ method.prior_precision_ @ deviation
            for i in range(len(own)):
                sides = (reward(method.weights_, variant, x[j], prompts[of[j]], e) for j in (own.left[i], own.right[i]))
                total += own.weight[i] * row_loss("logistic", next(sides) - next(sides), own.label[i])
            return total

        best = minimize(objective, method.prior_mean_, tol=1e-10)
        assert objective(mixture) <= best.fun + 1e-5


def test_prototypes_and_people_learn_at_their_own_rates(rows):
    """One step of plain SGD moves them by `people_rate` times as much, and s by `sharpness_rate`."""
    moved = []
    for rate in (1.0, 7.0):
        method = make("pal", **settings(variant="b", people_rate=rate, sharpness_rate=3 * rate, learning_rate=1e-3))
        network = method.module(DIM, PEOPLE, 0, PROMPT)
        before = weights_of(network)
        prompts = torch.from_numpy(rows.items.prompt_features).float()
        prompt_of = torch.from_numpy(rows.items.prompt.astype(np.int64))
        given = (
            TableEncoder(rows.items.features),
            prompts,
            prompt_of,
            Rows.of(rows, np.zeros(len(rows))),
            "logistic",
            0.0,
        )
        train(network, pal_loss(network, *given), len(rows), method.config, rng=np.random.default_rng(0))
        after = weights_of(network)
        moved.append({name: after[name] - before[name] for name in after})
    for name, factor in (("people.weight", 7.0), ("log_sharpness", 7.0), ("project.inner.weight", 1.0)):
        np.testing.assert_allclose(moved[1][name], factor * moved[0][name], rtol=2e-2, atol=1e-6)
        assert np.abs(moved[0][name]).max() > 0


def test_paper_preset_is_the_programs():
    a, b = PAL.Config.paper("a"), PAL.Config.paper("b")
    assert (a.prototypes, a.width, a.loss, b.loss) == (2, 512, "hinge", "logistic")
    assert (a.optimizer, a.learning_rate, a.weight_decay, a.batch_size, a.epochs) == ("adam", 1e-4, 0.01, 4, 1)
    assert a.learning_rate * a.people_rate == pytest.approx(5e-3)
    assert b.learning_rate * b.sharpness_rate == pytest.approx(1e-1)
    assert b.sharpness == pytest.approx(1 / 0.07)
    square, people = 512 * 512 + 512, 3 * 2
    # OPT-350M's vectors have 512 numbers, so the skip is the input itself.
    module = make("pal", **a.model_dump()).module(512, 3, 0)
    assert sum(parameter.numel() for parameter in module.parameters()) == 2 * square + 2 * 512 + people
    module = make("pal", **b.model_dump()).module(512, 3, 0, 512)
    assert sum(parameter.numel() for parameter in module.parameters()) == 3 * 2 * square + 1 + people
