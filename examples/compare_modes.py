"""One prompt, three ways to write: one token at a time, drafted and verified, and by diffusion.

python examples/compare_modes.py "What is a mezzotint?" 96
"""

import sys

import mezzotint


def main(prompt: str = "What is a mezzotint?", tokens: str = "96") -> None:
    """Print a line of figures per mode, and whether its text is that of `ar`."""
    model = mezzotint.load()
    reference = ""
    for mode in ("ar", "verify", "diffusion"):
        answer = model.generate(prompt, mode=mode, max_new_tokens=int(tokens), temperature=0.0)
        reference = reference or answer.text
        same = "the text of ar" if answer.text == reference else "a text of its own"
        print(
            f"{mode:10} {answer.tokens:4} tokens {answer.tokens_per_second:6.0f} per second "
            f"{answer.tokens_per_forward:5.2f} per forward  {same}"
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
