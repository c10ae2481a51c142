"""What a text costs a model, in nats: the same words in order and shuffled.

python examples/bound_of_a_text.py "The cat sat on the mat." runs/mine

Causal models give the log-likelihood itself, diffusion models an upper bound on its negative, drawn over noise.
"""

import random
import sys

import mezzotint


def main(text: str = "The cat sat on the mat and looked at the bird.", reference: str = "") -> None:
    """Print nats per token of both texts."""
    model = mezzotint.load(reference) if reference else mezzotint.load()
    words = text.split()
    shuffled = " ".join(random.Random(0).sample(words, len(words)))
    for each in (text, shuffled):
        bound = model.bound(each)
        error = "" if bound.exact else f" +- {bound.standard_error / bound.tokens:.2f}"
        print(f"{bound.nats_per_token:6.2f}{error} nats per token  {each}")


if __name__ == "__main__":
    main(*sys.argv[1:])
