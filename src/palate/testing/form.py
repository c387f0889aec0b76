"""Checks of form: what every method must do, whatever it learns."""

from __future__ import annotations

import json
import random
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from palate.errors import ConfigError, FingerprintError, InputError, NotFittedError, VersionError
from palate.models.base import FORMAT_VERSION, Method
from palate.testing.subject import Subject, ensure, ensure_close, predictions, with_items
from palate.types import Comparisons, Items, UserState, UserStates

__all__: list[str] = []


def config_round_trip(subject: Subject) -> None:
    """The settings survive JSON, make the same method again, and refuse a name they do not know."""
    config = subject.factory().config
    again = type(config)(**json.loads(config.model_dump_json()))
    ensure(again == config, f"{config} became {again} through JSON")
    ensure(type(subject.factory())(again).config == config, "the constructor changes the settings it is given")
    try:
        type(config)(no_such_setting=1)
    except ConfigError:
        return
    ensure(False, "an unknown setting is accepted")


def constructor_only_stores(subject: Subject) -> None:
    """A new method holds its settings and nothing else."""
    ensure(set(vars(subject.factory())) == {"config"}, f"a new method holds {sorted(vars(subject.factory()))}")


def learned_names_end_in_underscore(subject: Subject) -> None:
    """`fit` adds only public attributes that end in an underscore: what `save` writes is all there is."""
    extra = [name for name in vars(subject.small) if name != "config" and (name[0] == "_" or name[-1] != "_")]
    ensure(not extra, f"fit left {extra}")


def not_fitted_says_so(subject: Subject) -> None:
    """Every verb before `fit` raises `NotFittedError` that tells to call fit."""
    method, rows = subject.factory(), subject.hamlet.history
    states = UserStates(method.name, "", 1)
    calls = {
        "adapt": lambda: method.adapt(rows),
        "prefer": lambda: predictions(method, rows, states),
        "save": lambda: method.save(Path(tempfile.gettempdir()) / "never-written.safetensors"),
    }
    if subject.traits.scalar:
        calls["reward"] = lambda: method.reward(rows.items, states)
    for verb, call in calls.items():
        try:
            call()
        except NotFittedError as error:
            ensure("fit" in str(error), f"{verb}: the error does not say to call fit: {error}")
        else:
            ensure(False, f"{verb} works before fit")


def bad_input_refused(subject: Subject) -> None:
    """No rows, no weight, NaN features and features of another width are errors, not numbers."""
    train, method = subject.hamlet.train, subject.small
    items = train.items
    broken = items.features.copy()
    broken[0, 0] = np.nan
    wider = replace(items, features=np.hstack([items.features, items.features]))
    attempts = {
        "fit without rows": lambda: subject.fit(train.take(np.zeros(0, int))),
        "fit without weight": lambda: subject.fit(replace(train, weight=np.zeros(len(train)))),
        "fit with NaN features": lambda: subject.fit(replace(train, items=replace(items, features=broken))),
        "adapt with other features": lambda: method.adapt(replace(train, items=wider)),
        "prefer with other features": lambda: method.prefer(wider, wider, method.prior_, np.zeros(len(wider), int)),
    }
    for what, attempt in attempts.items():
        try:
            attempt()
        except InputError:
            continue
        ensure(False, f"{what} raises no InputError")


def states_are_in_order(subject: Subject) -> None:
    """`states_` has one state per training person, `prior_` exactly one, and each survives bytes unchanged."""
    method, train = subject.small, subject.hamlet.train
    ensure(len(method.states_) == train.n_users, f"{len(method.states_)} states for {train.n_users} people")
    ensure(len(method.prior_) == 1, f"the prior holds {len(method.prior_)} states")
    rows = subject.hamlet.heldout
    own = predictions(method, rows, method.states_)
    backwards = method.states_.take(np.arange(train.n_users)[::-1])
    reordered = replace(rows, user=(train.n_users - 1 - rows.user).astype(np.int32))
    ensure_close(own, predictions(method, reordered, backwards), "predictions from states in another order")
    state = UserState.from_bytes(method.states_[3].to_bytes()).batch
    one = rows.for_users(np.array([3]))
    ensure_close(own[rows.user == 3], predictions(method, one, state), "predictions from a state read back from bytes")


