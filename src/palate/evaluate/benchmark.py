"""The benchmark: methods × data × protocol × seeds, on the same rows, resumable, with honest intervals.

    results = benchmark(dataset, methods=["factor", "hierarchical"], features="minilm", out="results")

`pooled` and the scikit-learn baseline always take part. Finished cells are kept in the results folder and never computed
twice; Ctrl-C loses the cells in work at most.
"""

from __future__ import annotations

import hashlib
import platform
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from palate.errors import ConfigError, FingerprintError
from palate.evaluate.cells import Job, cell_key, read_cell
from palate.evaluate.contenders import Contender, contenders
from palate.evaluate.courses import Course, Sample, open_courses
from palate.evaluate.protocol import KS
from palate.evaluate.results import PER_USER, RESULTS_FORMAT, Results, read_manifest, write_tables
from palate.evaluate.summary import Sitting, summarise
from palate.evaluate.texts import TextContender
from palate.evaluate.tuning import SPACES, Budget, candidates
from palate.evaluate.workers import run_jobs
from palate.files import write_json
from palate.models.base import Method
from palate.progress import Progress, silent

if TYPE_CHECKING:
    from palate.data import PreferenceDataset

__all__ = ["DEFAULT_METHODS", "PlannedCell", "benchmark", "plan"]

DEFAULT_METHODS = ("pooled", "factor", "hierarchical")
"""Who takes part when nobody is named."""

_LIBRARIES = ("palate", "numpy", "scipy", "scikit-learn", "torch", "polars")


@dataclass(frozen=True)
class PlannedCell:
    """A cell that a benchmark will have.

    Args:
        key: its file name.
        identity: what its numbers depend on.
        course: data set and protocol.
        sample: seed and fold.
        contender: the method.
        configurations: settings that tuning will try.
    """

    key: str
    identity: Mapping[str, Any]
    course: Course
    sample: Sample
    contender: Contender | TextContender
    configurations: int


def benchmark(
    data: PreferenceDataset | Mapping[str, PreferenceDataset],
    *,
    methods: Sequence[str | Method | TextContender] = DEFAULT_METHODS,
    protocol: str | Sequence[str] | Mapping[str, str | Sequence[str]] = "new-items",
    seeds: int | Sequence[int] = 3,
    folds: int | None = None,
    features: Any = None,
    out: str | Path | None = None,
    tune: bool = True,
    budget: Budget | None = None,
    final: bool = False,
    set_aside: bool | None = None,
    ks: Sequence[int] = KS,
    baseline: bool = True,
    workers: int = 1,
    progress: Progress = silent,
    notify: Callable[[str], None] | None = None,
) -> Results:
    """Measure methods on people's choices.

    Args:
        data: a data set, or several by name.
        methods: names, `"name:setting=value,…"`, instances (which run as they are, untuned), or a `TextContender` (a judge,
            say). `pooled` is added, being what gains are measured against.
        protocol: "new-items", "known-items" or "temporal", or several; or these by name of the data set.
        seeds: how many random splits (0 … seeds - 1), or which.
        folds: instead of one random part of new people per seed, that many folds of people: everybody is new once.
        features: None (identity of items only), a featurizer or its name, an array or `Items`; or one of these by name of
            the data set.
        out: results folder; finished cells in it are not computed again. None keeps nothing but the returned rows.
        tune: choose settings on validation cells.
        budget: of tuning, the same for every method.
        final: score the people who were set aside, instead of the new people; once, at the end.
        set_aside: keep 30 % of people, the same for all seeds, for that final run; None does so for public data sets.
        ks: numbers of answers after which new people are scored.
        baseline: let the scikit-learn baseline take part.
        workers: processes; more than one makes the seconds of cells less comparable.
        progress: called after every cell, and by methods while they fit.
        notify: called with one line for what the user should know: skipped methods, damaged cells.

    Returns:
        The results, already written to `out`.

    Raises:
        FingerprintError: `out` holds results of other data under the same name, or of other data altogether.
        ConfigError: an unknown method or setting.
        InputError: `out` is not a results folder, or is of a newer version (`VersionError`).
    """
    notes: list[str] = []

    def tell(line: str) -> None:
        notes.append(line)
        if notify is not None:
            notify(line)

    def run(folder: Path) -> Results:
        planned = plan(
            data,
            methods=methods,
            protocol=protocol,
            seeds=seeds,
            folds=folds,
            features=features,
            tune=tune,
            budget=budget,
            final=final,
            set_aside=set_aside,
            ks=ks,
            baseline=baseline,
            progress=progress,
        )
        manifest = _manifest(planned, tune, budget or Budget(), final)
        _claim(folder, manifest)
        cells = _compute(planned, folder, budget or Budget(), workers, progress, tell)
        return _finish(planned, cells, folder, manifest | {"notes": notes})

    if out is not None:
        return run(Path(out))
    with tempfile.TemporaryDirectory(prefix="palate-bench-") as temporary:
        found = run(Path(temporary))
        return Results(found.rows, found.manifest, found.skipped, found.cells, found.per_user)


