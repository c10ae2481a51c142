"""Requests end where they should, share what they can, and tell what happens."""

import threading

import numpy as np
import pytest
from running import draft_with, driven, engine_of, events, finished, network, one_by_one, written
from tiny_hybrid import BACKENDS, checkpoint, drafter, drafting, fresh, native, prompts

from mezzotint.denoisers.native.drafter import NativeDrafter
from mezzotint.engine.events import Finished, Reopened, Settled, Started, Wrote
from mezzotint.engine.hybrid.modes import Verify, ar
from mezzotint.engine.hybrid.session import Session
from mezzotint.engine.request import Request, Sampling
from mezzotint.errors import CapacityError, RequestError
from mezzotint.models import hybrid

NONE: frozenset[int] = frozenset()
MODES = {"ar": ar, "verify": Verify(), "diffusion": hybrid.diffusion(block=4, level=0.2)}
PROMPT = prompts(3)[2]


def engine(causal, kind="random", request=None, eos=NONE):
    return engine_of(causal, draft_with(kind, causal, request or Request(PROMPT, 40)), eos)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 11])
def test_exactly_as_many_tokens_as_asked(backend, mode, count):
    told = events(engine(network(backend)), Request(PROMPT, count), MODES[mode])
    done = finished(told)
    assert (done.tokens, done.reason, len(written(told))) == (count, "length", count)


@pytest.mark.parametrize("kind", ["right", "mixed", "random", "none"])
@pytest.mark.parametrize("at", [0, 1, 3, 4, 6])
def test_an_end_token_inside_an_accepted_draft_ends_the_text(kind, at):
    causal, request = network("native"), Request(PROMPT, 40)
    text = one_by_one(causal, request)
    eos = frozenset({text[at]})
    end = text.index(text[at])
    told = events(engine(causal, kind, request, eos), request, Verify())
    assert written(told) == text[: end + 1]
    assert (finished(told).reason, finished(told).tokens) == ("stop", end + 1)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("room", [1, 2, 3, 4, 7])
def test_a_full_context_ends_the_text(backend, mode, room):
    causal = BACKENDS[backend](checkpoint(), capacity=40)
    request = Request(tuple(int(t) for t in np.random.default_rng(8).integers(3, 104, 40 - room)), 50)
    told = events(engine(causal, "random", request), request, MODES[mode])
    assert (finished(told).reason, finished(told).tokens) == ("length", room)
    if mode == "verify":
        assert written(told) == one_by_one(causal, request)


@pytest.mark.parametrize("backend", BACKENDS)
def test_prompts_that_do_not_fit_are_refused(backend):
    causal = BACKENDS[backend](checkpoint(), capacity=40)
    with pytest.raises(RequestError, match="40 tokens and the context holds 40"):
        events(engine_of(causal, None, NONE), Request((5,) * 40, 3), ar)
    for token in (-1, 104):
        with pytest.raises(RequestError, match="outside the vocabulary"):
            events(engine_of(causal, None, NONE), Request((5, token), 3), ar)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("earlier", ["verify", "ar"])
@pytest.mark.parametrize("kept", [0, 1, 5, 12, 30])
def test_what_is_shared_with_the_text_before_changes_nothing(mode, earlier, kept):
    """Drafts with their scores too: nothing of the former text may linger in the drafter."""
    causal = native(checkpoint())
    used = engine(causal)
    before = events(used, Request(PROMPT, 30), MODES[earlier])
    text = [*PROMPT, *written(before)]
    for following in ([*text[:kept], 9, 8, 7], [*text[: kept + 2], 11], text[: kept + 1], [*text, 5, 6]):
        request = Request(tuple(following), 20)
        got = events(used, request, MODES[mode])
        want = events(engine(native(checkpoint())), request, MODES[mode])
        assert told(got) == told(want)


def told(happened):
    """Everything but times."""
    return [e for e in happened if not isinstance(e, Started | Finished)] + [finished(happened).forwards]


@pytest.mark.parametrize("mode", MODES)
def test_a_prompt_that_goes_on_from_the_text_is_read_from_there(mode, monkeypatch):
    causal, read = native(checkpoint()), []
    used = engine(causal)
    first = [*PROMPT, *written(events(used, Request(PROMPT, 9), MODES[mode]))]
    run = causal.run
    monkeypatch.setattr(causal, "run", lambda tokens, *rest: (read.append(len(tokens)), run(tokens, *rest))[1])
    longer = Request((*first, 9, 8, 7), 6)
    got = events(used, longer, MODES[mode])
    # two: the last token written was not read, the drafter's last row held another next token
    assert 4 <= read[0] <= 6
    assert written(got) == written(events(engine(native(checkpoint())), longer, MODES[mode]))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("drafts", [True, False])
