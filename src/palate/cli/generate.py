"""`palate generate`: a reply that fits one person, without touching a model's weights."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from palate.cli.console import AsJson, emit, progress_bar, say, verb
from palate.cli.options import Seed, output_file, parse_settings
from palate.cli.reward import answers_of_one
from palate.errors import InputError

if TYPE_CHECKING:
    from palate.elicit.person import AskingRewardModel
    from palate.generate import Generator, Guide
    from palate.policies import Policy
    from palate.types import UserState

__all__ = ["WAYS", "generate"]

WAYS = {
    "best_of_n": "model",
    "guided": "model",
    "prompted": "model",
    "revise": "model",
    "soft_prompt": "policy",
    "soups": "policy",
}
"""Every value of --with, and what it needs; guided takes a policy too (PAD)."""


@verb
def generate(
    model: Annotated[
        Path,
        typer.Argument(
            metavar="MODEL",
            help="A folder that palate fit or palate tune wrote, or its name on the hub (where --with says which).",
        ),
    ],
    prompt: Annotated[str, typer.Option(help="What the person says; - reads standard input.")],
    how: Annotated[
        str | None,
        typer.Option(
            "--with",
            metavar="WAY",
            help="best_of_n, guided, prompted or revise with a model of palate fit (best_of_n by default); soft_prompt, "
            "guided or soups with a policy of palate tune (soft_prompt by default).",
        ),
    ] = None,
    sampler: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="Who writes: smollm2, any Hugging Face name or folder, or openai:MODEL@URL. smollm2 by default, the "
            "policy's base for a policy.",
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="A setting of the way (n=8, guidance=2); may be repeated."),
    ] = None,
    values: Annotated[
        Path | None, typer.Option(metavar="FILE", help="guided: value heads that fit_values made, instead of rewards.")
    ] = None,
    guard: Annotated[
        float | None,
        typer.Option(
            metavar="LOGITS",
            help="Personalize only where people differ, by so many logits and more; 1.3 suits hierarchical.",
        ),
    ] = None,
    guard_radius: Annotated[
        float | None,
        typer.Option(
            metavar="LOGITS", help="Personalize only where what all share is indifferent, up to so many logits."
        ),
    ] = None,
    mix: Annotated[
        list[str] | None,
        typer.Option(metavar="FOLDER=WEIGHT", help="soups: a policy and its weight; once for each, MODEL too."),
    ] = None,
    user: Annotated[str | None, typer.Option(metavar="ID", help="A person of the training data.")] = None,
    user_text: Annotated[str, typer.Option(help="What the person says of themselves.")] = "",
    answers: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Choices of one new person, who is placed by them first.")
    ] = None,
    state: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The state of a person, from -o or palate adapt.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", metavar="STATE", help="Where the person's state goes.")
    ] = None,
    max_tokens: Annotated[int, typer.Option(help="The answer is cut after so many tokens.")] = 256,
    temperature: Annotated[
        float | None, typer.Option(help="0 takes the likeliest token every time. Default: 0; of best_of_n 1.")
    ] = None,
    top_p: Annotated[float, typer.Option(help="Draw from the likeliest tokens of so much probability.")] = 1.0,
    repetition_penalty: Annotated[float, typer.Option(help="1 lets the model repeat itself.")] = 1.0,
    base: Annotated[
        str | None, typer.Option(metavar="MODEL", help="The base model of a policy, where it lies elsewhere.")
    ] = None,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Answer a prompt the way one person likes; without --user, --answers and --state for somebody unknown.

    \b
      palate generate model --user ann --prompt "Tell me about bees."
      palate generate model --state me.state --with guided --set guidance=2 --prompt "Tell me about bees."
      palate generate model --answers answers.csv --with revise --sampler openai:qwen@http://localhost:8000/v1 --prompt "…"
      palate generate model --with prompted --user-text "I am a beekeeper." --prompt "Tell me about bees."
      palate generate policy --user ann --prompt "Tell me about bees."
      palate generate brief --with soups --mix brief=0.5 --mix funny=0.5 --prompt "Tell me about bees."
    """
    if sum(given is not None for given in (user, answers, state)) > 1:
        raise InputError("say who it is in one way: --user, --answers or --state")
    if out is not None:
        output_file(out)
    asked = sys.stdin.read().strip() if prompt == "-" else prompt
    if not asked.strip():
        raise InputError("--prompt is empty; say what the person says")
    policy = _is_policy(model, how)
    way = _way(model, how, policy=policy)
    guards = {name: held for name, held in (("spread", guard), ("radius", guard_radius)) if held is not None}
    given = {
        "--values": values is not None, "--guard": guard is not None, "--guard-radius": guard_radius is not None, "--mix": mix,
        "--user": user, "--user-text": user_text, "--answers": answers, "--state": state, "-o": out, "--sampler": sampler,
        "--set": settings, "--base": base,
    }  # fmt: skip
    _check(way, policy, given)
    options = parse_settings(settings)
    if way == "soups":
        generator, who = _soup(model, mix or [], base)
    elif policy:
        generator, who = _with_policy(way, model, base, sampler, options, (user, user_text, answers, state), out)
    else:
        generator, who = _with_model(
            way, model, sampler, options, values, guards, (user, user_text, answers, state), out
        )
    drawing = {"max_tokens": max_tokens, "top_p": top_p, "repetition_penalty": repetition_penalty}
    if temperature is not None:
        drawing["temperature"] = temperature
    with progress_bar() as progress:
        stream = generator.stream(asked, who, rng=seed, progress=progress, **drawing)
        if not as_json:
            for piece in stream:
                print(piece, end="", flush=True)
            print()
        reply = stream.finish()
    if as_json:
        told = {"model": str(model), "with": way, "user": user, "prompt": asked, "reply": reply.text}
        told |= {"personalized": reply.personalized, "note": reply.note}
        scored = [
            {"reply": each.text, "score": None if each.score != each.score else each.score} for each in reply.candidates
        ]
        emit(told | {"candidates": scored})
    elif reply.note:
        say(f"note: {reply.note}")


