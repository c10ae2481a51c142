"""An engine for tests, run as a process: it counts upward from the last token of the prompt, and may break."""

import os
import sys

from mezzotint.errors import ConfigError
from mezzotint.evaluate.bench.engines import BenchAnswer, BenchStart, BenchTask
from mezzotint.evaluate.bench.worker import serve


class Counting:
    def __init__(self, start: BenchStart, step: int) -> None:
        waiting = os.environ.get("OMP_WAIT_POLICY", "as it likes")
        self.about = {"library": f"counting 1.0, waits {waiting}", "weights": f"threads {start.threads}"}
        self.step, self.eos = step, start.eos[0]
        print("libraries print what they like")

    def write(self, task: BenchTask) -> BenchAnswer:
        first = task.ids[-1]
        if self.step == 7 and task.limit != 32:
            print("the engine's own complaint", file=sys.stderr)
            sys.stderr.flush()
            raise SystemExit(3)
        tokens = [(first + i * self.step) % 200 + 10 for i in range(task.limit - 1)] + [self.eos]
        return BenchAnswer(tokens, len(tokens) - 1, 0.01 * len(tokens) / self.step, 0.01)


def build(name: str, start: BenchStart) -> Counting:
    steps = {"ar": 1, "verify": 2, "llama.cpp": 7}
    if name not in steps:
        raise ConfigError(f"{name} is not installed: pip install it")
    return Counting(start, steps[name])


if __name__ == "__main__":
    serve(build)
