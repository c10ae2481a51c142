"""Many requests at once: each gets the text that it gets alone, and a reader who leaves gives its lane back."""

import asyncio
import threading
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from running import engine_of, written
from tiny_hybrid import BACKENDS, checkpoint, drafter, drafting, native

from mezzotint.engine.engine import BACKLOG
from mezzotint.engine.events import Finished
from mezzotint.engine.hybrid.modes import Verify, ar
from mezzotint.engine.repetition import Repetition
from mezzotint.engine.request import Request, Sampling
from mezzotint.errors import CapacityError, RequestError
from mezzotint.models import hybrid

MODES = [ar, Verify(), hybrid.diffusion(block=4, level=0.2)]


def mixed(count: int) -> list[Request]:
    """Requests of every mode, and of all kinds of lengths, temperatures and penalties."""
    rng = np.random.default_rng(5)
    asked = []
    for i in range(count):
        prompt = tuple(int(t) for t in rng.integers(3, 104, 1 + int(rng.integers(0, 90))))
        repetition = Repetition(1.3, 0.2, 0.1, 3) if i % 3 == 0 else Repetition()
        sampling = Sampling((0.0, 0.7, 1.3)[i % 3], (1.0, 0.9)[i % 2], i, (0, 20)[i % 2], repetition)
        asked.append(Request(prompt, 1 + int(rng.integers(0, 24)), sampling, MODES[i % len(MODES)]))
    return asked


def fresh_engine(lanes: int, backend: str = "native"):
    causal = BACKENDS[backend](checkpoint(), lanes=lanes)
    return engine_of(causal, drafting(drafter(checkpoint()), causal), frozenset({7}), lanes)


def alone(requests: list[Request], backend: str = "native") -> list[list[int]]:
    return [written(list(fresh_engine(1, backend).submit(request))) for request in requests]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("lanes", [1, 3, 16])
def test_texts_are_the_same_alone_and_in_company(backend, lanes):
    requests = mixed(64 if backend == "native" else 12)
    engine = fresh_engine(lanes, backend)
    streams = [engine.submit(request) for request in requests]
    got: list[list] = [[] for _ in requests]
    going = set(range(len(requests)))
    while going:  # in turns, so that all are under way at once
        for i in sorted(going):
            event = next(streams[i], None)
            if event is None:
                going.discard(i)
            else:
                got[i].append(event)
    assert [written(events) for events in got] == alone(requests, backend)
    assert engine.taken == 0


