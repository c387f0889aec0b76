"""The conformance kit for methods: every promise of the contract, tried.

from palate.testing import check_method, method_checks

check_method(MyMethod)                                   # all at once

@pytest.mark.parametrize(("name", "check"), method_checks(MyMethod))
def test_contract(name, check):                          # one test per check
    check()
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import partial

from palate.errors import ConfigError
from palate.models.base import Method
from palate.testing import form, promises
from palate.testing.subject import Check, CheckFailed, Subject
from palate.testing.worlds import World

__all__ = ["CHECKS", "Report", "check_method", "method_checks", "skipped_checks"]

CHECKS: tuple[Check, ...] = (
    *(Check(function.__name__, function, lambda traits: None) for function in form.CHECKS),
    *(Check(function.__name__, function, applies) for function, applies in promises.CHECKS),
)
"""Every check, in the order they run; each function's docstring says what it asks."""


@dataclass(frozen=True)
class Report:
    """What the kit found.

    Args:
        passed: names of the checks that were met.
        failed: name -> what was wrong.
        skipped: name -> why it was not tried.
    """

    passed: tuple[str, ...]
    failed: dict[str, str]
    skipped: dict[str, str]

    def __str__(self) -> str:
        lines = [f"{len(self.passed)} passed, {len(self.failed)} failed, {len(self.skipped)} skipped"]
        lines += [f"failed  {message}" for message in self.failed.values()]
        lines += [f"skipped {name}: {reason}" for name, reason in self.skipped.items()]
        return "\n".join(lines)


def check_method(
    factory: Callable[[], Method],
    *,
    quick: Callable[[], Method] | None = None,
    world: World | None = None,
    skip: Collection[str] = (),
    seed: int = 0,
) -> Report:
    """Try a method on every check that its traits call for.

    Args:
        factory: returns a fresh, unfitted method at every call (a class will do).
        quick: the same with fewer steps, for the checks of form, where fitting is slow.
        world: where accuracy is measured; `mirror_town()` by default.
        skip: names of checks not to run; they are listed as skipped.
        seed: of the worlds and fits.

    Returns:
        What passed and what was skipped, with the reason.

    Raises:
        CheckFailed: at least one check is not met; the message is the whole report.
    """
    subject = Subject(factory, quick=quick, world=world, seed=seed)
    skipped = skipped_checks(factory, skip=skip)
    passed, failed = [], {}
    for check in CHECKS:
        if check.name in skipped:
            continue
        try:
            check(subject)
        except CheckFailed as failure:
            failed[check.name] = str(failure)
        else:
            passed.append(check.name)
    report = Report(tuple(passed), failed, skipped)
    if failed:
        raise CheckFailed(str(report))
    return report


def method_checks(
    factory: Callable[[], Method],
    *,
    quick: Callable[[], Method] | None = None,
    world: World | None = None,
    skip: Collection[str] = (),
    seed: int = 0,
) -> Iterator[tuple[str, Callable[[], None]]]:
    """The checks that a method's traits call for, as (name, callable) for `pytest.mark.parametrize`.

    Args:
        factory, quick, world, skip, seed: as in `check_method`. Fits are shared between the callables.
    """
    subject = Subject(factory, quick=quick, world=world, seed=seed)
    skipped = skipped_checks(factory, skip=skip)
    for check in CHECKS:
        if check.name not in skipped:
            yield check.name, partial(check, subject)


def skipped_checks(factory: Callable[[], Method], *, skip: Collection[str] = ()) -> dict[str, str]:
    """Name -> reason of every check that would not run for this method."""
    unknown = set(skip) - {check.name for check in CHECKS}
    if unknown:
        raise ConfigError(f"skip={sorted(unknown)}: no such check; see palate.testing.CHECKS for their names")
    traits = factory().traits
    reasons = {check.name: check.applies(traits) for check in CHECKS}
    return {
        name: reason or "skipped on request" for name, reason in reasons.items() if reason is not None or name in skip
    }
