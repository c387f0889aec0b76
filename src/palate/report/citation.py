"""A methods paragraph and BibTeX for what took part, ready to paste."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from palate.evaluate.results import Results
from palate.report import words
from palate.report.view import Panel

__all__ = ["bibtex", "methods_paragraph"]

_ENTRIES = {
    "audit": """@inproceedings{dong2025personalization,
  title     = {When Personalization Meets Reality: A Multi-Faceted Analysis of Personalized Preference Learning},
  author    = {Dong, Yijiang River and Hu, Tiancheng and Liu, Yinhong and {\\"U}st{\\"u}n, Ahmet and Collier, Nigel},
  booktitle = {Findings of the Association for Computational Linguistics: {EMNLP} 2025},
  pages     = {16880--16894},
  year      = {2025}
}""",
    "factor": """@misc{shenfeld2025pref,
  title         = {Language Model Personalization via Reward Factorization},
  author        = {Shenfeld, Idan and Faltings, Felix and Agrawal, Pulkit and Pacchiano, Aldo},
  eprint        = {2503.06358},
  archiveprefix = {arXiv},
  year          = {2025}
}""",
    "gpo": """@inproceedings{zhao2024gpo,
  title     = {Group Preference Optimization: Few-Shot Alignment of Large Language Models},
  author    = {Zhao, Siyan and Dang, John and Grover, Aditya},
  booktitle = {The Twelfth International Conference on Learning Representations, {ICLR}},
  year      = {2024}
}""",
    "bootstrap": """@article{owen2007pigeonhole,
  title   = {The Pigeonhole Bootstrap},
  author  = {Owen, Art B.},
  journal = {The Annals of Applied Statistics},
  volume  = {1},
  number  = {2},
  pages   = {386--411},
  year    = {2007}
}""",
    "together": """@article{romano2005stepdown,
  title   = {Exact and Approximate Stepdown Methods for Multiple Hypothesis Testing},
  author  = {Romano, Joseph P. and Wolf, Michael},
  journal = {Journal of the American Statistical Association},
  volume  = {100},
  number  = {469},
  pages   = {94--108},
  year    = {2005}
}""",
    "prompts": """@article{dersimonian1986meta,
  title   = {Meta-Analysis in Clinical Trials},
  author  = {DerSimonian, Rebecca and Laird, Nan},
  journal = {Controlled Clinical Trials},
  volume  = {7},
  number  = {3},
  pages   = {177--188},
  year    = {1986}
}""",
    "convarg": """@inproceedings{habernal2016argument,
  title     = {Which argument is more convincing? {A}nalyzing and predicting convincingness of {W}eb arguments using
               bidirectional {LSTM}},
  author    = {Habernal, Ivan and Gurevych, Iryna},
  booktitle = {Proceedings of the 54th Annual Meeting of the Association for Computational Linguistics
               (Volume 1: Long Papers)},
  pages     = {1589--1599},
  year      = {2016}
}""",
    "polis": """@article{small2021polis,
  title   = {{Polis}: Scaling Deliberation by Mapping High Dimensional Opinion Spaces},
  author  = {Small, Christopher and Bjorkegren, Michael and Erkkil{\\"a}, Timo and Shaw, Lynette and Megill, Colin},
  journal = {RECERCA. Revista de Pensament i An{\\`a}lisi},
  volume  = {26},
  number  = {2},
  doi     = {10.6035/recerca.5516},
  year    = {2021}
}""",
}

_PROTOCOLS = {
    "new-items": "held-out comparisons are about items of prompts that no method saw in training",
    "known-items": "items stay the same, and a held-out comparison shares no item with that person's training comparisons",
    "temporal": "each person's later comparisons are held out",
}


def methods_paragraph(results: Results, panels: Sequence[Panel], version: str) -> str:
    """What was done, in the words of a methods section."""
    manifest = results.manifest
    about = manifest.get("data") or {}
    methods = list(dict.fromkeys(method for panel in panels for method in panel.methods))
    data = words.listing(
        _data_words(name, about.get(name, {})) for name in dict.fromkeys(panel.data for panel in panels)
    )
    sentences = [f"We compared {words.listing(methods)} on {data}, with Palate {version}."]
    for protocol in dict.fromkeys(panel.protocol for panel in panels):
        if protocol in _PROTOCOLS:
            sentences.append(f"In the {protocol} protocol, {_PROTOCOLS[protocol]}.")
    levels = sorted({k for panel in panels for k in panel.levels})
    if levels:
        sentences.append(
            f"New people were unknown in training and gave {words.listing(map(str, levels))} answers: nested random prefixes of "
            "their own comparisons, the same for all methods, over one fixed cohort."
        )
    tuning = manifest.get("tuning")
    if tuning:
        sentences.append(
            f"Settings were chosen by log-loss on validation people and items alone, with the same budget of at most "
            f"{words.plural(int(tuning['configurations']), 'configuration')} for every method; methods that learn their own "
            "scales have none to choose."
        )
    sentences += [_intervals(manifest), _together(results), _prompts(results), _sizes(panels), _samples(manifest)]
    if manifest.get("final"):
        sentences.append("Numbers are of people who had been set aside and were scored once.")
    return " ".join(sentence for sentence in sentences if sentence)


def bibtex(results: Results, panels: Sequence[Panel], version: str) -> str:
    """Palate, and the papers behind the methods and data that took part."""
    methods = {method.split(":")[0].split("(")[0].strip() for panel in panels for method in panel.methods}
    names = " ".join(panel.data for panel in panels)
    wanted = [
        *(["audit"] if results.audits else []),
        *(["bootstrap"] if results.rows else []),
        *(["together"] if results.differences else []),
        *(["prompts"] if len(results.per_prompt) else []),
        *(name for name in ("factor", "gpo") if name in methods),
        *(name for name in ("convarg", "polis") if name in names),
    ]
    own = f"""@software{{palate,
  title   = {{Palate: learn what each person prefers from pairwise choices}},
  author  = {{{{The Palate developers}}}},
  version = {{{version}}}
}}"""
    return "\n\n".join([own, *(_ENTRIES[name] for name in wanted)])


def _data_words(name: str, about: Mapping[str, Any]) -> str:
    if not about.get("n_comparisons"):
        return name
    licence = f"; {about['licence']}" if about.get("licence") else ""
    return f"{name} ({words.count(int(about['n_comparisons']))} comparisons by {words.count(int(about['n_users']))} people{licence})"


def _intervals(manifest: Mapping[str, Any]) -> str:
    resampled = list(dict.fromkeys(course.get("resampled") for course in manifest.get("courses") or []))
    how = words.listing(str(name) for name in resampled if name) or "people and prompts or items"
    return (
        "Every metric is computed per person and then averaged over people; gains are paired with the pooled model on the "
        f"same held-out comparisons, and 95 % intervals come from a two-way bootstrap ({how.replace('users', 'people')})."
    )


def _together(results: Results) -> str:
    if not results.differences:
        return ""
    return (
        "Where methods are judged against one another, intervals are simultaneous over all of them (single-step max-t; Romano "
        "and Wolf, 2005)."
    )


def _prompts(results: Results) -> str:
    if not len(results.per_prompt):
        return ""
    kinds = words.listing(f"{kind}s" for kind in results.per_prompt["kind"].unique().sort())
    return (
        f"Gains on single {kinds} are means over people, shrunken towards the typical one by empirical Bayes "
        "(DerSimonian and Laird, 1986)."
    )


def _sizes(panels: Sequence[Panel]) -> str:
    axes = dict.fromkeys(row["axis"] for panel in panels for row in panel.sizes)
    if not axes:
        return ""
    named = words.listing({"users": "people", "comparisons": "comparisons"}[axis] for axis in axes)
    return (
        f"Learning curves in training {named} refit every method, with its settings kept, to nested random parts of the "
        "training data and ask it about the same new people and held-out comparisons."
    )


def _samples(manifest: Mapping[str, Any]) -> str:
    samples = manifest.get("samples") or []
    if not samples:
        return ""
    seeds = sorted({seed for seed, _ in samples})
    folds = sorted({fold for _, fold in samples if fold >= 0})
    text = f"Results are over {words.plural(len(seeds), 'seed')} ({words.listing(map(str, seeds))})"
    return f"{text} and {words.plural(len(folds), 'fold')} of people." if folds else f"{text}."
