"""One engine of `mezzotint bench` in its own process; see `evaluate/bench/worker.py`."""

import time

from mezzotint.evaluate.bench.engines import BenchAnswer, BenchEngine, BenchStart, BenchTask, LlamaCpp, Transformers
from mezzotint.evaluate.bench.worker import serve

OURS = ("ar", "diffusion", "verify")


class Ours:
    """This library through its public Python interface."""

    def __init__(self, start: BenchStart, mode: str) -> None:
        import mezzotint

        self._model = mezzotint.load(start.name, threads=start.threads)
        self._mode = mode
        self.about = {"library": f"mezzotint {mezzotint.__version__}", "weights": "as stored"}

    def write(self, task: BenchTask) -> BenchAnswer:
        """Greedy `generate`, the chat format and the text of the answer included in its time."""
        began = time.perf_counter()
        answer = self._model.generate(list(task.messages), mode=self._mode, max_new_tokens=task.limit, temperature=0.0)
        seconds = time.perf_counter() - began
        return BenchAnswer(list(answer.token_ids), answer.forwards, seconds, answer.first_token_seconds)


def build(name: str, start: BenchStart) -> BenchEngine:
    """The engine called `name`."""
    if name in OURS:
        return Ours(start, name)
    if name == "llama.cpp":
        return LlamaCpp(start)
    return Transformers(start, {"transformers-bf16": "bfloat16", "transformers-fp32": "float32"}[name])


if __name__ == "__main__":
    serve(build)
