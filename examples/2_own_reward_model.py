"""Keep the reward model you have, and learn on top of it what each person wants.

    python examples/2_own_reward_model.py [--features minilm]

`quality` stands for your model: any function of (prompt, reply) pairs, a Hugging Face name, or two columns of scores.
"""

from __future__ import annotations

import argparse

import numpy as np

import palate
from palate.simulate import corpus_people


def quality(texts: list[tuple[str, str]]) -> list[float]:
    """A reward model of sorts: politeness, counted."""
    kind = ("please", "thank", "glad", "happy to", "welcome", "sorry")
    return [float(sum(word in reply.lower() for word in kind)) for _, reply in texts]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--features", default="minilm")
    parser.add_argument("--people", type=int, default=200)
    arguments = parser.parse_args()

    frame = corpus_people(arguments.people, 40, new_share=0.0, seed=1).dataset.to_frame()
    people = frame["user"].unique(maintain_order=True)
    new = set(people[-20:])
    known, rest = frame.filter(~frame["user"].is_in(new)), frame.filter(frame["user"].is_in(new))

    model = palate.fit(known, features=arguments.features, base_reward=quality)
    print(f"learned scale of the base reward: {model.method.base_scale_:.2f} logits per point")

    right: dict[str, list[float]] = {"base reward alone": [], "what suits most people": [], "after 20 answers": []}
    for user in sorted(new):
        rows = rest.filter(rest["user"] == user)
        answers, asked = rows.head(20), rows.tail(20)
        questions = asked.select("prompt", "left", "right").rows()
        base = np.array([np.subtract(*quality([(p, a), (p, b)])) for p, a, b in questions])
        chances = {
            "base reward alone": 0.5 + np.sign(base) / 4,
            "what suits most people": [model.adapt().prefer(*question) for question in questions],
            "after 20 answers": [model.adapt(answers).prefer(*question) for question in questions],
        }
        label = asked["label"].to_numpy() > 0.5
        for name, chance in chances.items():
            chance = np.asarray(chance)
            right[name].append(float(np.where(chance == 0.5, 0.5, (chance > 0.5) == label).mean()))
    for name, values in right.items():
        print(f"  {name:24} {np.mean(values):.3f} of 20 new people's choices")


if __name__ == "__main__":
    main()
