"""`palate simulate attributes | personalllm | long-short | opposing | profiles`: published recipes over any reply pool."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from palate.cli.console import AsJson, emit, progress_bar, say, show, verb
from palate.cli.options import Seed, output_folder
from palate.errors import InputError

if TYPE_CHECKING:
    from palate.simulate.recipes import Calls, Made, Profiles, ReplyPool, RolePlay

__all__ = ["add_recipes"]

_MOSTLY = 0.3
"""Share of questions decided by the order above which a model is called unfit to play people."""

Pool = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Replies (prompt, reply, and scores in numeric columns) or choices, whose replies are taken.  "
        "[default: the shipped replies]",
    ),
]
Licence = Annotated[str | None, typer.Option(help="Of the pool's texts, for the record.")]
Chat = Annotated[
    str | None,
    typer.Option(
        metavar="MODEL@URL",
        help="Who plays the people: an OpenAI-compatible endpoint (the key is $PALATE_API_KEY), smollm2, or a model folder.",
    ),
]
Out = Annotated[
    Path | None,
    typer.Option("-o", "--out", metavar="DIR", help="Folder of the results; a model's answers are kept in it."),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what it would cost; ask nothing.")]
Workers = Annotated[int, typer.Option(min=1, help="Questions to an endpoint at a time.")]
Noise = Annotated[float, typer.Option(help="0: everybody follows the scores; else Bradley-Terry noise of this scale.")]
Pairs = Annotated[int, typer.Option(help="Different pairs of replies, answered by everybody.")]
Repeats = Annotated[
    float, typer.Option(help="Share of a model's questions asked again in other words, for its consistency.")
]


def add_recipes(app: typer.Typer) -> None:
    """Add the recipes to `palate simulate`."""
    for name, command in (
        ("attributes", simulate_attributes),
        ("personalllm", simulate_personalllm),
        ("long-short", simulate_long_short),
        ("opposing", simulate_opposing),
        ("profiles", simulate_profiles),
    ):
        app.command(name)(command)


@verb
def simulate_attributes(
    pool: Pool = None,
    licence: Licence = None,
    chat: Chat = None,
    people: Annotated[int | None, typer.Option(help="How many; every pair of traits once (84) if not given.")] = None,
    pairs: Pairs = 100,
    noise: Noise = 0.0,
    repeats: Repeats = 0.05,
    out: Out = None,
    dry_run: DryRun = False,
    workers: Workers = 8,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """PReF's Attributes: people with two traits each, such as concise and formal.

    Labels come from scores (columns named after the attributes, else statistics of the text), or with --chat from a model
    that judges for each person in both orders; where the orders disagree it is a tie.

    \b
      palate simulate attributes -o people
      palate simulate attributes --pool replies.jsonl --chat qwen2.5@http://localhost:11434/v1 -o people --dry-run
    """
    from palate.simulate.recipes import attributes, attributes_played

    replies = _pool(pool, licence)
    if chat is None:
        made = attributes(replies, pairs=pairs, people=people, noise=noise, seed=seed)
        return _scored(made, out, dry_run, as_json)
    _no_noise(noise)
    plan = attributes_played(replies, pairs=pairs, people=people, repeats=repeats, seed=seed)
    return _played(plan, chat, out, dry_run, workers, as_json)


@verb
def simulate_personalllm(
    pool: Pool = None,
    licence: Licence = None,
    users: Annotated[int, typer.Option(help="How many people; the paper has 1,000 to 10,000.")] = 1000,
    comparisons: Annotated[
        str, typer.Option(metavar="N-M", help="Least and most answers of a person, or one number.")
    ] = "25-50",
    alpha: Annotated[
        float, typer.Option(help="Of the Dirichlet distribution: near 0 one scorer each, large all alike.")
    ] = 0.05,
    scorers: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES", help="Score columns or statistics, with commas; the pool's columns if not given."
        ),
    ] = None,
    noise: Noise = 0.0,
    out: Out = None,
    dry_run: DryRun = False,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """PersonalLLM: each person weighs several scorers (reward models, or statistics of the text) in their own way.

    \b
      palate simulate personalllm --pool scored.parquet --scorers rm_a,rm_b,rm_c --users 10000 -o people
    """
    from palate.simulate.recipes import personal_llm

    least, _, most = comparisons.partition("-")
    if not least.isdigit() or (most and not most.isdigit()):
        raise InputError(f"--comparisons {comparisons}: not a number or a range; write 50 or 25-50")
    made = personal_llm(
        _pool(pool, licence),
        users,
        (int(least), int(most or least)),
        alpha=alpha,
        scorers=None if scorers is None else [name.strip() for name in scorers.split(",") if name.strip()],
        noise=noise,
        seed=seed,
    )
    return _scored(made, out, dry_run, as_json)


@verb
def simulate_long_short(
    pool: Pool = None,
    licence: Licence = None,
    users: Annotated[int, typer.Option(help="How many people; the paper has 10 or 40.")] = 10,
    comparisons: Annotated[int, typer.Option(help="Answers of each.")] = 500,
    short_share: Annotated[float, typer.Option(help="Share of people who prefer the shorter reply.")] = 0.3,
    noise: Noise = 0.0,
    out: Out = None,
    dry_run: DryRun = False,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """P-RLHF's synthetic preference: most people like the longer reply, the others the shorter.

    \b
      palate simulate long-short --pool tldr.parquet --users 40 -o people
    """
    from palate.simulate.recipes import long_short

    made = long_short(_pool(pool, licence), users, comparisons, short_share=short_share, noise=noise, seed=seed)
    return _scored(made, out, dry_run, as_json)


@verb
def simulate_opposing(
    pool: Pool = None,
    licence: Licence = None,
    chat: Chat = None,
    pairs: Pairs = 500,
    noise: Noise = 0.0,
    repeats: Repeats = 0.05,
    out: Out = None,
    dry_run: DryRun = False,
    workers: Workers = 8,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """P-SOUPS: six one-sided people with opposite wishes (simple or expert, brief or full, friendly or not).

    \b
      palate simulate opposing -o people
      palate simulate opposing --chat gpt-4o-mini@https://api.openai.com/v1 -o people --dry-run
    """
    from palate.simulate.recipes import opposing, opposing_played

    replies = _pool(pool, licence)
    if chat is None:
        return _scored(opposing(replies, pairs=pairs, noise=noise, seed=seed), out, dry_run, as_json)
    _no_noise(noise)
    return _played(
        opposing_played(replies, pairs=pairs, repeats=repeats, seed=seed), chat, out, dry_run, workers, as_json
    )


@verb
def simulate_profiles(
    chat: Annotated[str, typer.Option(metavar="MODEL@URL", help="Who plays the people, as in attributes.")],
    pool: Pool = None,
    licence: Licence = None,
    profiles: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="People, one a row, a column a trait (and user); drawn if not given."),
    ] = None,
    people: Annotated[int, typer.Option(help="How many are drawn.")] = 100,
    pairs: Annotated[int, typer.Option(help="Prompts in all, one pair each.")] = 100,
    people_per_pair: Annotated[int, typer.Option(help="People asked about each pair.")] = 50,
    controversial: Annotated[
        str, typer.Option(help="Which prompts: marked (by the pool), ask (the model) or all.")
    ] = "ask",
    revise: Annotated[
        bool, typer.Option("--revise/--no-revise", help="Pairs of a reply and its revision for one of the people.")
    ] = True,
    repeats: Repeats = 0.05,
    out: Out = None,
    dry_run: DryRun = False,
    workers: Workers = 8,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """PRISM and PERSONA: people with profiles, played by a model in both orders, on prompts about which people differ.

    \b
      palate simulate profiles --chat qwen2.5@http://localhost:11434/v1 --pool prism.parquet -o people --dry-run
    """
    from palate.simulate.recipes import profiles_played, read_profiles

    choice: Any = controversial
    plan = profiles_played(
        _pool(pool, licence),
        profiles=None if profiles is None else read_profiles(profiles),
        people=people,
        pairs=pairs,
        people_per_pair=people_per_pair,
        controversial=choice,
        revise=revise,
        repeats=repeats,
        seed=seed,
    )
    return _played(plan, chat, out, dry_run, workers, as_json)


def _pool(pool: Path | None, licence: str | None) -> ReplyPool:
    from palate.simulate.recipes import reply_pool

    return reply_pool(pool, licence=licence)


def _no_noise(noise: float) -> None:
    if noise:
        raise InputError(f"--noise {noise:g}: for labels from scores only; leave it out with --chat")


def _scored(made: Made, out: Path | None, dry_run: bool, as_json: bool) -> None:
    if dry_run:
        say("note: labels come from scores; nothing is asked and it costs nothing")
    _tell(made, None if dry_run else out, as_json)


def _played(plan: RolePlay | Profiles, chat: str, out: Path | None, dry_run: bool, workers: int, as_json: bool) -> None:
    if out is None:
        raise InputError("-o is missing; a model's answers are kept in that folder, so that nothing is asked twice")
    output_folder(out)
    with _calls(chat, out / "calls", workers) as calls:
        cost = plan.cost(calls)
        if dry_run:
            return emit(cost.to_dict()) if as_json else show(f"{calls.name}: {cost}")
        say(f"note: {calls.name}: {cost}")
        with progress_bar() as progress:
            made = plan.make(calls, progress=progress)
    return _tell(made, out, as_json)


@contextmanager
def _calls(chat: str, folder: Path, workers: int) -> Iterator[Calls]:
    from palate.simulate.recipes import Calls

    model, at, url = chat.rpartition("@")
    if at and model and url.startswith(("http://", "https://")):
        from palate.backends.openai import ChatClient

        with ChatClient(model=model, base_url=url) as client:
            yield Calls(client, folder, workers=workers)
        return
    if url.startswith(("http://", "https://")):
        raise InputError(f"--chat {chat}: not MODEL@URL; write --chat qwen2.5@http://localhost:11434/v1, say")
    from palate.backends.chat import LocalChat

    yield Calls(LocalChat(chat), folder, workers=1)


def _tell(made: Made, out: Path | None, as_json: bool) -> None:
    facts = made.to_dict()
    if out is not None:
        output_folder(out)
        facts["files"] = {name: str(path) for name, path in made.write(out).items()}
    if as_json:
        return emit(facts)
    show(*_lines(facts))
    told = facts["consistency"]
    if told is not None and told["flip_share"] > _MOSTLY:
        say(
            f"note: the order decided {100 * told['flip_share']:.0f} % of the questions; these people have little taste of "
            "their own, take a better model"
        )
    if out is None:
        say("note: nothing written; -o people keeps the choices and the truth")
    return None


def _lines(facts: dict[str, Any]) -> list[str]:
    lines = [
        f"{facts['recipe']}: {facts['n_users']:,} people, {facts['n_comparisons']:,} choices between {facts['n_items']:,} replies "
        f"to {facts['n_prompts']:,} prompts; {100 * facts['tie_share']:.0f} % ties; labels by {facts['labels']}",
        *(f"licence of the {what}: {licence}" for what, licence in facts["licences"].items()),
    ]
    if "calls" in facts:
        calls = facts["calls"]
        lines.append(
            f"{calls['model']}: {calls['asked']:,} answers, {calls['refused']:,} refusals; {facts['left_out']:,} questions left out"
        )
    told = facts["consistency"]
    if told is not None:
        shares = (
            ("order decided", "flip_share"), ("chose the first", "first_share"), ("same again", "repeat_agreement"),
            ("circular triads", "circle_share"),
        )  # fmt: skip
        lines.append("; ".join(f"{what} {100 * told[name]:.0f} %" for what, name in shares if told[name] is not None))
    return lines + [f"{name}: {path}" for name, path in facts.get("files", {}).items()]
