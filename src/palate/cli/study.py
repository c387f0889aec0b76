"""`palate study`: PReF's blinded study of people, for anybody to run, and its results."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from palate.cli.ask import KEYS, PoolFile, ask_key, put_question, read_replies
from palate.cli.console import AsJson, emit, progress_bar, say, show, verb
from palate.cli.options import Seed, output_file, output_folder
from palate.cli.reward import Model
from palate.errors import InputError

if TYPE_CHECKING:
    from palate.elicit import Session
    from palate.elicit.study import Duel, StudyPlan, StudyResult
    from palate.statistics import Estimate

__all__ = ["study"]


@verb
def study(
    model: Model,
    out: Annotated[Path, typer.Option("-o", "--out", metavar="DIR", help="Where results of all people are kept.")],
    person: Annotated[str | None, typer.Option(metavar="ID", help="Who answers; letters, digits, . _ - only.")] = None,
    pool: PoolFile = None,
    learn: Annotated[int, typer.Option(min=1, help="Chosen questions to learn from.")] = 15,
    test: Annotated[int, typer.Option(min=1, help="Questions to test on.")] = 15,
    baseline: Annotated[
        Literal["average", "random"],
        typer.Option(help="What the personal pick meets: the reply that suits most people, or any."),
    ] = "average",
    report: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Also write the results of all as a page, .html; nobody is named."),
    ] = None,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Test on people, blinded, whether replies picked for them beat replies picked for everybody.

    A person answers --learn questions that are chosen to learn from and --test questions that are not told apart, on other
    prompts: the personal pick against the baseline, sides drawn. Neither (t) is a tie. Run it once per person; without
    --person it shows the results of all. Ctrl-C keeps what was answered.

    \b
      palate study model -o study --person ann
      palate study model -o study --report study.html
    """
    output_folder(out)
    if report is not None and output_file(report).suffix != ".html":
        raise InputError(f"--report {report}: the page is written as .html")
    if person is not None:
        _run(model, out, _checked(person), pool, (learn, test), baseline, seed, as_json)
    _tell_results(out, as_json, one=person, report=report)


def _checked(person: str) -> str:
    if not re.fullmatch(r"[\w-][\w.-]{0,99}", person):
        raise InputError(f"--person {person!r}: it names a file; use letters, digits, . _ and - only")
    return person


def _run(
    model: Path,
    out: Path,
    person: str,
    pool: str | None,
    counts: tuple[int, int],
    baseline: Literal["average", "random"],
    seed: int,
    as_json: bool,
) -> None:
    from palate import api
    from palate.elicit.study import duels, plan_study, study_rows, write_study
    from palate.rng import derive

    target, kept = out / f"{person}.parquet", out / "sessions" / person
    if target.exists():
        raise InputError(f"{target}: {person} took part already; give another --person, or remove the file")
    loaded = api.load_model(model)
    own_seed = int(derive(seed, "study", person).integers(2**31))
    plan = plan_study(read_replies(pool), seed=own_seed)
    tell: Callable[..., None] = _on_stderr if as_json else show
    _same_study(
        kept, {"learn": counts[0], "test": counts[1], "baseline": baseline, "seed": seed, "pool": _digest(plan)}
    )
    with progress_bar() as progress:
        session = _session(loaded, plan, kept, counts[0], progress)
    total = sum(counts)
    if not _learn(session, kept, total, tell):
        raise typer.Exit(_paused(session.n_answers, total, tell))
    with progress_bar() as progress:
        tested = duels(session, plan, n=counts[1], baseline=baseline, progress=progress)
    given = _test(tested, kept, session.n_answers, total, tell)
    if given is None:
        raise typer.Exit(_paused(session.n_answers, total, tell))
    write_study(study_rows(person, session, list(zip(tested, given, strict=True))), target)
    tell("", f"thank you; {person} is done: {target}")


def _same_study(kept: Path, settings: dict[str, Any]) -> None:
    """Note what a study is begun with; going on with anything else would count answers for questions never asked."""
    from palate.files import read_json, write_json

    file = kept / "study.json"
    if not file.exists():
        write_json(file, settings)
        return
    before = read_json(file)
    other = [f"--{name}" for name in settings if before.get(name) != settings[name]]
    if other:
        raise InputError(
            f"{kept}: begun with another {', '.join(other)}; go on with the same, or remove the folder to begin anew"
        )