def _is_policy(model: Path, how: str | None) -> bool:
    """Whether MODEL is of `palate tune`; of what is not here, on the hub say, --with tells, and without it a policy is meant."""
    if model.is_dir():
        return (model / "users.safetensors").is_file()
    return how in (None, "guided") or WAYS.get(str(how)) == "policy"


def _way(model: Path, how: str | None, *, policy: bool) -> str:
    """--with, checked against what MODEL is."""
    if how is None:
        return "soft_prompt" if policy else "best_of_n"
    if how not in WAYS:
        raise InputError(f"--with {how}: unknown; there are: {', '.join(WAYS)}")
    if how != "guided" and (WAYS[how] == "policy") != policy:
        made = {"policy": "a policy of palate tune", "model": "a reward model of palate fit"}
        raise InputError(f"--with {how} needs {made[WAYS[how]]}, and {model} is none")
    return how


def _check(way: str, policy: bool, given: Mapping[str, Any]) -> None:
    """Options that would do nothing are mistakes.

    Args:
        way: of --with.
        policy: whether MODEL is one.
        given: options by name, those that were not given None or empty.
    """

    def refuse(names: Sequence[str], why: str) -> None:
        for name in names:
            if given[name]:
                raise InputError(f"{name} {why}; leave it out")

    if way != "guided" or policy:
        refuse(["--values"], "steers --with guided and a model of palate fit")
    if policy or given["--values"] or way == "prompted":
        refuse(["--guard", "--guard-radius"], "holds the rewards of a model of palate fit (best_of_n, guided, revise)")
    if way == "guided":
        refuse(["--guard"], "holds pairs of whole replies (best_of_n, revise), and --with guided takes --guard-radius")
    if (way == "soups") != bool(given["--mix"]):
        raise InputError("--mix FOLDER=WEIGHT says what --with soups mixes; give both, or neither")
    if way == "soups":
        refuse(
            ["--set", "--user", "--user-text", "--answers", "--state", "-o"],
            "beside --mix, which says whose replies are mixed",
        )
    if not policy and way != "prompted":
        refuse(["--user-text"], "is told by --with prompted, or to a policy")
    if way in ("soft_prompt", "soups"):
        refuse(["--sampler"], f"beside --with {way}, where the policy writes itself")
    if not policy:
        refuse(["--base"], "is of a policy of palate tune")
        if given["--user-text"]:
            refuse(["-o"], "beside --user-text, of which there is no state to write")