def test_reading_that_broke_off_is_not_mistaken_for_the_text_before(backend, drafts):
    causal = BACKENDS[backend](checkpoint())
    session = Session(causal, drafting(drafter(checkpoint()), causal) if drafts else None)
    text = prompts(9, seed=3)
    long = [t for p in text for t in p][:60]
    driven(session, session.open(long))
    with pytest.raises((CapacityError, IndexError)):
        driven(session, session.open([*long[:10], *[7] * 80, 104]))
    again = np.array(driven(session, session.open([*long[:40], 5])))  # the next call would overwrite it
    np.testing.assert_allclose(again, fresh(causal, [*long[:40], 5])[0][-1], atol=1e-4)


def test_a_drafter_that_broke_off_reads_on_from_there(monkeypatch):
    causal = native(checkpoint())
    session, text = Session(causal, drafting(drafter(checkpoint()), causal)), [*range(3, 103), *range(3, 63)]
    read = NativeDrafter._read

    def once(self, *rows):
        if self.length():
            raise KeyboardInterrupt
        return read(self, *rows)

    driven(session, session.open(text[:150]))
    with monkeypatch.context() as patch:
        patch.setattr(NativeDrafter, "_read", once)
        with pytest.raises(KeyboardInterrupt):
            session.draft(text[150], 2)
    assert 0 < session.drafter.length() < 150
    driven(session, session.open(text[:155]))
    causal = native(checkpoint())
    fresh_one = Session(causal, drafting(drafter(checkpoint()), causal))
    driven(fresh_one, fresh_one.open(text[:155]))
    for got, want in zip(session.draft(text[155], 2), fresh_one.draft(text[155], 2), strict=True):
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("mode", MODES)
def test_a_listener_may_leave_early(mode):
    causal = native(checkpoint())
    used = engine(causal)
    for patience in (1, 2, 4):
        stream = used.submit(Request(PROMPT, 30, method=MODES[mode]))
        for _ in range(patience):
            next(stream)
        stream.close()
        request = Request((*PROMPT[:4], 9, 9), 12)
        assert told(events(used, request, MODES[mode])) == told(
            events(engine(native(checkpoint())), request, MODES[mode])
        )


def test_requests_of_several_threads_wait_for_each_other():
    causal = native(checkpoint())
    shared, got = engine(causal), {}
    requests = [Request(prompt, 12, Sampling(1.0, 1.0, i)) for i, prompt in enumerate(prompts(4))]
    threads = [
        threading.Thread(target=lambda r=r: got.update({r: written(events(shared, r, Verify()))})) for r in requests
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == {request: one_by_one(network("native"), request) for request in requests}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", ["right", "mixed", "random"])
def test_events_paint_the_text(mode, kind):
    """Drafts stand on the first unsettled column; what was taken back is what differs from what was settled."""
    causal, request = network("native"), Request(PROMPT, 33)
    happened = events(engine(causal, kind, request), request, MODES[mode])
    assert isinstance(happened[0], Started)
    assert happened[0].prompt_tokens == len(PROMPT)
    settled, draft, reopened = 0, {}, ()
    for event in happened[1:-1]:
        if isinstance(event, Wrote):
            assert all(settled <= column < event.width <= request.max_new_tokens for column in event.columns)
            assert all(0 <= score <= 1 for score in event.scores)
            again = dict(zip(event.columns, event.tokens, strict=True))
            assert len(again) == len(event.scores)
            assert draft.items() <= again.items()
            draft = again
        elif isinstance(event, Reopened):
            reopened = event.columns
        elif isinstance(event, Settled):
            now = dict(enumerate(event.tokens, settled))
            differ = [column for column, token in draft.items() if now.get(column) != token]
            assert list(reopened) == [column for column in draft if differ and column >= differ[0]]
            settled, draft, reopened = settled + len(event.tokens), {}, ()
    done = finished(happened)
    assert done.tokens == settled == 33
    assert 0 < done.first_token_seconds <= done.seconds