def plan(
    data: PreferenceDataset | Mapping[str, PreferenceDataset],
    *,
    methods: Sequence[str | Method | TextContender] = DEFAULT_METHODS,
    protocol: str | Sequence[str] | Mapping[str, str | Sequence[str]] = "new-items",
    seeds: int | Sequence[int] = 3,
    folds: int | None = None,
    features: Any = None,
    tune: bool = True,
    budget: Budget | None = None,
    final: bool = False,
    set_aside: bool | None = None,
    ks: Sequence[int] = KS,
    baseline: bool = True,
    progress: Progress = silent,
) -> list[PlannedCell]:
    """The cells that `benchmark` with these arguments has, in the order it computes them; nothing is fitted."""
    datasets = dict(data) if isinstance(data, Mapping) else {data.name: data}
    protocols = _protocols(datasets, protocol)
    samples = _samples(seeds, folds)
    if not datasets or not all(protocols.values()) or not methods:
        raise ConfigError("nothing to benchmark; give at least one data set, one protocol and one method")
    if not ks or min(ks) < 0:
        raise ConfigError(f"ks={tuple(ks)}: numbers of answers must be 0 or more, and at least one")
    entrants = contenders(methods, baseline=baseline)
    part = "final" if final else "test"
    courses = open_courses(
        datasets, features, protocols, samples, folds=folds, part=part, set_aside=set_aside, ks=ks, progress=progress
    )
    budget = budget or Budget()
    cells = []
    for course in courses:
        for sample in samples:
            for contender in entrants:
                tried = len(candidates(contender, budget, seed=sample.seed)) if tune else 1
                identity = _identity(course, sample, contender, budget if tried > 1 else None)
                cells.append(PlannedCell(cell_key(identity), identity, course, sample, contender, tried))
    return cells


def _protocols(
    names: Iterable[str], protocol: str | Sequence[str] | Mapping[str, str | Sequence[str]]
) -> dict[str, list[str]]:
    """The protocols of each data set."""
    wanted = protocol if isinstance(protocol, Mapping) else dict.fromkeys(names, protocol)
    missing = [name for name in names if name not in wanted]
    if missing:
        raise ConfigError(f"protocol names none for {missing[0]!r}; give one for each data set, or one for all")
    return {name: [wanted[name]] if isinstance(wanted[name], str) else list(wanted[name]) for name in names}


def _samples(seeds: int | Sequence[int], folds: int | None) -> list[Sample]:
    numbers = list(range(seeds)) if isinstance(seeds, int) else [int(seed) for seed in seeds]
    if not numbers:
        raise ConfigError(f"seeds={seeds!r}: give at least one")
    if folds is None:
        return [Sample(seed) for seed in numbers]
    if folds < 2:
        raise ConfigError(f"folds={folds}: there must be at least 2, or none")
    return [Sample(seed, fold) for seed in numbers for fold in range(folds)]


def _identity(
    course: Course, sample: Sample, contender: Contender | TextContender, budget: Budget | None
) -> dict[str, Any]:
    """Everything a cell's numbers depend on."""
    return {
        "code": _code_digest(),
        "data": course.name,
        "data_fingerprint": course.dataset.fingerprint,
        "items_fingerprint": course.items_fingerprint,
        "protocol": course.protocol,
        "split": course.split_digest(sample),
        "part": course.part,
        "ks": list(course.ks),
        "seed": sample.seed,
        "fold": sample.fold,
        "method": contender.label,
        "fixed": contender.settings(),
        "tuned": None
        if budget is None
        else {
            "configurations": budget.configurations,
            "seconds": budget.seconds,
            "space": {name: list(values) for name, values in SPACES[contender.method].items()},
        },
    }


@cache
def _code_digest() -> str:
    """Of the modules that make a cell's numbers, so that cells of an older version are not mixed with new ones."""
    digest = hashlib.blake2b(digest_size=8)
    for name in ("palate.data", "palate.models", "palate.evaluate"):
        for path in sorted(Path(import_module(name).__file__ or "").parent.glob("*.py")):
            digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


def _manifest(planned: Sequence[PlannedCell], tune: bool, budget: Budget, final: bool) -> dict[str, Any]:
    courses = list({id(cell.course): cell.course for cell in planned}.values())
    return {
        "format": RESULTS_FORMAT,
        "data": {
            course.name: {
                "fingerprint": course.dataset.fingerprint,
                "items_fingerprint": course.items_fingerprint,
                "dim": course.items.dim,
                "n_comparisons": len(course.dataset),
                "n_users": course.dataset.n_users,
                "n_items": course.dataset.n_items,
                "n_prompts": course.dataset.n_prompts,
                "licence": course.dataset.licence,
            }
            for course in courses
        },
        "courses": [
            {
                "data": course.name,
                "protocol": course.protocol,
                "ks": list(course.ks),
                "cohort": course.cohort,
                "resampled": "users × prompts" if course.by_prompt else "users × items",
            }
            for course in courses
        ],
        "methods": list(dict.fromkeys(cell.contender.label for cell in planned)),
        "protocols": list(dict.fromkeys(course.protocol for course in courses)),
        "samples": [[sample.seed, sample.fold] for sample in dict.fromkeys(cell.sample for cell in planned)],
        "tuning": {"configurations": budget.configurations, "seconds": budget.seconds} if tune else None,
        "final": final,
        "versions": {"python": platform.python_version(), **{name: version(name) for name in _LIBRARIES}},
        "machine": f"{platform.system()} {platform.machine()}",
        "complete": False,
        "cells": [],
    }