def _with_policy(
    way: str,
    folder: Path,
    base: str | None,
    sampler: str | None,
    options: dict[str, Any],
    who: tuple[str | None, str, Path | None, Path | None],
    out: Path | None,
) -> tuple[Generator, UserState]:
    from palate.generate import Guided, PolicyGuide, SoftPrompt, make_sampler
    from palate.policies import Policy

    policy = Policy.from_pretrained(folder, base=base)
    state = _policy_person(policy, *who)
    if out is not None:
        policy.save_person(state, out)
    if way == "guided":
        # At 1 it is the policy itself, over the plain model's likeliest tokens.
        return Guided(make_sampler(sampler or policy.base), PolicyGuide(policy), **{"guidance": 1.0} | options), state
    if options:
        raise InputError(f"--set {next(iter(options))}: --with {way} has no settings")
    return SoftPrompt(policy), state


def _policy_person(
    policy: Policy, user: str | None, user_text: str, answers: Path | None, state: Path | None
) -> UserState:
    if state is not None:
        if user_text:
            raise InputError("--user-text beside --state, which holds the person's own words already; give one of them")
        return policy.load_person(state)
    if answers is not None:
        with progress_bar() as progress:
            return policy.adapt(answers_of_one(str(answers)), user_text=user_text, progress=progress)
    return policy.meet(user_text) if user is None else policy.person(user, user_text=user_text or None)


def _soup(folder: Path, mix: Sequence[str], base: str | None) -> tuple[Generator, UserState]:
    from palate.generate import Soup
    from palate.policies import Policy

    weights = {name: value for each in mix for name, value in parse_settings([each], "--mix").items()}
    wrong = next(
        (name for name, value in weights.items() if isinstance(value, bool) or not isinstance(value, (int, float))),
        None,
    )
    if wrong is not None:
        raise InputError(f"--mix {wrong}={weights[wrong]}: the weight must be a number")
    names = list(dict.fromkeys([str(folder), *weights]))
    soup = Soup({name: Policy.from_pretrained(name, base=base) for name in names})
    return soup, soup.state(weights)


def _with_model(
    way: str,
    folder: Path,
    sampler: str | None,
    options: dict[str, Any],
    values: Path | None,
    guards: Mapping[str, float],
    who: tuple[str | None, str, Path | None, Path | None],
    out: Path | None,
) -> tuple[Generator, UserState]:
    from palate import api
    from palate.generate import BestOfN, Guided, Prompted, Revise, make_sampler
    from palate.models.guard import guarded
    from palate.types import UserState

    user, user_text, answers, saved = who
    model, writer = api.load_model(folder), make_sampler(sampler or "smollm2")
    if way == "prompted" and user_text:
        if (user, answers, saved) != (None, None, None):
            raise InputError("--user-text beside a person of the model; give one of them")
        stated = Prompted(writer, **options)
        return stated, stated.state(user_text)
    state = _model_person(model, user, answers, saved, out)
    if way == "guided":
        return Guided(writer, _guide(model, options, values, guards.get("radius")), **options), state
    if guards:
        model = guarded(model, **guards)
        state = UserState(model.method.admit(state.batch))
    if way == "best_of_n":
        return BestOfN(writer, model, **options), state
    if way == "revise":
        return Revise(writer, model, **options), state
    return Prompted(writer, model, axes=_axes(model), **options), state


def _guide(model: AskingRewardModel, options: dict[str, Any], values: Path | None, radius: float | None) -> Guide:
    from palate.generate import RewardGuide, ValueGuide, ValueHeads

    share = options.pop("share", "personal")
    if values is not None:
        return ValueGuide(model, ValueHeads.load(values), share=share)
    return RewardGuide(model, share=share, radius=radius)


def _model_person(
    model: AskingRewardModel, user: str | None, answers: Path | None, saved: Path | None, out: Path | None
) -> UserState:
    if saved is not None:
        person = model.load_person(saved)
    elif answers is not None:
        with progress_bar() as progress:
            person = model.adapt(answers_of_one(str(answers)), progress=progress)
    else:
        person = model.adapt() if user is None else model.person(user)
    if out is not None:
        person.save(out)
    return person.state


def _axes(model: AskingRewardModel) -> list[Any]:
    """Axes of taste in words, found over the shipped replies."""
    from palate.data.corpus import replies
    from palate.elicit.profile import axis_names

    if not model.method.traits.linear:
        raise InputError(f"{model.method.name} has no axes of taste to tell; give --user-text, or fit hierarchical")
    texts = [(reply.prompt, reply.text) for reply in replies()]
    with progress_bar() as progress:
        return axis_names(model.method, model.items(texts, progress=progress), texts)
