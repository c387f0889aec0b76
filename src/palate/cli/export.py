"""`palate export`: one person's reward, or a group's, as a plain sequence classifier."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from palate.cli.console import AsJson, emit, progress_bar, show, verb
from palate.cli.reward import Model, answers_of_one
from palate.errors import InputError

if TYPE_CHECKING:
    from palate.elicit.person import AskingRewardModel
    from palate.types import UserStates

__all__ = ["export"]


@verb
def export(
    model: Model,
    out: Annotated[Path, typer.Option("-o", "--out", metavar="DIR", help="Where the classifier goes.")],
    user_history: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Choices of one person, who may be new.")
    ] = None,
    state: Annotated[Path | None, typer.Option(metavar="FILE", help="A state that palate adapt wrote.")] = None,
    user: Annotated[
        list[str] | None, typer.Option(metavar="ID", help="A training person; several for their mean reward.")
    ] = None,
    cluster: Annotated[
        str | None, typer.Option(metavar="I/N", help="The I-th largest of N groups of training people.")
    ] = None,
    dtype: Annotated[str, typer.Option(help="Number type of the weights: float32, bfloat16 or float16.")] = "float32",
    as_json: AsJson = False,
) -> None:
    """Write a person's reward as a Hugging Face sequence classifier with one label.

    Needs a linear method (hierarchical, factor, individual, pooled) on features of a Hugging Face model. Features of the
    last token of the last layer of a causal model give a stock class; all others need trust_remote_code=True.

    \b
      palate export model --user-history answers.csv -o my-reward
      palate export model --cluster 1/4 -o largest-group
    """
    from palate import api
    from palate.models.export import export_classifier

    loaded = api.load_model(model)
    with progress_bar() as progress:
        if user_history is not None:
            _alone(user_history, state, user, cluster)
            states = loaded.adapt(answers_of_one(str(user_history)), progress=progress).state.batch
        else:
            states = _known(loaded, state, user, cluster)
        made = export_classifier(loaded, states, out, dtype=dtype)
    if as_json:
        emit({"classifier": str(made.folder), "stock": made.stock, "n_people": made.n_people})
        return
    whose = "one person's reward" if made.n_people == 1 else f"the mean reward of {made.n_people:,} people"
    how = "a stock class" if made.stock else "load it with trust_remote_code=True"
    show(f"exported {whose}: {made.folder} ({how})")


def _known(model: AskingRewardModel, state: Path | None, user: list[str] | None, cluster: str | None) -> UserStates:
    from palate.models.export import states_of

    _alone(state, user, cluster)
    if state is not None:
        return model.load_person(state).state.batch
    return states_of(model, users=user, cluster=None if cluster is None else _fraction(cluster))


def _alone(*choices: object) -> None:
    if sum(choice is not None and choice != [] for choice in choices) != 1:
        raise InputError("say whom to export in one way: --user-history, --state, --user or --cluster")


def _fraction(text: str) -> tuple[int, int]:
    which, slash, n = text.partition("/")
    if not slash or not which.strip().isdigit() or not n.strip().isdigit():
        raise InputError(f"--cluster {text}: not I/N; write --cluster 1/4 for the largest of four groups")
    return int(which), int(n)
