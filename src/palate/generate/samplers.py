"""What writes replies: a language model in this process, or one behind an OpenAI-compatible endpoint."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol, Self

import numpy as np

from palate.backends.hidden import listening
from palate.backends.huggingface import load_causal, load_tokenizer
from palate.backends.openai import ChatClient
from palate.data.conversations import as_messages, unflatten
from palate.errors import ConfigError, EndpointError, InputError
from palate.policies.generation import Sampling, Steer, generate, pieces, stop_tokens
from palate.policies.network import PolicyNetwork
from palate.policies.sequences import Prompt, PromptFormat
from palate.policies.user_model import UserModel
from palate.progress import Progress, silent
from palate.types import UserState

if TYPE_CHECKING:
    from torch import Tensor

    from palate.policies.policy import Policy

__all__ = ["Drawn", "EndpointSampler", "LocalSampler", "Sampler", "make_sampler"]


@dataclass(frozen=True)
class Trace:
    """What a local model read of its own reply.

    Args:
        tokens: T of them.
        states: (T, d) float32, of the layer that was listened to.
    """

    tokens: tuple[int, ...]
    states: np.ndarray


@dataclass(frozen=True)
class Drawn:
    """Replies to one prompt.

    Args:
        texts: those that came, in order.
        missing: why some did not, in one line; "" where all came.
        traces: one for each text, where a layer was listened to.
    """

    texts: tuple[str, ...]
    missing: str = ""
    traces: tuple[Trace, ...] = ()


class Sampler(Protocol):
    """Anything that writes replies to a conversation."""

    def sample(
        self, messages: Prompt, n: int, *, rng: np.random.Generator, sampling: Sampling, progress: Progress = silent
    ) -> Drawn:
        """n replies, independent of each other; the first one is what `stream` says with the same `rng`.

        Args:
            messages: a text or messages.
            n: how many; at temperature 0 they are all the same.
            rng: of the draws; n children are spawned from it.
            sampling: the settings.
            progress: called with the number of replies, or tokens, done.

        Raises:
            InputError: the conversation is longer than the model reads.
            EndpointError: not one reply came.
        """

    def stream(self, messages: Prompt, *, rng: np.random.Generator, sampling: Sampling) -> Iterator[str]:
        """One reply, piece by piece; arguments as in `sample`."""


class LocalSampler:
    """A causal language model in this process, with or without a chat template.

    Args:
        model: a bundled name ("smollm2"), a model folder, or a name on the hub; or a network with its format.
        dtype: auto, float32, bfloat16 or float16.
        device: auto, cpu, cuda, cuda:1, mps.

    Attributes:
        name: of the model; None where a network was given.
        network, form: the model, and how texts become its tokens.
        soft: (1, T, d) soft tokens before every prompt; None where there are none.
        words: tokens before every prompt, of what a person says of themselves.
    """

    def __init__(
        self,
        model: str | tuple[PolicyNetwork, PromptFormat] = "smollm2",
        *,
        dtype: str = "auto",
        device: str = "auto",
    ) -> None:
        self.name = model if isinstance(model, str) else None
        if isinstance(model, str):
            form = PromptFormat(load_tokenizer(model))
            plain = load_causal(model, dtype=dtype, device=device).requires_grad_(False)
            width = plain.get_input_embeddings().weight.shape[1]
            self.network, self.form = PolicyNetwork(plain, UserModel("uniform", 0, 0, width)), form
        else:
            self.network, self.form = model
        self.soft: Tensor | None = None
        self.words: tuple[int, ...] = ()

    @classmethod
    def of_policy(cls, policy: Policy, state: UserState | None = None) -> Self:
        """A tuned policy as it answers one person; None for nobody in particular.

        Raises:
            FingerprintError: the state belongs to another policy.
        """
        state = policy.meet() if state is None else state
        sampler = cls((policy.network, policy.form))
        sampler.soft = policy.soft(state.batch)
        sampler.words = policy.form.words([state["user_text"]])[0]
        return sampler

    @cached_property
    def vocabulary(self) -> dict[str, int]:
        """The number of every token."""
        return self.form.tokenizer.get_vocab()

    @property
    def stops(self) -> frozenset[int]:
        """The tokens that end a reply."""
        return stop_tokens(self.network, self.form)

    def prompt(self, messages: Prompt) -> tuple[int, ...]:
        """The tokens that the model reads before a reply, without BOS and soft tokens."""
        return self.words + self.form.prompts([messages])[0]

    def sample(
        self,
        messages: Prompt,
        n: int,
        *,
        rng: np.random.Generator,
        sampling: Sampling,
        progress: Progress = silent,
        layer: int | None = None,
    ) -> Drawn:
        """n replies side by side; see `Sampler.sample`.

        With `layer` the states of that layer, below the last, come along: a reward model on the same states need not read
        the replies again.
        """
        rngs = rng.spawn(n)
        if sampling.temperature == 0.0:
            rngs = rngs[:1]
        heard: list[Tensor] = []
        steps = []
        with nullcontext() if layer is None else listening(self.network.plain, layer, heard):
            for step in self._tokens(messages, rngs, sampling, read_last=layer is not None):
                steps.append(step)
                progress(len(steps), sampling.max_tokens, "tokens")
        texts, traces = [], []
        for row in range(len(rngs)):
            tokens = [step[row] for step in steps if step[row] is not None]
            texts.append("".join(pieces(self.form.tokenizer, iter(tokens))).strip())
            if layer is not None:
                # The first pass read the prompt; each later one a token of every reply.
                states = [part[row].cpu().numpy() for part in heard[1 : len(tokens) + 1]]
                traces.append(Trace(tuple(tokens), np.array(states, np.float32)))
        copies = n if len(rngs) < n else 1
        return Drawn(tuple(texts) * copies, traces=tuple(traces) * copies)

    def stream(
        self, messages: Prompt, *, rng: np.random.Generator, sampling: Sampling, steer: Steer | None = None
    ) -> Iterator[str]:
        """One reply, piece by piece; `steer` changes the logits before each token. See `Sampler.stream`."""
        tokens = self._tokens(messages, rng.spawn(1), sampling, steer=steer)
        return pieces(self.form.tokenizer, (step[0] for step in tokens))

    def _tokens(
        self,
        messages: Prompt,
        rngs: Sequence[np.random.Generator],
        sampling: Sampling,
        **options: Any,
    ) -> Iterator[list[int | None]]:
        """The tokens of each step; `options` as of `palate.policies.generation.generate`."""
        prompt = self.prompt(messages)
        return generate(self.network, self.form, [prompt], self.soft, sampling, rngs, **options)


class EndpointSampler:
    """A chat model behind an OpenAI-compatible endpoint.

    Replies to the same prompt differ by their `seed`, which servers that know it repeat, and by the server's own chance.

    Args:
        client: of the endpoint; or the model's name, with the settings of `palate.backends.openai.EndpointConfig`.
        workers: requests at a time.
        settings: `base_url=`, `api_key=`, …, where `client` is a name.
    """

    def __init__(self, client: ChatClient | str, *, workers: int = 8, **settings: Any) -> None:
        if isinstance(client, ChatClient) and settings:
            raise InputError(f"settings {', '.join(settings)} beside a ready client; set them where it is made")
        self.client = ChatClient(model=client, **settings) if isinstance(client, str) else client
        self.workers = workers

    def sample(
        self, messages: Prompt, n: int, *, rng: np.random.Generator, sampling: Sampling, progress: Progress = silent
    ) -> Drawn:
        """n replies by n requests; where some fail, those that came. See `Sampler.sample`."""
        asked, options = _messages(messages), self._options(sampling)
        seeds = [_seed(child) for child in rng.spawn(n)]
        if sampling.temperature == 0.0:
            return Drawn((self.client.chat(asked, seed=seeds[0], **options).strip(),) * n)
        texts, failures = [], []
        with ThreadPoolExecutor(self.workers) as pool:
            futures = [pool.submit(self.client.chat, asked, seed=seed, **options) for seed in seeds]
            for done, future in enumerate(futures, start=1):
                try:
                    texts.append(future.result().strip())
                except EndpointError as error:
                    failures.append(error)
                except BaseException:
                    pool.shutdown(wait=False, cancel_futures=True)
                    raise
                progress(done, n, "candidates")
        if not texts:
            raise failures[0]
        return Drawn(tuple(texts), f"{len(failures)} of {n} did not come ({failures[0]})" if failures else "")

    def stream(self, messages: Prompt, *, rng: np.random.Generator, sampling: Sampling) -> Iterator[str]:
        """One reply, piece by piece; see `Sampler.stream`."""
        return self.client.stream(_messages(messages), seed=_seed(rng.spawn(1)[0]), **self._options(sampling))

    def _options(self, sampling: Sampling) -> dict[str, Any]:
        if sampling.repetition_penalty != 1.0:
            raise ConfigError(
                f"repetition_penalty={sampling.repetition_penalty}: endpoints take none; leave it at 1, or use a local model"
            )
        top_p = None if sampling.top_p == 1.0 else sampling.top_p
        return {"temperature": sampling.temperature, "max_tokens": sampling.max_tokens, "top_p": top_p}


def make_sampler(name: str) -> Sampler:
    """A sampler by name: `openai:MODEL@URL`, a bundled model, a model folder, or a name on the hub.

    Raises:
        ConfigError: `openai:` without a model or an address.
        InputError: there is no such model.
    """
    found = endpoint(name, "sampler")
    return LocalSampler(name) if found is None else EndpointSampler(found[0], base_url=found[1])


def endpoint(name: str, what: str) -> tuple[str, str] | None:
    """Model and address of `openai:MODEL@URL`; None for any other name.

    Args:
        name: what was given.
        what: it was given for, for the message.

    Raises:
        ConfigError: `openai:` without a model or an address.
    """
    if not name.startswith("openai:"):
        return None
    model, _, address = name.removeprefix("openai:").rpartition("@")
    if not model or not address:
        raise ConfigError(f"{what} {name!r}: write openai:MODEL@URL, e.g. openai:qwen@http://localhost:8000/v1")
    return model, address


def _messages(prompt: Prompt) -> list[dict[str, str]]:
    turns = unflatten(prompt) if isinstance(prompt, str) else as_messages(prompt)
    return [{"role": role, "content": content} for role, content in turns]


def _seed(rng: np.random.Generator) -> int:
    return int(rng.integers(2**31))
