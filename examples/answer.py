"""Answer a prompt with the default model, and say how the answer came about.

python examples/answer.py "Why is the sky blue?" 64
"""

import sys

import mezzotint


def main(prompt: str = "Why is the sky blue?", tokens: str = "128") -> None:
    """Print the answer and its figures."""
    model = mezzotint.load()
    answer = model.generate(prompt, max_new_tokens=int(tokens))
    print(answer.text)
    print(f"{answer.tokens} tokens, {answer.tokens_per_second:.0f} per second,", end=" ")
    print(f"{answer.tokens_per_forward:.2f} per forward")


if __name__ == "__main__":
    main(*sys.argv[1:])