def refit_forgets(subject: Subject) -> None:
    """Fitting again leaves nothing of the earlier fit."""
    other = subject.world.train.for_users(np.arange(10))
    method = subject.fit(other, rng=7)
    method.fit(subject.hamlet.train, rng=subject.seed)
    rows = subject.hamlet.heldout
    ensure_close(
        predictions(method, rows, method.states_),
        predictions(subject.small, rows, subject.small.states_),
        "predictions after a second fit and after a first fit on the same rows",
        _same(subject),
    )
    ensure(set(vars(method)) == set(vars(subject.small)), "a second fit leaves other attributes than a first")
    if subject.traits.deterministic:
        ensure(method.fingerprint_ == subject.small.fingerprint_, "a second fit has another fingerprint than a first")


def same_rng_same_result(subject: Subject) -> None:
    """The same `rng` gives the same fit, whatever the global generators hold; and they are left alone."""
    from torch.random import fork_rng, get_rng_state, manual_seed

    saved = random.getstate(), np.random.get_state()
    with fork_rng(devices=[]):
        try:
            random.seed(123)
            np.random.seed(123)
            manual_seed(123)
            before = random.getstate(), np.random.get_state()[1].tobytes(), get_rng_state().numpy().tobytes()
            method = subject.fit(subject.hamlet.train)
            method.adapt(subject.hamlet.history)
            after = random.getstate(), np.random.get_state()[1].tobytes(), get_rng_state().numpy().tobytes()
        finally:
            random.setstate(saved[0])
            np.random.set_state(saved[1])
    for name, one, other in zip(("random", "numpy", "torch"), before, after, strict=True):
        ensure(one == other, f"fit or adapt draws from the global generator of {name}")
    if subject.traits.deterministic:
        rows = subject.hamlet.heldout
        pair = [predictions(fitted, rows, fitted.states_) for fitted in (method, subject.small)]
        ensure_close(*pair, "predictions of two fits with the same rng", 1e-12)
        ensure(method.fingerprint_ == subject.small.fingerprint_, "two fits with the same rng differ in fingerprint")


def input_unchanged(subject: Subject) -> None:
    """`fit`, `adapt`, `prefer` and `reward` change neither their arguments nor the fitted method."""
    train, history = _copied(subject.hamlet.train), _copied(subject.hamlet.history)
    before = _bytes(train), _bytes(history)
    method = subject.fit(train)
    state_bytes = [state.to_bytes() for state in method.states_]
    first = predictions(method, train, method.states_)
    states = method.adapt(history)
    adapted = [state.to_bytes() for state in states]
    predictions(method, history, states)
    if subject.traits.scalar:
        method.reward(train.items, states)
    ensure(_bytes(train) == before[0], "the training rows or items were changed in place")
    ensure(_bytes(history) == before[1], "the rows to adapt to or their items were changed in place")
    ensure([state.to_bytes() for state in method.states_] == state_bytes, "adapt or prefer changed states_")
    ensure([state.to_bytes() for state in states] == adapted, "prefer or reward changed the states it was given")
    again = predictions(method, train, method.states_)
    ensure_close(first, again, "predictions before and after adapting somebody else", 0.0)


def sides_are_symmetric(subject: Subject) -> None:
    """prefer(a, b) + prefer(b, a) = 1, and exchanging the sides of all training rows changes nothing."""
    for method, world in ((subject.small, subject.hamlet), (subject.fitted, subject.world)):
        states = method.adapt(world.history)
        forward = predictions(method, world.test, states)
        ensure(bool(np.all((forward >= 0) & (forward <= 1))), "a probability is outside [0, 1]")
        ensure_close(forward, 1.0 - predictions(method, world.test.swapped(), states), "the two orders", 1e-9)
        mirrored = method.adapt(world.history.swapped())
        ensure_close(forward, predictions(method, world.test, mirrored), "answers given in the other order", 1e-5)


def nothing_beats_itself(subject: Subject) -> None:
    """prefer(a, a) = ½."""
    method, rows = subject.small, subject.hamlet.test
    states = method.adapt(subject.hamlet.history)
    same = predictions(method, replace(rows, right=rows.left), states)
    ensure_close(same, np.full(len(rows), 0.5), "an item against itself and ½", 1e-9)


