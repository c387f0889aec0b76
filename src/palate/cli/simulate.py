"""`palate simulate`: people whose tastes are known, as data to try everything on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from palate.cli.console import AsJson, emit, say, show, verb
from palate.cli.options import Seed
from palate.cli.simulate_recipes import add_recipes
from palate.errors import DataError

if TYPE_CHECKING:
    from palate.simulate import Simulation

__all__ = ["simulate"]

simulate = typer.Typer(
    help="People whose tastes are known, as data to try everything on.", no_args_is_help=True, rich_markup_mode=None
)


@simulate.callback()
def _simulate() -> None:
    pass


@simulate.command("corpus")
@verb
def simulate_corpus(
    world: Annotated[
        str, typer.Option(help="What people care about: pairs, continuous, sparse, topic or hidden.")
    ] = "pairs",
    users: Annotated[int, typer.Option(help="How many people.")] = 400,
    comparisons: Annotated[int, typer.Option(help="Answers of each person.")] = 60,
    new_share: Annotated[float, typer.Option(help="Share of people kept for testing on new people.")] = 0.25,
    new_comparisons: Annotated[
        int | None, typer.Option(help="Answers of each new person, if not as many as of the others.")
    ] = None,
    repeats: Annotated[
        float, typer.Option(help="Share of answers that are second answers to an earlier pair, for the audit.")
    ] = 0.0,
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", metavar="FILE", help="A .parquet, .jsonl or .csv file; else nothing is written."),
    ] = None,
    people: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write what each person cares about, one person a row.")
    ] = None,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Simulated people choose between the 512 shipped replies.

    Beside the usual columns the file has new_person, true_probability and consensus_probability, which no method sees:
    with them palate bench tests on the new people and shows what is reachable (oracle, consensus).

    \b
      palate simulate corpus -o people.parquet
      palate simulate corpus --world topic --users 200 -o people.parquet --people tastes.csv
      palate bench people.parquet -o results
    """
    from palate.data import write
    from palate.data.write import write_frame
    from palate.simulate import corpus_people

    if out is not None and people is not None and out.absolute() == people.absolute():
        raise DataError(f"{out}: given for both -o and --people; name two files")
    made = corpus_people(
        users,
        comparisons,
        world=world,
        new_share=new_share,
        new_comparisons=new_comparisons,
        repeats=repeats,
        seed=seed,
    )
    files = {}
    if people is not None:
        files["people"] = str(write_frame(made.people_frame(), people).path)
    if out is not None:
        files["written"] = str(write(made.dataset, out).path)
    facts = _facts(made, world, seed) | files
    if as_json:
        emit(facts)
        return
    show(*_lines(facts))
    if not files:
        say("note: nothing written; -o people.parquet keeps the answers")


add_recipes(simulate)


def _facts(made: Simulation, world: str, seed: int) -> dict[str, Any]:
    from palate.simulate import WORLDS

    data = made.dataset
    return {
        "world": world,
        "what": WORLDS[world].what,
        "seed": seed,
        "n_users": data.n_users,
        "n_new": int(made.truth.new.sum()),
        "n_comparisons": len(data),
        "n_items": data.n_items,
        "n_prompts": data.n_prompts,
        "fingerprint": data.fingerprint,
        "licence": data.licence,
        "ceilings": made.ceilings(),
        "indifferent_share": round(made.indifferent_share(), 4),
    }


def _lines(facts: dict[str, Any]) -> list[str]:
    """What was made, and what nobody can surpass on it."""
    lines = [
        f"world {facts['world']}: {facts['what']}",
        f"{facts['n_users']:,} people, {facts['n_new']:,} of them new; {facts['n_comparisons']:,} choices between "
        f"{facts['n_items']} replies to {facts['n_prompts']} prompts; seed {facts['seed']}",
    ]
    told = {"oracle": "who knows every taste", "consensus": "who knows all tastes but not who asks"}
    for name, reached in facts["ceilings"].items():
        lines.append(
            f"{name + ',':<11}{told[name] + ':':<38} accuracy {reached['accuracy']:.3f}, AUC {reached['auc']:.3f}, "
            f"log-loss {reached['log_loss']:.3f}"
        )
    lines.append(f"{100 * facts['indifferent_share']:.0f} % of the pairs differ in nothing the person cares about")
    lines.append(f"licence of texts and answers: {facts['licence']}; fingerprint {facts['fingerprint']}")
    return lines + [f"{name}: {facts[name]}" for name in ("written", "people") if name in facts]
