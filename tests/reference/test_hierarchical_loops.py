"""`hierarchical` against plain loops: rewards, the evidence bound, its gradient, posteriors by integration."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.special import expit

from palate.models import hierarchical_fit as fit
from palate.models import make
from palate.models.shared import fit_shared
from palate.models.tastes import Tastes, design_weights, merge, people
from palate.types import Comparisons, Items


def tiny(seed: int = 0, *, known: bool = True) -> Comparisons:
    """Twelve comparisons of three people over six items with two features; some labels are soft."""
    rng = np.random.default_rng(seed)
    keys = np.array([10, 3, 7, 25, -1, 8]) if known else np.full(6, -1)
    items = Items.of(rng.standard_normal((6, 2)), keys=keys)
    left, right = np.array([0, 1, 2, 3, 4, 5, 0, 1, 2, 0, 5, 3]), np.array([1, 2, 3, 0, 1, 0, 2, 3, 5, 4, 2, 1])
    label = np.array([1, 0, 1, 1, 0, 0.5, 0, 1, 0.8, 1, 0, 1])
    weight = rng.uniform(0.5, 2.0, 12)
    return Comparisons.of(items, left, right, np.repeat([0, 1, 2], 4), label, weight=weight)


def test_a_row_is_worth_less_the_more_often_its_items_come_back():
    items = Items.of(np.zeros((4, 0)), keys=np.arange(4))
    rows = Comparisons.of(
        items, [0, 0, 0, 2], [1, 2, 1, 3], [0, 0, 0, 1], [1, 1, 0, 1], weight=np.array([1.0, 1, 2, 1])
    )
    # Person 0 meets item 0 with weight 4, item 1 with 3, item 2 with 1; person 1 meets items 2 and 3 once.
    rho = 0.5
    worth = {4: 1 / (1 + 3 * rho), 3: 1 / (1 + 2 * rho), 1: 1.0}
    expected = [(worth[4] + worth[3]) / 2, (worth[4] + worth[1]) / 2, 2 * (worth[4] + worth[3]) / 2, 1.0]
    np.testing.assert_allclose(design_weights(rows, rho), expected)
    np.testing.assert_array_equal(design_weights(rows, 0.0), rows.weight)


def test_rewards_by_hand():
    rng = np.random.default_rng(1)
    method = make("hierarchical", rank=2, epochs=3).fit(tiny(), rng=0)
    tastes = Tastes.from_arrays(method.tastes_)
    items = Items.of(rng.standard_normal((3, 2)), keys=np.array([7, 99, -1]))
    place = list(tastes.keys).index(7)
    for i in range(3):
        x = (items.features[i].astype(float) - tastes.center) @ tastes.rotation
        offset = sum(x[j] * tastes.beta[j] for j in range(len(x)))
        basis = [sum(x[j] * tastes.content[j, a] for j in range(len(x))) for a in range(2)]
        if i == 0:
            offset += tastes.effects[place]
            basis = [basis[a] + tastes.loadings[place, a] for a in range(2)]
        np.testing.assert_allclose(method.offset(items)[i], offset)
        np.testing.assert_allclose(method.basis(items)[i], basis)


def problem(*, spectral: bool = False) -> tuple[fit.Table, fit._Space, torch.Tensor, torch.Tensor]:
    rows = tiny()
    table = fit.tabulate(rows, np.linspace(-0.3, 0.3, 12), rows.weight)
    space = fit._Space(table, 2, fit_shared(rows), spectral=spectral, rng=np.random.default_rng(0))
    mode = torch.randn(3, 2, generator=torch.Generator().manual_seed(1))
    factor = torch.tril(0.4 * torch.rand(3, 2, 2, generator=torch.Generator().manual_seed(2))) + 0.3 * torch.eye(2)
    return table, space, mode, factor


def loop_loss(table: fit.Table, space: fit._Space, mode: torch.Tensor, factor: torch.Tensor) -> float:
    """−ELBO with a loop over rows, integrals by adaptive quadrature and divergences entry by entry."""
    mean = {name: value.detach().double().numpy() for name, value in space.means.items()}
    variance = {name: np.exp(2 * value.detach().double().numpy()) for name, value in space.deviations.items()}
    scale = {name: np.exp(2 * value.detach().double().numpy()) for name, value in space.scales.items()}
    x, own = table.x.double().numpy(), table.own.numpy()

    def item(i: int) -> tuple[float, np.ndarray, float, np.ndarray]:
        f, c = x[i] @ mean["beta"], x[i] @ mean["content"]
        fv, cv = x[i] ** 2 @ variance["beta"], x[i] ** 2 @ variance["content"]
        if own[i] >= 0:
            k = own[i]
            f, c = f + mean["effects"][k], c + mean["loadings"][k]
            fv, cv = fv + variance["effects"][k], cv + variance["loadings"][k]
        return f, c, fv, cv

    total = 0.0
    for row in range(len(table.left)):
        f1, c1, fv1, cv1 = item(int(table.left[row]))
        f2, c2, fv2, cv2 = item(int(table.right[row]))
        person = int(table.user[row])
        m, half = mode[person].double().numpy(), factor[person].double().numpy()
        covariance = half @ half.T
        centre = float(table.offset[row]) + f1 - f2 + m @ (c1 - c2)
        spread = (c1 - c2) @ covariance @ (c1 - c2) + (m**2 + np.diag(covariance)) @ (cv1 + cv2) + fv1 + fv2
        label = float(table.share[row]) if table.sign[row] > 0 else 1 - float(table.share[row])

        def cost(z: float, centre: float = centre, spread: float = spread, label: float = label) -> float:
            density = math.exp(-0.5 * (z - centre) ** 2 / spread) / math.sqrt(2 * math.pi * spread)
            return density * (label * np.logaddexp(0, -z) + (1 - label) * np.logaddexp(0, z))

        reach = 9 * math.sqrt(spread)
        total += float(table.weight[row]) * quad(cost, centre - reach, centre + reach, epsabs=1e-10)[0]
    for name, value in mean.items():
        v, s = variance[name], scale[name]
        total += float((0.5 * (value**2 + v) / s - 0.5 + 0.5 * np.log(s / v)).sum())
    return total


@pytest.mark.parametrize("spectral", [False, True])
def test_the_bound_and_its_gradient_equal_the_loop(spectral):
    table, space, mode, factor = problem(spectral=spectral)
    expected = fit._Expected.of(table, mode, factor)
    loss = space.loss(table, expected, None)
    assert loss.item() == pytest.approx(loop_loss(table, space, mode, factor), rel=1e-4)
    loss.backward()
    step = 1e-2
    for parameter in (
        space.means["content"],
        space.means["effects"],
        space.deviations["loadings"],
        space.scales["effects"],
    ):
        where = (0,) * parameter.dim() if parameter.dim() else ()
        with torch.no_grad():
            parameter[where] += step
            above = loop_loss(table, space, mode, factor)
            parameter[where] -= 2 * step
            below = loop_loss(table, space, mode, factor)
            parameter[where] += step
        assert parameter.grad[where].item() == pytest.approx((above - below) / (2 * step), rel=2e-2, abs=2e-3)


def test_absorbing_the_population_changes_no_reward():
    table, space, mode, factor = problem()
    mean, population = torch.tensor([0.3, -0.2]), torch.tensor([[1.2, 0.0], [0.4, 0.7]])
    with torch.no_grad():
        rewards, _ = space.items(table)
        before = rewards[:, :1] + rewards[:, 1:] @ (mean[:, None] + population @ mode.T)
        space.move(mean, population)
        rewards, _ = space.items(table)
        after = rewards[:, :1] + rewards[:, 1:] @ mode.T
    np.testing.assert_allclose(before.numpy(), after.numpy(), atol=1e-5)


def test_a_person_on_one_axis_equals_integration():
    """Mode exactly, and the spread of the Laplace posterior within a tenth of the true one."""
    method = make("hierarchical", rank=1, epochs=3, item_correlation=0.0).fit(tiny(), rng=0)
    tastes = Tastes.from_arrays(method.tastes_)
    rows = tiny(seed=5).for_users(np.array([1]))
    offset = np.array([0.2, -0.1, 0.0, 0.4])
    mode, covariance = people(tastes, rows, offset, rows.weight)
    v = tastes.basis(rows.items)[rows.left, 0] - tastes.basis(rows.items)[rows.right, 0]
    fixed = offset + tastes.offset(rows.items)[rows.left] - tastes.offset(rows.items)[rows.right]
    grid = np.linspace(-8, 8, 40_001)
    z = fixed + grid[:, None] * v
    log = (rows.weight * (rows.label * np.log(expit(z)) + (1 - rows.label) * np.log(expit(-z)))).sum(1) - grid**2 / 2
    density = np.exp(log - log.max())
    density /= density.sum()
    mean = density @ grid
    assert mode[0, 0] == pytest.approx(grid[log.argmax()], abs=1e-3)
    assert covariance[0, 0, 0] == pytest.approx(density @ (grid - mean) ** 2, rel=0.1)


def test_the_average_of_two_spaces_averages_what_people_share_and_how_items_vary_together():
    method = make("hierarchical", rank=2, epochs=3).fit(tiny(), rng=0)
    one = Tastes.from_arrays(method.tastes_)
    other = one.moved(np.array([0.5, -1.0]), np.array([[0.7, 0.0], [0.3, 1.1]]))
    items = tiny().items
    both = merge([one, other], items, rank=4)
    np.testing.assert_allclose(both.offset(items), (one.offset(items) + other.offset(items)) / 2)
    gram = (one.basis(items) @ one.basis(items).T + other.basis(items) @ other.basis(items).T) / 2
    np.testing.assert_allclose(both.basis(items) @ both.basis(items).T, gram, atol=1e-10)
    assert merge([one, other], items, rank=1).basis(items).shape == (6, 1)