def test_threads_read_their_own_streams():
    requests, engine, got = mixed(24), fresh_engine(4), {}
    threads = [
        threading.Thread(target=lambda i=i, r=r: got.update({i: written(list(engine.submit(r)))}))
        for i, r in enumerate(requests)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert [got[i] for i in range(len(requests))] == alone(requests)
    assert engine.taken == 0


def test_streams_are_read_asynchronously():
    requests, engine = mixed(9), fresh_engine(4)

    async def read(request):
        return written([event async for event in engine.submit(request)])

    async def everything():
        return await asyncio.gather(*map(read, requests))

    assert asyncio.run(everything()) == alone(requests)


def test_a_stream_that_nobody_reads_holds_nobody_up():
    engine, request = fresh_engine(2), Request((5, 6, 7), 20)
    unread = [engine.submit(request) for _ in range(3)]
    begun = [engine.submit(replace(request, prompt=(8, 9))) for _ in range(2)]
    for stream in begun:
        next(stream)
    # both lanes are held by streams that were begun and are read no more
    assert written(list(engine.submit(request))) == alone([request])[0]
    # and these go on where they were, from a lane taken anew
    for stream in begun:
        assert written(list(stream)) == alone([replace(request, prompt=(8, 9))])[0]
    assert [written(list(stream)) for stream in unread] == alone([request]) * 3


def test_what_waits_for_a_reader_has_a_limit():
    causal = native(checkpoint(max_position_embeddings=2000), capacity=1900, lanes=2)
    engine = engine_of(causal, None, lanes=2)
    slow = engine.submit(Request((5, 6), 1500))
    next(slow)
    list(engine.submit(Request((7, 8), 1200)))
    waiting = len(slow._job.events)
    assert BACKLOG <= waiting <= BACKLOG + 2
    assert len(written(list(slow))) == 1500


def test_a_dropped_stream_gives_its_lane_back():
    engine = fresh_engine(2)
    stream = engine.submit(Request((5, 6, 7), 30))
    next(stream)
    assert engine.taken == 1
    del stream
    assert engine.taken == 0
    with engine.submit(Request((5, 6, 7), 30)) as stream:
        next(stream)
    assert engine.taken == 0


def test_a_stream_closed_from_another_thread_ends():
    engine = fresh_engine(1)
    stream = engine.submit(Request((5, 6, 7), 30))
    next(stream)
    thread = threading.Thread(target=stream.close)
    thread.start()
    thread.join(10)
    assert list(stream) == [] or not any(isinstance(event, Finished) for event in stream)
    assert engine.taken == 0


def test_an_interrupt_in_the_middle_of_a_step_loses_nothing(monkeypatch):
    engine, requests = fresh_engine(3), mixed(3)
    streams = [engine.submit(request) for request in requests]
    firsts = [[next(stream)] for stream in streams]
    run = type(engine.writer.network).run

    def interrupted(self, *given):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(type(engine.writer.network), "run", interrupted)
        for stream, read in zip(streams, firsts, strict=True):
            with pytest.raises(KeyboardInterrupt):
                read.extend(stream)
    assert type(engine.writer.network).run is run
    got = [written([*first, *stream]) for first, stream in zip(firsts, streams, strict=True)]
    assert got == alone(requests)


def test_an_error_of_one_request_is_its_own():
    def broken(session, request):
        yield from session.open(list(request.prompt))
        raise RequestError("this mode gives up")

    engine, good = fresh_engine(2), Request((5, 6, 7), 12)
    bad = engine.submit(Request((8, 9), 5, method=broken))
    stream = engine.submit(good)
    first = [next(stream)]
    with pytest.raises(RequestError, match="gives up"):
        list(bad)
    assert written([*first, *stream]) == alone([good])[0]
    assert engine.taken == 0


def test_a_closed_engine_refuses_and_ends_what_is_under_way():
    engine = fresh_engine(2)
    stream = engine.submit(Request((5, 6, 7), 30))
    next(stream)
    engine.close()
    assert engine.taken == 0
    # what was written before may still be read, but it does not pass for a whole answer
    with pytest.raises(CapacityError, match="was closed while it wrote"):
        list(stream)
    with pytest.raises(CapacityError, match="closed"):
        engine.submit(Request((5, 6), 3))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_joining_leaving_and_finishing_in_any_order(data):
    requests = mixed(10)
    expected = EXPECTED.setdefault("texts", alone(requests))
    engine = fresh_engine(data.draw(st.integers(1, 4)))
    streams, got = {}, {}
    for _ in range(data.draw(st.integers(5, 60))):
        action = data.draw(st.sampled_from(["join", "read", "read", "read", "close", "drop"]))
        if action == "join" and len(got) < len(requests):
            i = len(got)
            streams[i], got[i] = engine.submit(requests[i]), []
        elif streams:
            i = data.draw(st.sampled_from(sorted(streams)))
            if action == "read":
                got[i] += [event for event in [next(streams[i], None)] if event is not None]
            elif action == "close":
                streams.pop(i).close()
            elif action == "drop":
                del streams[i]
        assert engine.taken <= engine.writer.lanes
    for i, stream in streams.items():
        got[i] += list(stream)
        assert written(got[i]) == expected[i]
    for i, events in got.items():
        text = written(events)
        assert text == expected[i][: len(text)]
    streams.clear()
    assert engine.taken == 0


EXPECTED: dict[str, list[list[int]]] = {}


def test_a_lane_that_knows_the_beginning_of_a_prompt_is_taken():
    engine = fresh_engine(3)
    long = tuple(range(3, 90))
    list(engine.submit(Request(long, 4)))
    list(engine.submit(Request((9, 8, 7), 4)))
    session = engine.writer._take(Request((*long, 5, 6), 4))
    assert session.shared([*long, 5, 6]) >= len(long)


def test_rows_of_several_requests_share_a_pass():
    engine, rows = fresh_engine(8), []
    run = engine.writer.network.run
    engine.writer.network.run = lambda tokens, *rest: (rows.append(len(tokens)), run(tokens, *rest))[1]
    streams = [engine.submit(Request((i + 3, 9), 12, method=ar)) for i in range(8)]
    for _ in range(4):
        for stream in streams:
            next(stream)
    assert rows[-1] == 8
