"""Sampling replies from a policy, one token after the other, for several prompts at a time.

transformers' own `generate` draws from the global generator and sees no prompt where it is given embeddings; here every
draw comes from `rng`, and a reply does not depend on what else is in the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from palate.config import Config
from palate.errors import InputError
from palate.policies.network import PolicyNetwork

if TYPE_CHECKING:
    from palate.policies.sequences import PromptFormat

__all__ = ["Decoding", "Sampling", "Steer", "generate", "pieces", "stop_tokens"]


class Sampling(Config):
    """How replies are drawn."""

    max_tokens: int = Field(256, ge=1, description="A reply is cut after so many tokens.")
    temperature: float = Field(0.0, ge=0, description="0 takes the likeliest token every time.")
    top_p: float = Field(1.0, gt=0, le=1, description="Draw from the likeliest tokens of so much probability together.")
    repetition_penalty: float = Field(
        1.0, ge=1, description="Tokens that were said before are made this much less likely; 1 changes nothing."
    )


Steer = Callable[[np.ndarray, np.ndarray, Sequence[int]], np.ndarray]
"""(logits (v,), the same before the penalty of repetition, tokens said so far) -> logits (v,): what a guide makes of them."""


class Decoding:
    """Several replies under way: next-token logits, one token after the other, with cached keys and values.

    Args:
        network: the policy.
        form: says what stands before the soft tokens, and what ends a reply.
        prompts: n prompts as tokens.
        soft: (n, T, d) soft tokens; None where there are none.
        copies: replies to each prompt, which is read once for all of them.
        room: tokens that must still fit after the longest prompt.

    Raises:
        InputError: a prompt with `room` tokens is longer than the model reads.
    """

    def __init__(
        self,
        network: PolicyNetwork,
        form: PromptFormat,
        prompts: Sequence[tuple[int, ...]],
        soft: Tensor | None,
        *,
        copies: int = 1,
        room: int = 0,
    ) -> None:
        lead = len(form.head) + (0 if soft is None else soft.shape[1])
        longest = lead + max(map(len, prompts))
        if longest + room > network.context:
            raise InputError(
                f"the prompt has {longest:,} tokens and the model reads {network.context:,}, {room:,} of them "
                "for the reply; shorten the prompt, or lower max_tokens"
            )
        self._network, self._copies, self._cache = network, copies, None
        network.eval()
        with torch.inference_mode():
            self._inputs, self._present = _left_padded(network, form, prompts, soft)
            self._positions = (self._present.cumsum(1) - 1).clamp_min(0)

    def logits(self) -> np.ndarray:
        """(n · copies, v) float64 logits of each reply's next token; once before each `push`."""
        with torch.inference_mode():
            output = self._network.plain(
                inputs_embeds=self._inputs,
                attention_mask=self._present,
                position_ids=self._positions[:, -self._inputs.shape[1] :],
                past_key_values=self._cache,
                use_cache=True,
                logits_to_keep=1,
            )
            first = self._cache is None
            self._cache, logits = output.past_key_values, output.logits[:, -1]
            if first and self._copies > 1:
                self._cache.batch_repeat_interleave(self._copies)
                logits, self._present, self._positions = (
                    part.repeat_interleave(self._copies, 0) for part in (logits, self._present, self._positions)
                )
            return logits.double().cpu().numpy()

    def push(self, tokens: Sequence[int]) -> None:
        """Go on with one token (n · copies,) a reply."""
        with torch.inference_mode():
            last = torch.tensor(tokens, device=self._network.device)[:, None]
            self._inputs = self._network.plain.get_input_embeddings()(last)
            self._present = torch.cat([self._present, self._present.new_ones(len(tokens), 1)], 1)
            self._positions = torch.cat([self._positions, self._positions[:, -1:] + 1], 1)


