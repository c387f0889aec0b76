"""`palate fit`, `palate adapt` and `palate score`: a reward model that fits people."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from palate.cli.console import AsJson, emit, progress_bar, say, show, verb
from palate.cli.options import (
    BaseReward,
    Features,
    File,
    Seed,
    Settings,
    SkipBad,
    UserColumn,
    first_process,
    open_data,
    output_file,
    output_folder,
    parse_settings,
    read_lines,
)
from palate.errors import InputError

if TYPE_CHECKING:
    from palate.data import PreferenceDataset
    from palate.elicit.person import AskablePerson, AskingRewardModel

__all__ = ["adapt", "fit", "score"]

Model = Annotated[Path, typer.Argument(metavar="MODEL", help="A folder that palate fit wrote.")]


@verb
def fit(
    file: File,
    out: Annotated[Path, typer.Option("-o", "--out", metavar="DIR", help="Where the model goes.")],
    method: Annotated[str, typer.Option(help="A method of palate bench --list.")] = "hierarchical",
    features: Features = "smollm2",
    base_reward: BaseReward = None,
    side: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN", help="What is known about a person: user_text, or a column; may be repeated."),
    ] = None,
    settings: Settings = None,
    backbone: Annotated[
        str,
        typer.Option(
            help="The language model of the features: frozen, lora (low-rank changes), or full (all weights)."
        ),
    ] = "frozen",
    backbone_settings: Annotated[
        list[str] | None,
        typer.Option("--backbone-set", metavar="NAME=VALUE", help="A setting of its training; may be repeated."),
    ] = None,
    checkpoints: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where that training keeps its place; DIR/checkpoints of -o by default."),
    ] = None,
    report_to: Annotated[
        str, typer.Option(help="Log losses and rounds: none, jsonl, tensorboard, trackio, wandb or mlflow.")
    ] = "none",
    logging_dir: Annotated[Path, typer.Option(metavar="DIR", help="Folder of that log.")] = Path("runs"),
    user_column: UserColumn = None,
    skip_bad: SkipBad = False,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Fit a reward model to the choices of many people, so that it adapts to a new one in a few answers.

    \b
      palate fit choices.csv -o model
      palate fit choices.csv -o model --features minilm --method factor --set rank=8
      palate fit scored.parquet -o model --base-reward my_rm
      palate fit choices.csv -o model --side user_text --side country --report-to jsonl
      palate fit choices.csv -o model --backbone lora --backbone-set epochs=2
    """
    from palate import api

    output_folder(out)
    training = _backbone(backbone, backbone_settings)
    checkpoints = checkpoints or out / "checkpoints"
    dataset = open_data(file, user_column, skip_bad)
    with progress_bar() as progress:
        model = api.fit(
            dataset,
            features=features,
            method=method,
            backbone=training,
            checkpoints=checkpoints,
            base_reward=base_reward,
            side=side or (),
            report_to=report_to,
            logging_dir=logging_dir,
            rng=seed,
            progress=progress,
            **parse_settings(settings),
        )
        if not first_process():
            return
        model.save_pretrained(out, people=True)
    if training is not None:
        _clear(checkpoints)
    if as_json:
        emit(
            {"model": str(out), "method": method, "features": features, "data": dataset.name}
            | {"n_users": dataset.n_users, "n_items": dataset.n_items, "n_comparisons": len(dataset)}
        )
    else:
        show(f"fitted {method} on {len(dataset):,} choices of {dataset.n_users:,} people: {out}")


def _backbone(mode: str, settings: list[str] | None) -> dict[str, Any] | None:
    """What happens to the language model, checked before any work; None where nothing does."""
    if mode == "frozen" and not settings:
        return None
    from palate.models.backbone import Backbone

    return Backbone.of({"mode": mode} | parse_settings(settings, "--backbone-set")).model_dump()


def _clear(checkpoints: Path) -> None:
    from palate.models.training import Checkpoints

    Checkpoints(checkpoints).clear()


@verb
def adapt(
    model: Model,
    answers: Annotated[str, typer.Argument(metavar="ANSWERS", help="Choices of one person, as a file.")],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="STATE", help="Where the person's state goes.")],
    half_life: Annotated[
        float | None,
        typer.Option(help="An answer loses half its weight in this time, in the unit of the answers' times."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Learn one new person from a few answers; the model itself does not change.

    ANSWERS has the columns of the training data; it needs no column for the person, being about one.

    \b
      palate adapt model answers.csv -o me.state
    """
    from palate import api

    output_file(out)
    loaded = api.load_model(model)
    rows = answers_of_one(answers)
    with progress_bar() as progress:
        person = loaded.adapt(rows, half_life=half_life, progress=progress)
    person.save(out)
    if as_json:
        emit({"state": str(out), "model": str(model), "n_answers": len(rows)})
    else:
        show(f"learned from {len(rows):,} answers: {out}")


def _person(model: AskingRewardModel, user: str | None, state: Path | None) -> AskablePerson:
    if state is not None:
        return model.load_person(state)
    return model.adapt() if user is None else model.person(user)


def answers_of_one(path: str) -> PreferenceDataset:
    """The choices in a file about one person, which may lack a column for the person."""
    from palate.data import read
    from palate.data.formats import USER_COLUMNS
    from palate.data.readers import open_table

    table = open_table(path)
    if table.problems or {name.strip().lower() for name in table.columns} & set(USER_COLUMNS):
        return read(path)
    return read({**table.columns, "user": ["-"] * len(table.place)}, name=Path(path).stem)


@verb
def score(
    model: Model,
    prompt: Annotated[str, typer.Option(help="What the replies answer.")],
    replies: Annotated[
        Path, typer.Option(metavar="FILE", help="One reply a line, a JSON list, or JSON lines; - reads standard input.")
    ],
    user: Annotated[str | None, typer.Option(metavar="ID", help="A person the model was fitted on.")] = None,
    state: Annotated[Path | None, typer.Option(metavar="FILE", help="A state that palate adapt wrote.")] = None,
    as_json: AsJson = False,
) -> None:
    """Score replies for one person, best first; without --user and --state for somebody unknown.

    \b
      palate score model --user ann --prompt "Tell me about bees." --replies replies.txt
      palate score model --state me.state --prompt "…" --replies - --json < replies.json
    """
    from palate import api

    if user is not None and state is not None:
        raise InputError("--user and --state both given; say who it is in one way")
    texts = read_lines(replies, "replies")
    loaded = api.load_model(model)
    person = _person(loaded, user, state)
    with progress_bar() as progress:
        scores = person.score(prompt, texts, progress=progress)
    order = sorted(range(len(texts)), key=lambda i: -scores[i])
    if as_json:
        emit(
            [
                {"rank": rank, "index": i, "score": float(scores[i]), "reply": texts[i]}
                for rank, i in enumerate(order, 1)
            ]
        )
    else:
        show(*(f"{scores[i]:8.3f}  {texts[i]}" for i in order))
    if len(set(texts)) < len(texts):
        say("note: some replies are the same text")
