"""`factor` against plain Python loops: forward, loss, gradient step, in both of its forms; the SVD start on a tiny matrix."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from palate.models.factor import Factor
from palate.models.factor_fit import FactorProblem, Factors, svd_start
from palate.models.factor_network import FactorNetwork, factor_loss
from palate.models.training import Rows, TableEncoder
from palate.types import Comparisons, Items

DIM, RANK, PEOPLE, KEYS = 3, 2, 3, 4
L2, ITEM_L2 = 0.7, 1.9


def setting():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(6, DIM))
    known = np.array([0, 2, -1, 1, 3, -1])
    rows = Comparisons.of(
        Items.of(features, keys=known),
        [0, 1, 2, 3, 4, 5, 0],
        [1, 2, 3, 4, 5, 0, 4],
        [0, 0, 1, 1, 2, 2, 0],
        [1.0, 0.0, 0.5, 0.9, 1.0, 0.0, 0.3],
        weight=[1.0, 2.0, 1.0, 0.5, 1.0, 3.0, 1.0],
    )
    factors = Factors(rng.normal(size=(DIM, RANK)), rng.normal(size=(KEYS, RANK)), rng.normal(size=(PEOPLE, RANK)))
    return rows, known, factors, rng.normal(size=7)


def loop_phi(features, known, factors, item):
    phi = []
    for k in range(RANK):
        total = 0.0
        for i in range(DIM):
            total += features[item][i] * factors.weight[i][k] / math.sqrt(DIM)
        if known[item] >= 0:
            total += factors.embeddings[known[item]][k]
        phi.append(total)
    return phi


def loop_logits(rows, known, factors, offset):
    logits = []
    for row in range(len(rows)):
        left = loop_phi(rows.items.features, known, factors, rows.left[row])
        right = loop_phi(rows.items.features, known, factors, rows.right[row])
        person = factors.people[rows.user[row]]
        logits.append(offset[row] + sum(person[k] * (left[k] - right[k]) for k in range(RANK)))
    return logits


def loop_objective(rows, known, factors, offset):
    total = 0.0
    for row, eta in enumerate(loop_logits(rows, known, factors, offset)):
        y = rows.label[row]
        total -= rows.weight[row] * (
            y * math.log(1 / (1 + math.exp(-eta))) + (1 - y) * math.log(1 / (1 + math.exp(eta)))
        )
    for table, l2 in ((factors.people, L2), (factors.weight, ITEM_L2), (factors.embeddings, ITEM_L2)):
        for vector in table:
            for number in vector:
                total += 0.5 * l2 * number * number
    return total


def loop_gradient(rows, known, factors, offset):
    """Derivatives of `loop_objective` written out by the product rule."""
    weight, embeddings, people = ITEM_L2 * factors.weight, ITEM_L2 * factors.embeddings, L2 * factors.people
    for row, eta in enumerate(loop_logits(rows, known, factors, offset)):
        error = rows.weight[row] * (1 / (1 + math.exp(-eta)) - rows.label[row])
        u = rows.user[row]
        for item, sign in ((rows.left[row], 1.0), (rows.right[row], -1.0)):
            phi = loop_phi(rows.items.features, known, factors, item)
            for k in range(RANK):
                people[u][k] += error * sign * phi[k]
                for i in range(DIM):
                    weight[i][k] += error * sign * factors.people[u][k] * rows.items.features[item][i] / math.sqrt(DIM)
                if known[item] >= 0:
                    embeddings[known[item]][k] += error * sign * factors.people[u][k]
    return Factors(weight, embeddings, people)


def problem(rows, known, offset):
    x = rows.items.features / math.sqrt(DIM)
    return FactorProblem.of(rows, x, known, KEYS, offset, l2=L2, item_l2=ITEM_L2)


def network_of(factors):
    network = FactorNetwork(DIM, PEOPLE, RANK, n_keys=KEYS, l2=L2, item_l2=ITEM_L2).double()
    with torch.no_grad():
        network.weight.copy_(torch.from_numpy(factors.weight))
        network.items.weight[:-1] = torch.from_numpy(factors.embeddings)
        network.people.weight.copy_(torch.from_numpy(factors.people))
    return network


def test_objective_and_gradient_of_the_arrays():
    rows, known, factors, offset = setting()
    value, slope = problem(rows, known, offset).objective(factors)
    assert value == pytest.approx(loop_objective(rows, known, factors, offset), abs=1e-6)
    np.testing.assert_allclose(slope.ravel(), loop_gradient(rows, known, factors, offset).ravel(), atol=1e-6)


def test_loss_and_one_gradient_step_of_the_network():
    rows, known, factors, offset = setting()
    network = network_of(factors)
    tensors = Rows.of(rows, offset)
    place = torch.from_numpy(np.where(known >= 0, known, KEYS))
    encoder = TableEncoder(rows.items.features).double()
    loss = factor_loss(network, encoder, tensors, place, "users", 0.0)
    total = rows.weight.sum()
    value = loss(torch.arange(len(rows)), torch.Generator())
    # The network's loss is per observation; weights are scaled to a mean of 1, and the mean is over rows.
    assert value.item() == pytest.approx(loop_objective(rows, known, factors, offset) / total, abs=1e-6)
    value.backward()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter -= 0.1 * parameter.grad
    slope = loop_gradient(rows, known, factors, offset)
    np.testing.assert_allclose(network.weight.detach(), factors.weight - 0.1 * slope.weight / total, atol=1e-6)
    np.testing.assert_allclose(network.people.weight.detach(), factors.people - 0.1 * slope.people / total, atol=1e-6)
    moved = network.items.weight.detach().numpy()
    np.testing.assert_allclose(moved[:-1], factors.embeddings - 0.1 * slope.embeddings / total, atol=1e-6)
    np.testing.assert_array_equal(moved[-1], 0.0)


def test_penalties_of_the_program():
    rows, known, factors, offset = setting()
    network, tensors = network_of(factors), Rows.of(rows, offset)
    place = torch.from_numpy(np.where(known >= 0, known, KEYS))
    encoder = TableEncoder(rows.items.features).double()

    def added(penalty):
        values = [
            factor_loss(network, encoder, tensors, place, kind, 0.02)(torch.arange(7), torch.Generator()).item()
            for kind in (penalty, "users")
        ]
        return (values[0] - values[1]) / 0.02

    v = []
    for row in range(7):
        left = loop_phi(rows.items.features, known, factors, rows.left[row])
        right = loop_phi(rows.items.features, known, factors, rows.right[row])
        v.append([left[k] - right[k] for k in range(RANK)])
    norm = sum(math.sqrt(sum(x * x for x in row)) for row in v) / 7
    people = sum(math.sqrt(sum(x * x for x in factors.people[u])) for u in rows.user) / 7
    gram = [[sum(row[i] * row[j] for row in v) / 7 for j in range(RANK)] for i in range(RANK)]
    off = gram[0][1] ** 2 + gram[1][0] ** 2
    expected = {
        "features": norm,
        "both": norm + people,
        "l1": sum(abs(x) for row in v for x in row) / 7,
        "diag": off,
        "diag_full": off + (gram[0][0] - 1) ** 2 + (gram[1][1] - 1) ** 2,
    }
    for penalty, value in expected.items():
        assert added(penalty) == pytest.approx(value, abs=1e-5), penalty


def test_prefer_is_the_loop_at_a_certain_person():
    rows, known, factors, _ = setting()
    method = Factor(rank=RANK, identity=True, steps=1).fit(rows, rng=0)
    method.weight_, method.embeddings_ = factors.weight * method.scale_[:, None], factors.embeddings
    states = method.states_
    states.arrays["mean"][:], states.arrays["covariance"][:] = factors.people, 0.0
    left, right = rows.items.take(rows.left), rows.items.take(rows.right)
    expected = [1 / (1 + math.exp(-eta)) for eta in loop_logits(rows, known, factors, np.zeros(7))]
    np.testing.assert_allclose(method.prefer(left, right, states, rows.user), expected, atol=1e-6)


def test_svd_start_of_a_small_matrix_step_by_step():
    """Two pairs × three people with one cell missing: the ten refills, with NumPy's SVD and explicit loops."""
    items = Items.of(np.zeros((4, 0)), keys=np.arange(4))
    # (pair 0: items 0, 1) (pair 1: items 2, 3); person 2 never saw pair 1; person 1 saw pair 0 the other way round.
    rows = Comparisons.of(items, [0, 1, 0, 2, 3], [1, 0, 1, 3, 2], [0, 1, 2, 0, 1], [1.0, 0.8, 0.4, 0.0, 1.0])
    truth = [[1.0, 0.2, 0.4], [0.0, 0.0, None]]
    for centred in (False, True):
        shift = 0.5 if centred else 0.0
        matrix = np.array([[0.5 if cell is None else cell for cell in row] for row in truth]) - shift
        for _ in range(10):
            u, s, vt = np.linalg.svd(matrix)
            for pair in range(2):
                for person in range(3):
                    if truth[pair][person] is None:
                        matrix[pair, person] = min(max(u[pair, 0] * s[0] * vt[0, person], -shift), 1 - shift)
        u, s, vt = np.linalg.svd(matrix)
        people, targets = svd_start(rows, 1, centred=centred, rng=np.random.default_rng(0))
        sign = np.sign(people[0, 0] * vt[0, 0])
        np.testing.assert_allclose(people[:, 0], sign * vt[0] * math.sqrt(s[0]), atol=1e-9)
        by_pair = sign * u[:, 0] * math.sqrt(s[0])
        np.testing.assert_allclose(
            targets[:, 0], [by_pair[0], -by_pair[0], by_pair[0], by_pair[1], -by_pair[1]], atol=1e-9
        )
