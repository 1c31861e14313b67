"""Whatever bytes a stranger sends, a decoder answers with a record or with a reason: quickly, and with nothing else.

`corpus/<decoder>/<reason>--<story>` holds the inputs that were interesting once; `accepted` is the reason of good ones.
The rest is made from good samples with a fixed seed; the long run makes more of them.
"""

import random
import time
import tracemalloc
from pathlib import Path

import pytest

from aitbc.core.types.reasons import Rejected
from support.decoders import decoders
from support.mutation import mutators_for

CORPUS = Path(__file__).parent / "corpus"
SEED = "decoders/1"
SHORT, LONG = 300, 6_000
"""Inputs made for each decoder."""
SLOWEST_S = 0.05
"""CPU time that one input may cost, however it is made."""
MOST_MEMORY = 2 * 1024 * 1024
"""Bytes that decoding a small input may ask for."""


def answer(name: str, raw: bytes) -> str:
    """The reason of the refusal, or `accepted`; every other exception is the finding."""
    try:
        decoders()[name].decode(raw)
    except Rejected as rejected:
        return rejected.reason
    return "accepted"


def cost_s(name: str, raw: bytes) -> float:
    """CPU seconds, the least of three when the first looks slow: the machine is shared."""
    costs = []
    for _ in range(3):
        start = time.thread_time()
        answer(name, raw)
        costs.append(time.thread_time() - start)
        if costs[-1] < SLOWEST_S:
            break
    return min(costs)


FILES = sorted(path for path in CORPUS.rglob("*--*") if path.is_file())


@pytest.mark.parametrize("path", FILES, ids=[f"{path.parent.name}/{path.name}" for path in FILES])
def test_what_was_interesting_once(path: Path) -> None:
    reason = path.name.partition("--")[0]
    assert answer(path.parent.name, path.read_bytes()) == reason


def test_every_folder_of_the_corpus_has_a_decoder() -> None:
    assert {path.parent.name for path in FILES} <= set(decoders())
    assert len(FILES) > 100


def run(name: str, inputs: int) -> None:
    rng = random.Random(f"{SEED}/{name}")
    decoder, mutators = decoders()[name], mutators_for(name)
    answers: dict[str, int] = {}
    for number in range(inputs):
        raw = rng.choice(mutators)(rng, rng.choice(decoder.samples))
        try:
            start = time.thread_time()
            said = answer(name, raw)
            slow = time.thread_time() - start > SLOWEST_S
        except Exception as error:
            raise AssertionError(f"input {number}: {type(error).__name__}: {error}: {raw[:300]!r}") from error
        assert not slow or cost_s(name, raw) < SLOWEST_S, f"input {number} is slow: {raw[:300]!r}"
        answers[said] = answers.get(said, 0) + 1
    assert len(answers) > 1 or inputs < LONG, "inputs that all end alike test little"


def warm_up() -> None:
    for decoder in decoders().values():
        for sample in decoder.samples:
            decoder.decode(sample)


@pytest.fixture(scope="module", autouse=True)
def _warm() -> None:
    """Libraries that are imported when first used are not what an input costs."""
    warm_up()


@pytest.mark.parametrize("name", sorted(decoders()))
def test_a_decoder_answers_with_a_record_or_a_reason(name: str) -> None:
    run(name, SHORT)


@pytest.mark.long
@pytest.mark.parametrize("name", sorted(decoders()))
def test_a_decoder_answers_to_thousands_of_inputs(name: str) -> None:
    run(name, LONG // 10 if name == "apply-wire" else LONG)


@pytest.mark.parametrize("depth", [10, 900, 990, 1_000, 3_000, 8_000])
def test_a_value_however_deep_is_no_parameter(depth: int) -> None:
    """Where decoding gives up depends on the Python that runs it; that the transaction is refused does not."""
    for open_, close in ((b"[", b"]"), (b'{"a":', b"}")):
        raw = b'{"number":1,"set":{"base_fee":' + open_ * depth + b"1" + close * depth + b"}}"
        assert answer("verify-PARAM_UPDATE", raw[:16_000]) != "accepted"
        assert answer("json-plain", raw) in ("accepted", "malformed")


BOMBS: list[tuple[str, bytes]] = [
    ("an array of four thousand million", b"\xdd\xff\xff\xff\xff"),
    ("an array of arrays of as many", b"\xdd\xff\xff\xff\xff" * 20),
    ("a map of as many", b"\xdf\xff\xff\xff\xff"),
    ("a text of four gigabytes", b"\xdb\xff\xff\xff\xff"),
    ("bytes of four gigabytes", b"\xc6\xff\xff\xff\xff"),
    ("a number of twenty thousand digits", b"9" * 20_000),
    ("a fraction of twenty thousand digits", b"0." + b"1" * 20_000),
    ("a huge exponent", b"1e999999999"),
    ("brackets", b"[" * 20_000),
    ("braces", b'{"a":' * 4_000),
    ("escapes", b'"' + b"\\u0041" * 3_000 + b'"'),
    ("zeros", bytes(20_000)),
    ("text in the alphabet of everything", b"a" * 20_000),
]


@pytest.mark.parametrize(("story", "raw"), BOMBS, ids=[row[0] for row in BOMBS])
def test_a_small_input_asks_for_little_time_and_memory(story: str, raw: bytes) -> None:
    for name in decoders():
        assert cost_s(name, raw) < SLOWEST_S, name
    tracemalloc.start()
    try:
        for name in decoders():
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            answer(name, raw)
            peak = tracemalloc.get_traced_memory()[1] - before
            assert peak < MOST_MEMORY, (name, peak)
    finally:
        tracemalloc.stop()
