"""The one training loop of all trainable methods.

A method brings a torch module and a loss over units (comparisons, or people); the loop brings batches, the optimiser,
the schedule, early stopping and determinism. What turns an item into a vector is an `Encoder`: a frozen table here,
a language model with gradients where one is put under the same module.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from palate.config import Config
from palate.errors import InputError
from palate.progress import Progress, record, silent
from palate.rng import torch_generator
from palate.types import Comparisons, Items

__all__ = [
    "Encoder",
    "PreferenceModule",
    "Record",
    "Rows",
    "Scaling",
    "TableEncoder",
    "TrainingConfig",
    "build",
    "load_weights",
    "preference_loss",
    "schedule_factor",
    "train",
    "weights_of",
]

Module = TypeVar("Module", bound=nn.Module)
Loss = Callable[[Tensor, torch.Generator], Tensor]


class TrainingConfig(Config):
    """How a trainable method is trained."""

    epochs: int = Field(20, ge=1, description="Passes over the training units; not used where `steps` is given.")
    steps: int | None = Field(None, ge=1, description="Optimiser steps in all, whatever the amount of data.")
    batch_size: int = Field(256, ge=1, description="Units (comparisons, or people) per step.")
    learning_rate: float = Field(1e-3, gt=0, description="Peak learning rate.")
    optimizer: Literal["adam", "adamw", "sgd"] = Field("adamw", description="SGD is plain, without momentum.")
    weight_decay: float = Field(0.0, ge=0, description="Of matrices; decoupled for AdamW, else an L2 gradient.")
    schedule: Literal["constant", "cosine"] = Field("cosine", description="Course of the rate after the warm-up.")
    warmup: float = Field(0.0, ge=0, lt=1, description="Share of the steps in which the rate rises from 0.")
    clip: float = Field(1.0, ge=0, description="Largest norm of the gradient; 0 does not clip.")
    heldout: float = Field(0.0, ge=0, lt=1, description="Share of the training units set aside to stop early.")
    patience: int = Field(3, ge=1, description="Epochs without a better held-out loss before training stops.")


class Encoder(Protocol):
    """What turns items into vectors, with gradients where it has something to learn."""

    dim: int

    def encode(self, index: Tensor, prefix: Tensor | None = None) -> Tensor:
        """(b, dim) vectors of the items at `index` (b,); `prefix` (b, t, ·) soft tokens before each text."""


class TableEncoder(nn.Module):
    """Frozen features, looked up.

    Args:
        features: (n, dim) float32.
    """

    def __init__(self, features: np.ndarray) -> None:
        super().__init__()
        self.register_buffer("table", torch.from_numpy(np.ascontiguousarray(features, np.float32)), persistent=False)
        self.dim = features.shape[1]

    def encode(self, index: Tensor, prefix: Tensor | None = None) -> Tensor:
        """(b, dim) rows of the table."""
        if prefix is not None:
            raise InputError("frozen features cannot take a prefix; use an encoder that runs the language model")
        return self.table[index]


class PreferenceModule(Protocol):
    """A torch module (`nn.Module`) that says how likely each person prefers left."""

    def logits(self, left: Tensor, right: Tensor, user: Tensor) -> Tensor:
        """(b,) logits from item vectors (b, d) and people (b,)."""

    def penalty(self) -> Tensor:
        """Minus the log of the prior of what is learned, in nats; 0 without a prior."""


@dataclass(frozen=True)
class Rows:
    """Comparisons as tensors: rows without weight dropped, weights scaled to a mean of 1.

    Args:
        left, right, user: (m,) int64.
        label, weight, offset: (m,) float32.
        total: sum of the weights before scaling, the number of observations.
    """

    left: Tensor
    right: Tensor
    user: Tensor
    label: Tensor
    weight: Tensor
    offset: Tensor
    total: float

    @classmethod
    def of(cls, comparisons: Comparisons, offset: np.ndarray) -> Rows:
        """From `comparisons` and the fixed part of each logit (m,)."""
        keep = comparisons.weight > 0
        columns = (comparisons.left, comparisons.right, comparisons.user)
        indices = [torch.from_numpy(column[keep].astype(np.int64)) for column in columns]
        weight = comparisons.weight[keep]
        numbers = [comparisons.label[keep], weight / weight.mean(), offset[keep]]
        floats = [torch.from_numpy(column.astype(np.float32)) for column in numbers]
        return cls(*indices, *floats, total=float(weight.sum()))

    def __len__(self) -> int:
        return len(self.left)


@dataclass(frozen=True)
class Scaling:
    """Centre and scale of features, as seen in training: x -> (x - mean) / scale.

    Args:
        mean, scale: (d,) float64; a feature that never varies has scale 1.
    """

    mean: np.ndarray
    scale: np.ndarray

    @classmethod
    def of(cls, comparisons: Comparisons) -> Scaling:
        """From the items that occur in `comparisons`, each counted once."""
        seen = np.unique(np.concatenate([comparisons.left, comparisons.right]))
        features = comparisons.items.features[seen].astype(np.float64)
        scale = features.std(0)
        return cls(features.mean(0), np.where(scale > 1e-8 * np.abs(features).max(initial=1.0), scale, 1.0))

    def __call__(self, items: Items) -> np.ndarray:
        """(n, d) float32 scaled features."""
        return ((items.features - self.mean) / self.scale).astype(np.float32)


@dataclass(frozen=True)
class Record:
    """What happened in training.

    Args:
        steps: optimiser steps taken.
        losses: mean training loss of each epoch.
        heldout_losses: loss on the units set aside, after each epoch; empty without any.
    """

    steps: int
    losses: tuple[float, ...]
    heldout_losses: tuple[float, ...]


def build(constructor: Callable[[], Module], rng: np.random.Generator) -> Module:
    """A module whose initial weights are drawn from `rng`; torch's global generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(rng.integers(2**63 - 1)))
        return constructor()


