"""The short way: everything Palate does for a table of choices, a call each.

`palate.audit`, `palate.fit`, `palate.bench` and the command line are these functions.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from palate.errors import ConfigError, DataError, InputError
from palate.progress import Progress, silent
from palate.rng import RNGLike

if TYPE_CHECKING:
    from palate.data import PreferenceDataset
    from palate.evaluate.audit import Audit
    from palate.evaluate.results import Results
    from palate.models.reward_model import FeatureRewardModel

__all__ = [
    "answers_of_one",
    "audit",
    "bench",
    "describe_split",
    "fit",
    "known_data",
    "load_model",
    "read",
    "report",
    "write_audit",
]

SIMULATED = "corpus"
"""The name under which the shipped replies and their simulated people are read."""


def read(source: Any, **options: Any) -> PreferenceDataset:
    """Choices from whatever the caller has, every row checked.

    Args:
        source: a .jsonl, .csv or .parquet file; a pandas or polars frame; rows; a `datasets.Dataset`; the name of a known
            data set (`palate data list`), unless a file has that name; or a data set, which is returned.
        options: for `palate.data.read` (`user_column=`, `columns=`, `on_error="skip"`, …); None values are dropped.

    Raises:
        DataError: the file is not there, columns are missing, or rows are bad; `problems` lists them all.
    """
    from palate.data import SOURCES
    from palate.data import read as read_rows

    if isinstance(source, str) and not os.path.exists(source):
        if source == SIMULATED or source in SOURCES:
            return _known(source)
        if not Path(source).suffix:
            names = ", ".join([SIMULATED, *SOURCES])
            raise DataError(f"{source}: neither a file nor a known data set; there are: {names}")
    return read_rows(source, **{name: value for name, value in options.items() if value is not None})


def _known(name: str) -> PreferenceDataset:
    if name == SIMULATED:
        from palate.simulate import corpus_people

        return corpus_people().dataset
    from palate.data import load

    return load(name)


def known_data() -> list[dict[str, Any]]:
    """The data sets with a name: `name what licence home here`."""
    from palate.data import SOURCES, available

    here = set(available())
    shipped = {
        "name": SIMULATED,
        "what": "simulated people with known tastes over the 512 shipped replies",
        "licence": "CC0 1.0",
        "home": "shipped with Palate",
        "here": True,
    }
    return [shipped] + [
        {"name": name, "what": source.title, "licence": source.licence, "home": source.home, "here": name in here}
        for name, source in SOURCES.items()
    ]


def audit(data: Any, *, features: Any = None, progress: Progress = silent, **settings: Any) -> Audit:
    """Say whether there is anything to personalize in these choices; print it, or see `.verdict` and `.to_dict()`.

    Args:
        data: anything `palate.read` takes.
        features: None (items by identity alone), the name of a featurizer, a featurizer, or an (n_items, d) array.
        progress: called now and then.
        settings: of `palate.evaluate.audit.audit` (`min_raters=`, `worthwhile=`, `rng=`, …).
    """
    from palate.evaluate.audit import audit as run
    from palate.evaluate.courses import make_items

    dataset = read(data)
    items = None if features is None or features == "none" else make_items(dataset, features, progress=progress)
    return run(dataset, items=items, progress=progress, **settings)


def write_audit(found: Audit, path: str | os.PathLike[str]) -> Path:
    """Write an audit as JSON, or as a page where the path ends in .html.

    Raises:
        InputError: the path ends in neither.
    """
    target = Path(path)
    if target.suffix == ".html":
        from palate.report import write_audit_report

        return write_audit_report(found, target)
    if target.suffix != ".json":
        raise InputError(f"{target}: an audit is written as .json or .html; choose one of them")
    from palate.files import write_json

    write_json(target, found.to_dict())
    return target


def bench(
    data: Any,
    *,
    methods: Sequence[Any] = ("pooled", "factor", "hierarchical"),
    protocol: str | Sequence[str] = "new-items",
    seeds: int | Sequence[int] = 3,
    features: Any = "minilm",
    out: str | os.PathLike[str] | None = None,
    audited: bool = True,
    progress: Progress = silent,
    **settings: Any,
) -> Results:
    """Measure methods on held-out choices of these people, seen and new.

    Args:
        data: anything `palate.read` takes.
        methods: names, `"name:setting=value,…"`, or `Method` instances. `pooled` always takes part.
        protocol: "new-items", "known-items" or "temporal", or several.
        seeds: how many random splits, or which.
        features: as in `audit`.
        out: results folder; the cells already in it are kept.
        audited: put an audit of the data beside the results in `out`.
        progress: called now and then.
        settings: of `palate.evaluate.benchmark.benchmark` (`tune=`, `final=`, `folds=`, `ks=`, `workers=`, …).

    Returns:
        Results: `.rows`, `.to_frame()`, and `palate.report(results, "report.html")`.
    """
    from palate.evaluate.benchmark import benchmark
    from palate.evaluate.courses import make_items
    from palate.evaluate.results import Results
    from palate.files import write_json

    dataset = read(data)
    items = make_items(dataset, features, progress=progress)
    found = benchmark(
        dataset, methods=methods, protocol=protocol, seeds=seeds, features=items, out=out, progress=progress, **settings
    )
    if out is None or not audited:
        return found
    page = Path(out) / f"audit-{dataset.name}.json"
    if not page.exists():
        write_json(page, audit(dataset, features=items, progress=progress).to_dict())
    return Results.load(out)


def report(
    results: Results | str | os.PathLike[str], path: str | os.PathLike[str], *, title: str | None = None
) -> Path:
    """Write the report of a benchmark as one self-contained HTML file.

    Args:
        results: what `bench` returned, or its folder.
        path: where the page goes.
        title: of the page.
    """
    from palate.evaluate.results import Results
    from palate.report import write_report

    found = results if isinstance(results, Results) else Results.load(results)
    return write_report(found, path, title=title)