def finite_for_large_features(subject: Subject) -> None:
    """Features of ±1000 give finite answers, asked for or learned from, without a warning."""
    world = subject.hamlet
    scale = 1e3 / max(1e-9, np.abs(world.items.features).max(initial=0.0))
    large = with_items(world, replace(world.items, features=(world.items.features * scale).astype(np.float32)))
    for method, rows in ((subject.small, world), (subject.fit(large.train), large)):
        states = method.adapt(rows.history)
        asked = predictions(method, large.test, states)
        ensure(bool(np.isfinite(asked).all()), "a preference is not finite")
        if subject.traits.scalar:
            ensure(bool(np.isfinite(method.reward(large.items, states)).all()), "a reward is not finite")


def batch_equals_single(subject: Subject) -> None:
    """A person adapted alone, and a row asked alone, get what they get in a batch."""
    method, world = subject.small, subject.hamlet
    states = method.adapt(world.history)
    batch = predictions(method, world.test, states)
    for person in range(world.history.n_users):
        alone = method.adapt(world.history.for_users(np.array([person])))
        rows = world.test.for_users(np.array([person]))
        what = f"person {person} adapted alone and in a batch"
        ensure_close(batch[world.test.user == person], predictions(method, rows, alone), what)
    for row in range(0, len(world.test), 7):
        single = predictions(method, world.test.take(np.array([row])), states)
        ensure_close(batch[[row]], single, f"row {row} asked alone and in a batch")
    nobody = predictions(method, world.test.take(np.zeros(0, int)), states)
    ensure(nobody.shape == (0,), f"asking about no rows gives shape {nobody.shape}")


def adapt_of_nothing_is_prior(subject: Subject) -> None:
    """A person without rows gets the prior, alone or among others, and so does a row of weight 0."""
    method, world = subject.small, subject.hamlet
    without = world.history.user != 2
    states = method.adapt(world.history.take(without))
    rows = world.test.for_users(np.array([2]))
    prior = predictions(method, rows, method.prior_)
    ensure_close(prior, predictions(method, rows, states.take(np.array([2]))), "prior and a person without rows", 1e-6)
    nobody = method.adapt(world.history.take(np.zeros(0, int)))
    ensure(len(nobody) == world.history.n_users, f"{len(nobody)} states for {world.history.n_users} people")
    ensure_close(prior, predictions(method, rows, nobody.take(np.array([2]))), "prior and people without rows", 1e-6)
    if subject.traits.weighted:
        weightless = method.adapt(replace(world.history, weight=np.zeros(len(world.history))))
        silent = predictions(method, rows, weightless.take(np.array([2])))
        ensure_close(prior, silent, "prior and a person whose rows weigh nothing", 1e-6)


def save_and_load(subject: Subject) -> None:
    """A saved method is safetensors, comes back equal, and a newer format is refused."""
    from safetensors.numpy import load_file, save_file

    method, world = subject.small, subject.hamlet
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "method.safetensors"
        method.save(path)
        loaded = type(method).load(path)
        newer = Path(folder) / "newer.safetensors"
        header = _header(path)
        header["format"] = FORMAT_VERSION + 1
        save_file(load_file(path), newer, {"palate": json.dumps(header)})
        try:
            type(method).load(newer)
        except VersionError:
            pass
        else:
            ensure(False, "a file of a newer format is read as if it were understood")
    ensure(loaded.fingerprint_ == method.fingerprint_, "the loaded method has another fingerprint")
    ensure(loaded.config == method.config, "the loaded method has other settings")
    _ensure_same_answers(method, loaded, world.history, world.test)
    own = predictions(method, world.heldout, method.states_)
    ensure_close(own, predictions(loaded, world.heldout, loaded.states_), "seen people after loading", 1e-12)


def _ensure_same_answers(one: Method, other: Method, history: Comparisons, test: Comparisons) -> None:
    pair = [predictions(method, test, method.adapt(history)) for method in (one, other)]
    ensure_close(*pair, "predictions before saving and after loading", 1e-12)