def preference_loss(module: PreferenceModule, encoder: Encoder, rows: Rows) -> Loss:
    """The weighted Bradley–Terry loss of rows, soft labels allowed, plus the module's penalty per observation.

    loss(rows) = mean_i w_i [softplus(s_i) - y_i s_i] + penalty / total weight, with s_i = logit_i + offset_i.
    """

    def loss(units: Tensor, generator: torch.Generator) -> Tensor:
        left, right = encoder.encode(rows.left[units]), encoder.encode(rows.right[units])
        logits = module.logits(left, right, rows.user[units]) + rows.offset[units]
        label, weight = rows.label[units], rows.weight[units]
        likelihood = functional.binary_cross_entropy_with_logits(logits, label, weight)
        return likelihood + module.penalty() / rows.total

    return loss


def train(
    module: nn.Module,
    loss: Loss,
    n_units: int,
    config: TrainingConfig,
    *,
    rng: np.random.Generator,
    progress: Progress = silent,
    what: str = "training",
) -> Record:
    """Train `module` in place.

    Args:
        module: its parameters with `requires_grad` are learned.
        loss: mean loss of the units at an index (b,) int64, given a generator for its own draws.
        n_units: how many units there are to draw batches from.
        config: the settings.
        rng: batches, the loss's draws and dropout depend on it alone.
        progress: called about a hundred times.
        what: the word for `progress`.

    Raises:
        InputError: the loss is no longer finite.
    """
    generator = torch_generator(rng)
    order = torch.randperm(n_units, generator=generator)
    n_heldout = min(int(round(config.heldout * n_units)), n_units - 1)
    heldout, units = order[:n_heldout].sort().values, order[n_heldout:].sort().values
    per_epoch = math.ceil(len(units) / config.batch_size)
    steps = config.steps or config.epochs * per_epoch
    optimizer = _optimizer(module, config)
    losses: list[float] = []
    heldout_losses: list[float] = []
    best = weights_of(module) if n_heldout else {}
    step = 0
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(rng.integers(2**63 - 1)))
        while step < steps:
            module.train()
            batches = units[torch.randperm(len(units), generator=generator)].split(config.batch_size)
            epoch = []
            for batch in batches[: steps - step]:
                rate = config.learning_rate * schedule_factor(step, steps, config)
                epoch.append(_step(module, optimizer, loss(batch, generator), rate, config.clip, step))
                step += 1
                if step % max(1, steps // 100) == 0:
                    record(what, step, loss=epoch[-1], learning_rate=rate)
                    progress(step, steps, what)
            losses.append(float(np.mean(epoch)))
            if n_heldout:
                heldout_losses.append(_evaluate(module, loss, heldout, config))
                record(what, step, heldout_loss=heldout_losses[-1])
                if heldout_losses[-1] == min(heldout_losses):
                    best = weights_of(module)
                elif len(heldout_losses) - 1 - int(np.argmin(heldout_losses)) >= config.patience:
                    break
    if n_heldout:
        load_weights(module, best)
    module.eval()
    return Record(step, tuple(losses), tuple(heldout_losses))


def _optimizer(module: nn.Module, config: TrainingConfig) -> torch.optim.Optimizer:
    """The optimiser; weight decay falls on matrices only, not on biases, norms and embeddings (people have a prior).

    A module may train some parameters faster: its `rate_factors` maps their names to multiples of the learning rate.
    """
    kinds = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}
    exempt = {id(part.weight) for part in module.modules() if isinstance(part, nn.Embedding)}
    factors: Mapping[str, float] = getattr(module, "rate_factors", {})
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            decay = config.weight_decay if parameter.ndim >= 2 and id(parameter) not in exempt else 0.0
            groups.setdefault((decay, factors.get(name, 1.0)), []).append(parameter)
    return kinds[config.optimizer](
        [{"params": part, "weight_decay": decay, "factor": factor} for (decay, factor), part in groups.items()],
        lr=config.learning_rate,
    )


