"""The method under test, with its fits shared between checks, and how a check is declared."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from palate.models.base import Method, Traits
from palate.rng import RNGLike
from palate.testing.worlds import World, mirror_town
from palate.types import Comparisons, Items, UserStates

__all__ = ["Check", "CheckFailed", "Subject", "ensure"]


class CheckFailed(AssertionError):
    """A method breaks the contract; the message begins with the name of the check."""


@dataclass(frozen=True)
class Check:
    """One requirement.

    Args:
        name: what `skip=` and reports call it.
        function: raises `CheckFailed` when the subject does not meet it.
        applies: a reason why it does not apply to these traits, or None where it does.
    """

    name: str
    function: Callable[[Subject], None]
    applies: Callable[[Traits], str | None]

    def __call__(self, subject: Subject) -> None:
        """Run the check; a failure says which check it was."""
        try:
            self.function(subject)
        except CheckFailed as failure:
            raise CheckFailed(f"{self.name}: {failure}") from None
        except Exception as error:
            raise CheckFailed(f"{self.name}: {type(error).__name__}: {error}") from error


class Subject:
    """A method under test: a factory of unfitted methods, the town it is tried on, and fits made once.

    Args:
        factory: returns a fresh, unfitted method at every call.
        quick: the same method with fewer steps, for the checks of form, which do not care how well it learned.
        world: the town for the checks that measure; `mirror_town()` by default.
        seed: of the fits.
    """

    def __init__(
        self,
        factory: Callable[[], Method],
        *,
        quick: Callable[[], Method] | None = None,
        world: World | None = None,
        seed: int = 0,
    ) -> None:
        self.factory = factory
        self.quick = factory if quick is None else quick
        self.seed = seed
        self._world = world

    @cached_property
    def traits(self) -> Traits:
        """What the method promises."""
        return self.factory().traits

    @cached_property
    def world(self) -> World:
        """The town, with a base reward where the method cannot do without."""
        return self.dressed(mirror_town(seed=self.seed) if self._world is None else self._world)

    @cached_property
    def hamlet(self) -> World:
        """A smaller town for checks of form."""
        return self.dressed(
            mirror_town(
                n_users=12, rows_per_user=16, n_new=8, history_per_user=6, heldout_per_user=6, seed=self.seed + 1
            )
        )

    @cached_property
    def fitted(self) -> Method:
        """The method fitted on the town; nobody may fit it again."""
        return self.fit(self.world.train, fully=True)

    @cached_property
    def small(self) -> Method:
        """The quick method fitted on the hamlet; nobody may fit it again."""
        return self.fit(self.hamlet.train)

    def fit(self, comparisons: Comparisons, rng: RNGLike = None, *, fully: bool = False) -> Method:
        """A fresh method fitted on `comparisons`; `fully` where it matters how well."""
        method = self.factory() if fully else self.quick()
        return method.fit(comparisons, rng=self.seed if rng is None else rng)

    def dressed(self, world: World) -> World:
        """The world with the mean taste as base reward, where the method needs one."""
        if "base_reward" not in self.traits.needs:
            return world
        return with_items(world, replace(world.items, base_reward=world.rewards.mean(0)))


def with_items(world: World, items: Items) -> World:
    """The same people and choices over another table of the same length."""
    parts = {part: replace(getattr(world, part), items=items) for part in ("train", "heldout", "history", "test")}
    return replace(world, **parts)


def predictions(method: Method, rows: Comparisons, states: UserStates) -> np.ndarray:
    """(m,) probability that left is preferred, for every row."""
    return method.prefer(rows.items.take(rows.left), rows.items.take(rows.right), states, rows.user)


def ensure(condition: bool, message: str) -> None:
    """Raise `CheckFailed` with `message` unless `condition` holds."""
    if not condition:
        raise CheckFailed(message)


def ensure_close(a: np.ndarray, b: np.ndarray, what: str, tolerance: float = 1e-5) -> None:
    """Raise `CheckFailed` unless two arrays agree to within `tolerance`."""
    a, b = np.asarray(a), np.asarray(b)
    ensure(a.shape == b.shape, f"{what}: shapes {a.shape} and {b.shape}")
    gap = float(np.max(np.abs(a - b), initial=0.0))
    ensure(gap <= tolerance, f"{what} differ by up to {gap:.3g} (allowed {tolerance:.3g})")
