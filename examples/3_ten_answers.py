"""Meet a new person in ten answers, and see the picture sharpen.

    python examples/3_ten_answers.py [--features minilm] [--strategy bald]

A simulated person answers, so that the truth is known: shown is how well the best of eight replies is chosen.
"""

from __future__ import annotations

import argparse

import numpy as np

import palate
from palate.simulate import corpus_people

QUESTIONS = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--features", default="minilm")
    parser.add_argument("--strategy", default="bald", help="how questions are chosen; random is the honest baseline")
    parser.add_argument("--people", type=int, default=300)
    arguments = parser.parse_args()

    world = corpus_people(arguments.people, 60, new_share=0.25, seed=2)
    data, truth = world.dataset, world.truth
    person = int(np.flatnonzero(truth.new)[0])  # two tastes that nobody in training has together
    model = palate.fit(data.subset(np.flatnonzero(~truth.new[data.user])), features=arguments.features)

    texts = data.item_texts()
    reward = dict(zip(texts, truth.reward(np.array([person]))[0], strict=True))
    own = data.subset(np.flatnonzero(data.user == person)).to_frame()
    pool = own.select("prompt", "left", "right").unique(maintain_order=True).rows()
    print(f"likes: {', '.join(truth.traits[person])}")

    rng = np.random.default_rng(0)
    answers: list[dict] = []
    me = model.adapt()
    for number in range(QUESTIONS + 1):
        places = []
        for prompt in data.prompts:
            replies = [reply for asked, reply in texts if asked == prompt]
            best = replies[int(np.argmax(me.score(prompt, replies)))]
            places.append(1 + sum(reward[prompt, reply] > reward[prompt, best] for reply in replies))
        print(f"{number:3} answers: the reply picked is on average number {np.mean(places):.2f} of 8 to this person")
        if number == QUESTIONS:
            break
        question = me.ask(pool, strategy=arguments.strategy, rng=rng)
        pool.remove(question)
        prompt, left, right = question
        chance = 1 / (1 + np.exp(reward[prompt, right] - reward[prompt, left]))
        answers.append({"prompt": prompt, "left": left, "right": right, "label": float(rng.random() < chance)})
        me = model.adapt(answers)


if __name__ == "__main__":
    main()