def _step(
    module: nn.Module, optimizer: torch.optim.Optimizer, loss: Tensor, rate: float, clip: float, step: int
) -> float:
    value = float(loss.detach())
    if not math.isfinite(value):
        raise InputError(f"the loss is {value} at step {step + 1}; lower learning_rate (it is {rate:.3g} there)")
    for group in optimizer.param_groups:
        group["lr"] = rate * group["factor"]
    optimizer.zero_grad()
    loss.backward()
    if clip:
        nn.utils.clip_grad_norm_(module.parameters(), clip)
    optimizer.step()
    return value


def schedule_factor(step: int, steps: int, config: TrainingConfig) -> float:
    """Share of the peak learning rate at `step` of `steps`, counted from 0: linear warm-up, then the schedule."""
    warm = round(config.warmup * steps)
    if step < warm:
        return (step + 1) / warm
    if config.schedule == "constant":
        return 1.0
    return 0.5 * (1.0 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


def _evaluate(module: nn.Module, loss: Loss, units: Tensor, config: TrainingConfig) -> float:
    """Mean loss over units, with the same draws at every call."""
    module.eval()
    generator = torch.Generator().manual_seed(0)
    batches = units.split(config.batch_size)
    with torch.no_grad():
        return sum(float(loss(batch, generator)) * len(batch) for batch in batches) / len(units)


def weights_of(module: nn.Module) -> dict[str, np.ndarray]:
    """The module's weights by name, as NumPy arrays of their own."""
    return {name: tensor.detach().cpu().numpy().copy() for name, tensor in module.state_dict().items()}


def load_weights(module: Module, weights: Mapping[str, np.ndarray]) -> Module:
    """Put weights from `weights_of` into a module of the same shape, which is returned in evaluation mode."""
    module.load_state_dict({name: torch.from_numpy(np.array(array)) for name, array in weights.items()})
    return module.eval()