def _digest(plan: StudyPlan) -> str:
    import hashlib
    import json

    texts = json.dumps([plan.learn.to_json(), plan.test], ensure_ascii=False)
    return hashlib.blake2b(texts.encode(), digest_size=16).hexdigest()


def _on_stderr(*lines: str) -> None:
    for line in lines:
        say(line)


def _paused(answered: int, total: int, tell: Callable[..., None]) -> int:
    tell("", f"saved at {answered} or more of {total} answers; the same command goes on")
    return 0


def _session(loaded: Any, plan: StudyPlan, kept: Path, learn: int, progress: Callable[..., None]) -> Session:
    from palate.elicit import Session
    from palate.elicit.keeping import SESSION_FILE

    if (kept / SESSION_FILE).exists():
        return Session.load(kept, loaded, progress=progress)
    settings = {"n_questions": learn, "min_gain": 0.0, "narrow": 0.0}
    return Session(loaded, plan.learn, seed=plan.seed, progress=progress, **settings)


def _learn(session: Session, kept: Path, total: int, tell: Callable[..., None]) -> bool:
    """Ask the questions to learn from; whether all were answered."""
    while (asked := session.next()) is not None:
        put_question(session.n_answers + 1, total, asked.prompt, asked.left, asked.right, tell)
        key = ask_key(tell)
        if key == "q":
            session.save(kept)
            return False
        if key == "u":
            if session.events:
                session.undo()
            else:
                tell("nothing to undo yet")
        else:
            session.answer(asked.number, KEYS[key])
        session.save(kept)
    return True


def _test(tested: list[Duel], kept: Path, learned: int, total: int, tell: Callable[..., None]) -> list[Any] | None:
    """Ask the test questions; one choice per duel, or None where the person left."""
    from palate.files import read_json, write_json

    file = kept / "tests.json"
    given: list[Any] = read_json(file) if file.exists() else []
    while len(given) < len(tested):
        duel = tested[len(given)]
        if not duel.personal_side:
            given.append("tie")
            continue
        number = learned + 1 + sum(bool(earlier.personal_side) for earlier in tested[: len(given)])
        put_question(number, total, duel.prompt, duel.left, duel.right, tell)
        key = ask_key(tell)
        if key == "q":
            return None
        if key == "u":
            _take_back(given, tested, tell)
        else:
            given.append(KEYS[key])
        write_json(file, given)
    return given


def _take_back(given: list[Any], tested: list[Duel], tell: Callable[..., None]) -> None:
    """Remove the last answer, and the silent ties after it."""
    asked = [place for place in range(len(given)) if tested[place].personal_side]
    if asked:
        del given[asked[-1] :]
    else:
        tell("this cannot be undone any more")


def _tell_results(out: Path, as_json: bool, one: str | None, report: Path | None) -> None:
    from palate.elicit.study import read_studies, study_summary

    result = study_summary(read_studies(out))
    if report is not None:
        from palate.report import write_study_report

        say(f"written: {write_study_report(result, report)}")
    if as_json:
        emit(result.to_dict())
        return
    show(*_table(result))
    if one is None:
        show("", "ties count half; PReF's own study: 67 % [57.4, 76.6] of 28 people")


def _table(result: StudyResult) -> list[str]:
    lines = ["", "personal pick preferred to the baseline, 95 % intervals:"]
    lines += [f"  {person:20} {_percent(estimate)}" for person, estimate in result.people.items()]
    lines.append(f"  {'over people':20} {_percent(result.overall)}")
    if result.n_same:
        lines.append(
            f"  with the {result.n_same} prompts on which both pick the same reply as ties: {_percent(result.with_same)}"
        )
    return lines


def _percent(estimate: Estimate) -> str:
    import math

    words = f"{100 * estimate.value:.0f} %"
    if math.isfinite(estimate.low):
        words += f" [{100 * estimate.low:.0f}, {100 * estimate.high:.0f}]"
    return (
        f"{words} of {estimate.n} {estimate.unit}" if estimate.unit == "users" else f"{words}, {estimate.n} questions"
    )
