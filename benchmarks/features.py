"""How much faster are SmolLM2 features by Palate than by the plain loop that everybody writes first?

    python benchmarks/features.py [--texts 512] [--repeats 3]      writes benchmarks/results/features.json

Plain loop: the same model, number type, threads and chat texts in the order of the corpus shuffled once, batches of 16
padded to their longest, all 30 layers, mean over the reply's tokens. Palate: its default featurizer (layer 15, sorted by
length, 1,024 tokens a batch), tokenising included on both sides, loading on neither. Blocks of 64 replies are timed
alternately, and the ratio is taken within each block, so that a busy machine slows both alike. Small blocks give Palate
fewer texts to sort, so the ratio is, if anything, too low. On a busy machine take --threads 1 and read the ratio of
processor time, which other programs hardly touch; with more threads it counts their waiting for each other too.
Must be: at least 2 times the texts per second.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from pathlib import Path

import numpy as np
import torch

from palate.backends.huggingface import load_backbone, load_tokenizer
from palate.data.corpus import replies
from palate.features import make
from palate.files import write_json
from palate.rng import derive

RESULT = Path(__file__).parent / "results" / "features.json"
BLOCK = 64
PLAIN_BATCH = 16


class PlainLoop:
    """Batches in the order given, padded to the longest text, through all layers."""

    def __init__(self, dtype: str) -> None:
        self.tokenizer = load_tokenizer("smollm2")
        self.model = load_backbone("smollm2", dtype=dtype)

    def embed(self, items: list[tuple[str, str]]) -> np.ndarray:
        return np.concatenate([self.batch(items[at : at + PLAIN_BATCH]) for at in range(0, len(items), PLAIN_BATCH)])

    def batch(self, items: list[tuple[str, str]]) -> np.ndarray:
        heads = [self._head(prompt) for prompt, _ in items]
        texts = [head + response for head, (_, response) in zip(heads, items, strict=True)]
        tokens = self.tokenizer(texts, padding=True, add_special_tokens=False, return_tensors="pt")
        starts = [len(self.tokenizer(head, add_special_tokens=False)["input_ids"]) for head in heads]
        with torch.inference_mode():
            hidden = self.model(**tokens.to(self.model.device)).last_hidden_state.float()
        mask = tokens["attention_mask"].clone()
        for row, start in enumerate(starts):
            mask[row, :start] = 0
        mask = mask[..., None].to(hidden)
        return ((hidden * mask).sum(1) / mask.sum(1)).cpu().numpy()

    def _head(self, prompt: str) -> str:
        messages = [{"role": "user", "content": prompt}]
        return self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--texts", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--dtype", default="auto", choices=["auto", "float32", "bfloat16"])
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)

    items = [(reply.prompt, reply.text) for reply in replies()]
    order = derive(1, "benchmark of features").permutation(len(items))[: arguments.texts]
    items = [items[number] for number in order]
    palate, plain = make("smollm2", dtype=arguments.dtype), PlainLoop(arguments.dtype)
    # The plain loop at Palate's layer must give Palate's numbers: the two do the same job.
    whole = make("smollm2", dtype=arguments.dtype, layer=-1).embed(items[:PLAIN_BATCH])
    apart = float(np.abs(whole - plain.embed(items[:PLAIN_BATCH])).max() / np.abs(whole).max())
    palate.embed(items[:PLAIN_BATCH])

    seconds: dict[str, list[float]] = {"palate": [], "plain": []}
    processor: dict[str, list[float]] = {"palate": [], "plain": []}
    for repeat in range(arguments.repeats):
        for at in range(0, len(items), BLOCK):
            pair = [("palate", palate), ("plain", plain)]
            for name, featurizer in pair if (at // BLOCK + repeat) % 2 == 0 else pair[::-1]:
                start, used = time.perf_counter(), time.process_time()
                featurizer.embed(items[at : at + BLOCK])
                seconds[name].append(time.perf_counter() - start)
                processor[name].append(time.process_time() - used)
            print(
                f"{at + BLOCK:4} texts: " + "  ".join(f"{name} {times[-1]:.1f} s" for name, times in seconds.items()),
                flush=True,
            )
    write_json(RESULT, summary(seconds, processor, items, plain, apart, arguments.repeats))
    print(RESULT.read_text())


def summary(
    seconds: dict, processor: dict, items: list[tuple[str, str]], plain: PlainLoop, apart: float, repeats: int
) -> dict:
    texts = len(items) * repeats
    palate, slow = (np.array(seconds[name]) for name in ("palate", "plain"))
    rng = derive(2, "benchmark of features")
    draws = rng.integers(len(palate), size=(2000, len(palate)))
    low, high = np.quantile(np.median(slow[draws] / palate[draws], axis=1), [0.025, 0.975])
    return {
        "texts": len(items),
        "repeats": repeats,
        "blocks": len(palate),
        "ratio": round(float(np.median(slow / palate)), 3),
        "ratio_low": round(float(low), 3),
        "ratio_high": round(float(high), 3),
        "ratio_of_processor_time": round(sum(processor["plain"]) / sum(processor["palate"]), 3),
        "ratio_must_be": 2.0,
        "palate_texts_per_second": round(texts / palate.sum(), 2),
        "plain_texts_per_second": round(texts / slow.sum(), 2),
        "same_layer_largest_difference": round(apart, 6),
        "dtype": str(plain.model.dtype).removeprefix("torch."),
        "device": plain.model.device.type,
        "threads": torch.get_num_threads(),
        "cpu": torch.cpu.get_capabilities().get("cpu_name", platform.processor()),
        "torch": torch.__version__,
        "load_average": round(os.getloadavg()[0], 1),
    }


if __name__ == "__main__":
    main()
