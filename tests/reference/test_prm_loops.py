"""`prm` against plain Python loops: logits, both losses with their mix, the gradient of the full problem and one step."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import approx_fprime

from palate.models import make
from palate.models.prm import PRM
from palate.models.prm_fit import HeadProblem, Heads
from palate.models.prm_network import prm_loss
from palate.models.shared import pair_scale
from palate.models.training import Rows, TableEncoder, train, weights_of
from palate.types import Comparisons, Items

DIM, PEOPLE, K, KEYS = 3, 4, 2, 9
MODELS = [("uniform", True), ("individual", True), ("individual", False), ("cluster", True)]


def softmax(numbers):
    powers = [math.exp(number) for number in numbers]
    return [power / sum(powers) for power in powers]


def reward(w, kind, common, x, key, person):
    """What a person, or user 0 where `person` is None, gives an item, number by number."""
    heads = len(w["mixture"])
    scores = []
    for h in range(heads):
        total = w["items.weight"][key][h]
        for i in range(DIM):
            total += w["heads"][i][h] * x[i] / math.sqrt(DIM)
        scores.append(total)
    if kind == "cluster" and person is not None:
        mix = softmax([w["mixture"][h] + w["people.weight"][person][h] for h in range(heads)])
    else:
        mix = softmax(w["mixture"])
    out = sum(mix[h] * scores[h] for h in range(heads))
    if kind == "individual" and person is not None:
        out = (out if common else 0.0) + sum(w["people.weight"][person][i] * x[i] for i in range(DIM)) / math.sqrt(DIM)
    return out


def loss(w, kind, common, rows, x, offset, alpha, l2, item_l2, user_l2):
    total, observations = 0.0, 0.0
    for i in range(len(rows)):
        for share, person in ((alpha, rows.user[i]), (1 - alpha, None)):
            s = reward(w, kind, common, x[rows.left[i]], rows.left[i], person)
            s += offset[i] - reward(w, kind, common, x[rows.right[i]], rows.right[i], person)
            y = rows.label[i]
            total += share * rows.weight[i] * (y * math.log1p(math.exp(-s)) + (1 - y) * math.log1p(math.exp(s)))
        observations += rows.weight[i]
    for name, precision in (
        ("heads", l2),
        ("items.weight", item_l2),
        ("mixture", user_l2),
        ("people.weight", alpha * user_l2),
    ):
        for number in np.ravel(w.get(name, [])):
            total += 0.5 * precision * number * number
    return total / observations


@pytest.fixture
def rows():
    rng = np.random.default_rng(0)
    items = Items.of(rng.normal(size=(KEYS, DIM)), keys=np.arange(KEYS))
    left = np.concatenate([np.arange(KEYS), [0, 1, 2]])
    right = (left + rng.integers(1, KEYS, len(left))) % KEYS
    label = np.array([0, 1, 0.5, 1, 0.3, 0, 1, 1, 0, 0.5, 1, 0])
    weight = np.array([1, 2, 0.5, 1, 1, 0.7, 1, 3, 1, 1, 1, 1.0])
    return Comparisons.of(items, left, right, rng.integers(0, PEOPLE, 12), label, n_users=PEOPLE, weight=weight)


PRIORS = {"l2": 0.7, "item_l2": 1.3, "user_l2": 0.4, "mixture_l2": 0.4}


def settings(kind, common, **changes):
    base = {
        "user_model": kind,
        "common": common,
        "clusters": K,
        "alpha": 0.3,
        "optimizer": "sgd",
        "schedule": "constant",
    }
    return base | PRIORS | {"clip": 0.0, "steps": 1, "batch_size": 99, "learning_rate": 1.0} | changes


def jolted(network, seed=1):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.5 * torch.randn(parameter.shape, generator=generator))
        network.items.weight[-1] = 0.0
    return network


@pytest.mark.parametrize(("kind", "common"), MODELS)
def test_loss_and_one_gradient_step(rows, kind, common):
    method = make("prm", **settings(kind, common))
    network = jolted(method.module(DIM, PEOPLE, 0, KEYS))
    before = {name: array.astype(np.float64) for name, array in weights_of(network).items()}
    x = (rows.items.features / pair_scale(rows)).astype(np.float32)
    offset = np.linspace(-0.5, 0.5, len(rows))
    tensors = Rows.of(rows, offset)
    objective = prm_loss(network, TableEncoder(x), tensors, torch.arange(KEYS), 0.3)
    record = train(network, objective, len(rows), method.config, rng=np.random.default_rng(0))
    given = (kind, common, rows, x.astype(float), offset, 0.3, 0.7, 1.3, 0.4)
    assert record.losses[0] == pytest.approx(loss(before, *given), abs=1e-6)
    after = weights_of(network)
    for name, array in before.items():
        for index in np.ndindex(array.shape):
            if name == "items.weight" and index[0] == KEYS:
                continue
            value, sides = array[index], []
            for step in (1e-5, -1e-5):
                array[index] = value + step
                sides.append(loss(before, *given))
            array[index] = value
            assert after[name][index] == pytest.approx(value - (sides[0] - sides[1]) / 2e-5, abs=5e-6), (name, index)


@pytest.mark.parametrize(("kind", "common"), MODELS)
def test_full_problem_is_the_loops_loss_in_nats_with_its_gradient(rows, kind, common):
    method = make("prm", **settings(kind, common))
    network = jolted(method.module(DIM, PEOPLE, 0, KEYS)).double()
    weights = weights_of(network)
    x = rows.items.features / pair_scale(rows)
    offset = np.linspace(-0.5, 0.5, len(rows))
    problem = HeadProblem.of(
        rows,
        x / math.sqrt(DIM),
        np.arange(KEYS),
        KEYS,
        offset,
        user_model=kind,
        common=common,
        alpha=0.3,
        l2=0.7,
        item_l2=1.3,
        user_l2=0.4,
    )
    own = weights.get("people.weight", np.zeros(0))
    if kind == "individual":
        # Offsets live in the span of a person's rows; what lies outside of it no row can see.
        own = np.concatenate([np.ones(len(span.people) * span.v.shape[2]) * 0.3 for span in problem.spans])
        for span in problem.spans:
            mode = np.full(span.v.shape[::2], 0.3)
            from palate.models.prm_fit import feature_table

            table = feature_table(x / math.sqrt(DIM))
            weights["people.weight"][span.people] = span.weights(mode, rows, table)
    heads = Heads(weights["heads"], weights["items.weight"][:KEYS], weights["mixture"], own.ravel())
    value, slope = problem.objective(heads)
    given = (kind, common, rows, x, offset, 0.3, 0.7, 1.3, 0.4)
    assert np.bincount(rows.user, minlength=PEOPLE).min() >= 1
    if kind != "individual" or all(span.strength is None or (span.strength > 0).all() for span in problem.spans):
        assert value == pytest.approx(loss(weights, *given) * rows.weight.sum(), rel=1e-9)
    numeric = approx_fprime(heads.ravel(), lambda vector: problem.objective(heads.like(vector))[0], 1e-6)
    np.testing.assert_allclose(slope.ravel(), numeric, atol=5e-5)


@pytest.mark.parametrize(("kind", "common"), MODELS)
def test_rewards_are_the_loops(rows, kind, common):
    method = make("prm", **settings(kind, common, optimizer="adamw", steps=40, learning_rate=0.05)).fit(rows, rng=0)
    x = (rows.items.features / method.scale_).tolist()
    own = method.states_.arrays["own"]
    weights = {
        "heads": method.weight_,
        "items.weight": method.effects_,
        "mixture": method.mixture_,
        "people.weight": own,
    }
    found, stranger = method.reward(rows.items, method.states_), method.reward(rows.items, method.prior_)[0]
    for item in range(KEYS):
        assert stranger[item] == pytest.approx(reward(weights, kind, common, x[item], item, None), abs=1e-9)
        for person in range(PEOPLE):
            expected = reward(weights, kind, common, x[item], item, person)
            assert found[person, item] == pytest.approx(expected, abs=1e-9)


def test_paper_preset_is_the_papers():
    paper = PRM.Config.paper()
    assert (paper.user_model, paper.alpha, paper.clusters, paper.new_users) == ("individual", 0.5, 5, "generic")
    assert (paper.optimizer, paper.learning_rate, paper.batch_size, paper.epochs) == ("adamw", 5e-5, 32, 2)
    sizes = {"uniform": 0, "individual": 3 * 10, "cluster": 3 * 5}
    for kind, own in sizes.items():
        module = make("prm", **PRM.Config.paper(kind).model_dump()).module(10, 3, 0)
        heads = 5 if kind == "cluster" else 1
        # The mixture of user 0, and the row of an unknown item, which stays zero.
        assert sum(parameter.numel() for parameter in module.parameters()) == 10 * heads + own + heads + heads