def generate(
    network: PolicyNetwork,
    form: PromptFormat,
    prompts: Sequence[tuple[int, ...]],
    soft: Tensor | None,
    sampling: Sampling,
    rngs: Sequence[np.random.Generator],
    *,
    steer: Steer | None = None,
    read_last: bool = False,
) -> Iterator[list[int | None]]:
    """The next token of every reply, until all have ended; None for one that has.

    Args:
        network: the policy.
        form: says what stands before the soft tokens, and what ends a reply.
        prompts: n prompts as tokens.
        soft: (n, T, d) soft tokens; None where there are none.
        sampling: the settings.
        rngs: n · c generators, one a reply: c replies to the first prompt, c to the second, …
        steer: changes the logits of every reply before a token is taken.
        read_last: let the model read the last tokens too, though nothing follows them, for who listens to its states.

    Raises:
        InputError: a prompt is longer than the model reads.
    """
    copies = len(rngs) // len(prompts)
    decoding = Decoding(network, form, prompts, soft, copies=copies, room=sampling.max_tokens)
    stops = stop_tokens(network, form)
    said: list[list[int]] = [[] for _ in rngs]
    running = [True] * len(rngs)
    for _ in range(sampling.max_tokens):
        found: list[int | None] = []
        for row, values in enumerate(decoding.logits()):
            token = None
            if running[row]:
                raw = values if steer is None else values.copy()
                values = _penalised(values, said[row], sampling)
                token = _draw(values if steer is None else steer(values, raw, said[row]), sampling, rngs[row])
            running[row] = token is not None and token not in stops
            found.append(token if running[row] else None)
            said[row].append(token if token is not None else form.end[-1])
        yield found
        if not any(running):
            return
        decoding.push([tokens[-1] for tokens in said])
    if read_last:
        decoding.logits()


def pieces(tokenizer: object, tokens: Iterator[int | None]) -> Iterator[str]:
    """Tokens as pieces of text; a character of several tokens comes whole."""
    said: list[int] = []
    shown = ""
    for token in tokens:
        if token is None:
            break
        said.append(token)
        text = tokenizer.decode(said, skip_special_tokens=True)
        if not text.endswith("�"):
            yield text[len(shown) :]
            shown = text
    rest = tokenizer.decode(said, skip_special_tokens=True)[len(shown) :]
    if rest:
        yield rest


def stop_tokens(network: PolicyNetwork, form: PromptFormat) -> frozenset[int]:
    """The tokens that end a reply."""
    own = network.plain.generation_config.eos_token_id
    listed = [] if own is None else [own] if isinstance(own, int) else list(own)
    return frozenset([*listed, form.end[-1]])


def _left_padded(
    network: PolicyNetwork, form: PromptFormat, prompts: Sequence[tuple[int, ...]], soft: Tensor | None
) -> tuple[Tensor, Tensor]:
    """(n, t, d) embeddings that end where replies begin, and (n, t) what is no padding."""
    words = network.plain.get_input_embeddings()
    rows = []
    for number, prompt in enumerate(prompts):
        head = words(torch.tensor(form.head, dtype=torch.int64, device=network.device))
        text = words(torch.tensor(prompt, dtype=torch.int64, device=network.device))
        rows.append(torch.cat([head, *([] if soft is None else [soft[number].to(text)]), text]))
    length = max(map(len, rows))
    inputs = rows[0].new_zeros(len(rows), length, rows[0].shape[1])
    present = torch.zeros(len(rows), length, dtype=torch.int64, device=network.device)
    for number, row in enumerate(rows):
        inputs[number, length - len(row) :] = row
        present[number, length - len(row) :] = 1
    return inputs, present


def _penalised(logits: np.ndarray, said: Sequence[int], sampling: Sampling) -> np.ndarray:
    """The logits (v,), checked, with those of tokens that were said before made smaller in place."""
    if sampling.repetition_penalty != 1.0 and said:
        before = np.unique(said)
        own = logits[before]
        logits[before] = np.where(own > 0, own / sampling.repetition_penalty, own * sampling.repetition_penalty)
    if not np.isfinite(logits).any() or np.isnan(logits).any():
        raise InputError("the policy's logits are not finite; load it with dtype='float32'")
    return logits


def _draw(logits: np.ndarray, sampling: Sampling, rng: np.random.Generator) -> int:
    """One token from logits (v,)."""
    if sampling.temperature == 0.0:
        return int(logits.argmax())
    probability = np.exp((logits - logits.max()) / sampling.temperature)
    probability /= probability.sum()
    if sampling.top_p < 1.0:
        order = np.argsort(-probability, kind="stable")
        kept = order[: int(np.searchsorted(np.cumsum(probability[order]), sampling.top_p)) + 1]
        probability = np.where(np.isin(np.arange(len(probability)), kept), probability, 0.0)
        probability /= probability.sum()
    return int(np.searchsorted(np.cumsum(probability), rng.random(), side="right").clip(0, len(probability) - 1))