def _claim(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Refuse a folder with results of other data; mark it as in work."""
    earlier = read_manifest(folder)
    if earlier is not None:
        old = {name: about["fingerprint"] for name, about in earlier["data"].items()}
        new = {name: about["fingerprint"] for name, about in manifest["data"].items()}
        for name, fingerprint in new.items():
            if name in old and old[name] != fingerprint:
                raise FingerprintError(
                    f"{folder} holds results of {name!r} with fingerprint {old[name][:12]}, this data has "
                    f"{fingerprint[:12]}; choose another folder with -o"
                )
        if not set(old) & set(new):
            raise FingerprintError(
                f"{folder} holds results of {', '.join(sorted(old))}, not of {', '.join(sorted(new))}; "
                "choose another folder with -o"
            )
    write_json(folder / "manifest.json", manifest)


def _compute(
    planned: Sequence[PlannedCell],
    folder: Path,
    budget: Budget,
    workers: int,
    progress: Progress,
    tell: Callable[[str], None],
) -> dict[str, dict[str, Any]]:
    """Every planned cell, read or computed."""
    cells: dict[str, dict[str, Any]] = {}
    for cell in planned:
        found, note = read_cell(folder / "cells", cell.key)
        if note:
            tell(note)
        if found is not None:
            cells[cell.key] = found
    todo = [cell for cell in planned if cell.key not in cells]
    told: set[str] = set()
    for done in run_jobs(_jobs(todo, budget), folder / "cells", workers=workers, progress=progress):
        cells[done["key"]] = done
        if done["status"] == "skipped" and done["reason"] not in told:
            told.add(done["reason"])
            tell(f"{done['data']}, {done['protocol']}: left out {done['reason']}")
        progress(len(cells), len(planned), f"{done['data']} {done['protocol']} {done['method']}")
    return cells


def _jobs(planned: Sequence[PlannedCell], budget: Budget) -> Iterator[Job]:
    """Jobs of the planned cells, one after the other; an exam is made once for all methods that sit it."""
    place: tuple[Course, Sample] | None = None
    exam = validation = None
    for cell in planned:
        if place is None or place[0] is not cell.course or place[1] != cell.sample:
            place, exam, validation = (cell.course, cell.sample), cell.course.exam(cell.sample), None
        if cell.configurations > 1 and validation is None:
            validation = cell.course.validation(cell.sample)
        sees = validation if cell.configurations > 1 else None
        texts = cell.course.dataset if isinstance(cell.contender, TextContender) else None
        yield Job(cell.key, cell.identity, cell.contender, exam, sees, budget, cell.course.group, texts)


def _finish(
    planned: Sequence[PlannedCell],
    cells: Mapping[str, dict[str, Any]],
    folder: Path,
    manifest: dict[str, Any],
) -> Results:
    """Tables from the cells; what a method could not do everywhere it does not do at all."""
    rows: list[dict[str, Any]] = []
    skipped: list[dict[str, Any]] = []
    people = [pl.DataFrame(schema=PER_USER)]
    for course in {id(cell.course): cell.course for cell in planned}.values():
        own = [cell for cell in planned if cell.course is course]
        standings = {sample: course.standing(sample) for sample in course.splits}
        sittings: dict[str, list[Sitting]] = {}
        for label in dict.fromkeys(cell.contender.label for cell in own):
            entries = [cell for cell in own if cell.contender.label == label]
            reasons = [cells[cell.key]["reason"] for cell in entries if cells[cell.key]["status"] != "done"]
            if reasons:
                entry = {"data": course.name, "protocol": course.protocol, "method": label}
                skipped.append(entry | {"reason": reasons[0]})
                continue
            sittings[label] = [
                Sitting(
                    cells[cell.key],
                    pl.read_parquet(folder / "cells" / f"{cell.key}.parquet"),
                    standings[cell.sample],
                )
                for cell in entries
            ]
        if sittings:
            found, frame = summarise(sittings, by_prompt=course.by_prompt)
            rows += found
            people.append(frame)
    manifest = manifest | {"complete": True, "cells": [cell.key for cell in planned]}
    write_tables(folder, rows, skipped, pl.concat(people))
    write_json(folder / "manifest.json", manifest)
    return Results.load(folder)