def _header(path: Path) -> dict:
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        return json.loads(file.metadata()["palate"])


def foreign_states_refused(subject: Subject) -> None:
    """States of another fit raise `FingerprintError`; they are never read as if they were one's own."""
    other = subject.fitted.adapt(subject.hamlet.history)
    rows = subject.hamlet.test
    calls = {"prefer": lambda: predictions(subject.small, rows, other)}
    if subject.traits.scalar:
        calls["reward"] = lambda: subject.small.reward(rows.items, other)
    for verb, call in calls.items():
        try:
            call()
        except FingerprintError:
            continue
        ensure(False, f"{verb} accepts states of another fit")


def people_without_rows(subject: Subject) -> None:
    """Training people who have no row are allowed, and are known as well as anybody new."""
    train = subject.hamlet.train
    method = subject.fit(replace(train, n_users=train.n_users + 3))
    ensure(len(method.states_) == train.n_users + 3, f"{len(method.states_)} states for {train.n_users + 3} people")
    asked = subject.hamlet.heldout
    absentee = np.full(len(asked), train.n_users + 1, np.int32)
    rows = replace(asked, user=absentee, n_users=train.n_users + 3)
    absent = predictions(method, rows, method.states_)
    ensure(bool(np.isfinite(absent).all()), "a training person without rows gets preferences that are not finite")


def base_reward_is_the_start(subject: Subject) -> None:
    """With a base reward the method learns the residual: it moves every logit by the same scale."""
    world = subject.hamlet
    base = world.rewards.mean(0)
    dressed = with_items(world, replace(world.items, base_reward=base))
    method = subject.fit(dressed.train)
    ensure(method.base_scale_ > 0, "a base reward that agrees with people has no weight")
    states = method.adapt(dressed.history)
    raised = replace(dressed.test.items, base_reward=base + 3.0 / method.base_scale_)
    rows = dressed.test
    left, right = rows.items.take(rows.left), rows.items.take(rows.right)
    before = method.prefer(left, right, states, rows.user)
    after = method.prefer(raised.take(rows.left), right, states, rows.user)
    ensure(bool(np.all(after > before)), "a better base reward on the left does not make left more likely")
    if not subject.traits.posterior:
        moved = _logit(after) - _logit(before)
        clear = (before > 1e-6) & (after < 1 - 1e-6)
        ensure_close(moved[clear], np.full(clear.sum(), 3.0), "the base reward's part of the logit", 1e-4)
    try:
        method.prefer(replace(left, base_reward=None), right, states, rows.user)
    except InputError:
        return
    ensure(False, "items without the base reward are accepted by a method fitted with one")


def _logit(probability: np.ndarray) -> np.ndarray:
    return np.log(probability) - np.log1p(-probability)


def _same(subject: Subject) -> float:
    return 1e-12 if subject.traits.deterministic else 0.2


def _copied(comparisons: Comparisons) -> Comparisons:
    items = comparisons.items
    base = None if items.base_reward is None else items.base_reward.copy()
    copy = Items(items.features.copy(), items.keys.copy(), items.prompt.copy(), items.prompt_features, base)
    columns = {name: getattr(comparisons, name).copy() for name in ("left", "right", "user", "label", "weight")}
    return replace(comparisons, items=copy, **columns)


def _bytes(comparisons: Comparisons) -> list[bytes]:
    items = comparisons.items
    arrays = [items.features, items.keys, items.prompt, comparisons.left, comparisons.right]
    arrays += [comparisons.user, comparisons.label, comparisons.weight]
    return [array.tobytes() for array in arrays] + ([] if items.base_reward is None else [items.base_reward.tobytes()])


CHECKS = (
    config_round_trip,
    constructor_only_stores,
    learned_names_end_in_underscore,
    not_fitted_says_so,
    bad_input_refused,
    states_are_in_order,
    refit_forgets,
    same_rng_same_result,
    input_unchanged,
    sides_are_symmetric,
    nothing_beats_itself,
    finite_for_large_features,
    batch_equals_single,
    adapt_of_nothing_is_prior,
    save_and_load,
    foreign_states_refused,
    people_without_rows,
    base_reward_is_the_start,
)
"""All checks of form, in the order they run."""
