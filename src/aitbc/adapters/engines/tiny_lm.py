"""Serve tiny-lm, the small story-telling transformer that ships inside the package, with numpy only.

It continues any prompt. The weights file beside this module holds the tokenizer and the network, and
tools/tiny_lm says how both were made. Randomness is Philox keyed by the request's seed, one draw a token, so
the same request gives the same bytes.
"""

import codecs
import functools
import hashlib
import itertools
import pathlib
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from aitbc.ports import EngineError, EngineOutput, Estimate, ModelCard, Replay

Floats = npt.NDArray[np.float32]

MODEL = "tiny-lm"
WEIGHTS_FILE = pathlib.Path(__file__).parent / "weights" / "tiny_lm.npz"

# Token ids: the 256 bytes, so that every prompt can be written; then this mark before and after every story;
# then the merged pairs.
END_OF_STORY = 256
FIRST_MERGED = 257

# A page of text. What does not fit the network's context is cut from the front, and the output says so.
MAX_PROMPT_BYTES = 2048
# Longer than nearly every story it tells, and 128 tokens of the context stay for the prompt.
MAX_TOKENS = 256
# At 100 tokens a second, far below what one slow core does, this polls every 40 ms.
TOKENS_PER_POLL = 4
TOKENS_PER_TRANSCRIPT_STEP = 16

MEMORY_BYTES = 24 * 1024 * 1024
"""Keys, values and the logits of a whole prompt, and the network when it is not loaded yet; measured 17 MiB."""
# The mark before every story, and the prompt's bytes that no pair is found for.
PROMPT_OVERHEAD = 1

# Keeps the norm finite for an all-zero vector; training uses the same value.
NORM_FLOOR = 1e-6

# name: (value when missing, lowest, highest)
INTEGER_FIELDS: dict[str, tuple[int, int, int]] = {
    "max_tokens": (128, 1, MAX_TOKENS),
    "temperature_milli": (800, 0, 5000),
    "top_k": (40, 1, 1024),
    "seed": (0, 0, 2**64 - 1),
}


class TinyLm:
    """The engine: one model, loaded on `load` or on the first run."""

    name = "tiny-lm"

    def __init__(self, weights_file: pathlib.Path = WEIGHTS_FILE) -> None:
        self._weights_file = weights_file

    def models(self) -> list[ModelCard]:
        limits = {"max_prompt_bytes": MAX_PROMPT_BYTES, "max_tokens": MAX_TOKENS}
        return [ModelCard(model=MODEL, kind="chat", digest=self._digest, limits=limits)]

    def load(self, model: str) -> None:
        require(model == MODEL, f"model must be {MODEL!r}")
        assert self._parts is not None

    def estimate(self, model: str, request: Mapping[str, Any]) -> Estimate:
        require(model == MODEL, f"model must be {MODEL!r}")
        asked = StoryRequest.from_request(request)
        counts = {"in": len(asked.prompt.encode()) + PROMPT_OVERHEAD, "out": asked.max_tokens}
        return Estimate(counts=counts, memory_bytes=MEMORY_BYTES)

    def run(
        self,
        model: str,
        request: Mapping[str, Any],
        emit: Callable[[dict[str, Any]], None],
        cancelled: Callable[[], bool],
    ) -> EngineOutput:
        """Continue the prompt; the output holds the new text only, and at least one token of it.

        The end-of-story token stops the run; it is in neither the text, the counts nor the transcript. A run that is
        cancelled after its first token returns what it has told.
        """
        require(model == MODEL, f"model must be {MODEL!r}")
        asked = StoryRequest.from_request(request)
        tokenizer, network = self._parts
        # A space belongs to the token of the word after it: one left at the end would spoil the next word.
        prompt = asked.prompt.rstrip(" ")
        prompt_tokens = tokenizer.encode(prompt)
        room = network.context - asked.max_tokens - 1
        kept = prompt_tokens[-room:]

        stream = TextStream(emit, total=asked.max_tokens, drops_space=prompt != asked.prompt)
        told: list[int] = []
        stopped = False
        require_not(cancelled())
        for token in generate(network, [END_OF_STORY, *kept], asked):
            told.append(token)
            stream.write(tokenizer.spellings[token])
            if len(told) % TOKENS_PER_POLL == 1:
                stream.flush(done=len(told))
                if stopped := cancelled():
                    break
        data = stream.finish(done=len(told))
        return EngineOutput(
            data=data,
            media_type="text/plain; charset=utf-8",
            counts={"in": len(kept), "out": len(told)},
            transcript=transcript_of(kept, told),
            notes=notes_on_cut(kept=len(kept), whole=len(prompt_tokens)),
            partial=stopped,
        )

    def replay(self, model: str, request: Mapping[str, Any], data: bytes) -> Replay:
        """A text that ends early without the mark, or goes on after the last token, differs in all that is wrong."""
        require(model == MODEL, f"model must be {MODEL!r}")
        asked = StoryRequest.from_request(request)
        tokenizer, network = self._parts
        prompt = asked.prompt.rstrip(" ")
        room = network.context - asked.max_tokens - 1
        dice = np.random.Generator(np.random.Philox(key=asked.seed))
        memory = network.empty_memory()
        logits = network.extend(memory, [END_OF_STORY, *tokenizer.encode(prompt)[-room:]])[-1]
        logits[END_OF_STORY] = -np.inf
        told, at, steps, differing = data, 0, 0, 0
        while steps < asked.max_tokens:
            token = choose_token(
                logits, temperature_milli=asked.temperature_milli, top_k=asked.top_k, draw=dice.random()
            )
            spelled = tokenizer.spellings[token]
            if not steps and prompt != asked.prompt and spelled.startswith(b" "):
                told = b" " + data  # the prompt already ended in a space
            steps += 1
            if at == len(told):
                if token != END_OF_STORY:  # cut short: what is missing differs
                    steps, differing = asked.max_tokens, differing + asked.max_tokens - steps + 1
                break
            if token == END_OF_STORY or not told.startswith(spelled, at):
                differing += 1
                token = tokenizer.first_token(told[at:])
            at += len(tokenizer.spellings[token])
            if steps < asked.max_tokens:
                logits = network.extend(memory, [token])[-1]
        beyond = len(told) - at
        return Replay(tokens=steps + beyond, differing=differing + beyond)

    def encode(self, text: str) -> list[int]:
        return self._parts[0].encode(text)

    def teacher_forced_logits(self, token_ids: Sequence[int]) -> Floats:
        """Row i holds the logits for the token after token_ids[: i + 1], all computed in one pass.

        A verifier replays a run with [END_OF_STORY, *prompt tokens, *generated tokens].
        """
        tokenizer, network = self._parts
        require(
            1 <= len(token_ids) <= network.context, f"1 to {network.context} tokens, not {len(token_ids)}"
        )
        vocabulary = len(tokenizer.spellings)
        require(
            all(0 <= token < vocabulary for token in token_ids), f"token ids must be 0 to {vocabulary - 1}"
        )
        return network.extend(network.empty_memory(), token_ids)

    @functools.cached_property
    def _digest(self) -> str:
        return "sha256:" + hashlib.sha256(self._weights_file.read_bytes()).hexdigest()

    @functools.cached_property
    def _parts(self) -> "tuple[Tokenizer, Network]":
        try:
            with np.load(self._weights_file, allow_pickle=False) as arrays:
                return Tokenizer(arrays["merges"]), Network(arrays)
        except (OSError, KeyError, ValueError, zipfile.BadZipFile) as problem:
            raise EngineError("failed", f"cannot read the weights of {MODEL}: {problem}") from problem


class StoryRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A chat request after every check."""

    prompt: str
    max_tokens: int
    temperature_milli: int
    top_k: int
    seed: int

    @classmethod
    def from_request(cls, request: Mapping[str, Any]) -> "StoryRequest":
        """Check in this order: field names, kind, model, prompt, then the integers as listed."""
        allowed = ["kind", "model", "prompt", *INTEGER_FIELDS]
        require(set(request) <= set(allowed), f"the fields of a chat request are {', '.join(allowed)}")
        require(request.get("kind") == "chat", "kind must be 'chat'")
        require(request.get("model") == MODEL, f"model must be {MODEL!r}")
        prompt = checked_prompt(request.get("prompt"))
        integers = {name: checked_integer(request, name) for name in INTEGER_FIELDS}
        return cls(prompt=prompt, **integers)


def checked_prompt(prompt: object) -> str:
    if not isinstance(prompt, str):
        raise EngineError("bad_request", "prompt must be a string")
    try:
        size = len(prompt.encode())
    except UnicodeEncodeError:
        raise EngineError("bad_request", "prompt must be valid Unicode, without lone surrogates") from None
    require(size <= MAX_PROMPT_BYTES, f"prompt must be at most {MAX_PROMPT_BYTES} bytes of UTF-8, not {size}")
    return prompt


def checked_integer(request: Mapping[str, Any], name: str) -> int:
    default, lowest, highest = INTEGER_FIELDS[name]
    value = request.get(name, default)
    # A bool is an int to Python, but not to a receipt.
    is_allowed = type(value) is int and lowest <= value <= highest
    require(is_allowed, f"{name} must be an integer from {lowest} to {highest}")
    return int(value)


def require(holds: bool, allowed: str) -> None:
    if not holds:
        raise EngineError("bad_request", allowed)


def require_not(cancelled: bool) -> None:
    if cancelled:
        raise EngineError("cancelled", "the run was cancelled")


def notes_on_cut(*, kept: int, whole: int) -> dict[str, str]:
    return {} if kept == whole else {"prompt": f"kept the last {kept} of {whole} tokens"}


def transcript_of(prompt_tokens: Sequence[int], generated_tokens: Sequence[int]) -> list[bytes]:
    """A running SHA-256: of the prompt's ids first, then extended by every 16 generated ids and by the rest.

    Ids are u32 little-endian. The hash of the prompt itself is not in the list.
    """
    running = hashlib.sha256(np.array(prompt_tokens, dtype="<u4").tobytes()).digest()
    steps = []
    for at in range(0, len(generated_tokens), TOKENS_PER_TRANSCRIPT_STEP):
        group = np.array(generated_tokens[at : at + TOKENS_PER_TRANSCRIPT_STEP], dtype="<u4")
        running = hashlib.sha256(running + group.tobytes()).digest()
        steps.append(running)
    return steps


class TextStream:
    """Turns the bytes of tokens into complete UTF-8 and hands it on; what never completes becomes U+FFFD."""

    def __init__(self, emit: Callable[[dict[str, Any]], None], *, total: int, drops_space: bool) -> None:
        self._emit = emit
        self._total = total
        self._drops_space = drops_space
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._waiting = ""
        self._sent: list[str] = []

    def write(self, spelling: bytes) -> None:
        self._waiting += self._decoder.decode(spelling)
        if self._drops_space and self._waiting:
            # The prompt already ended in a space.
            self._waiting = self._waiting.removeprefix(" ")
            self._drops_space = False

    def flush(self, *, done: int) -> None:
        if self._waiting:
            self._emit({"text": self._waiting})
            self._sent.append(self._waiting)
            self._waiting = ""
        self._emit({"progress": [done, self._total]})

    def finish(self, *, done: int) -> bytes:
        """Send the rest and return all that was sent; a story that ended early is complete: done of done."""
        self._waiting += self._decoder.decode(b"", final=True)
        self._total = done
        self.flush(done=done)
        return "".join(self._sent).encode()


# What a prompt is cut into before pairs are merged: a word, a digit or some signs, each with the space before
# it. The lengths are bounded so that the cost of one word is.
WORD = re.compile(rb" ?[A-Za-z]{1,24}| ?[0-9]| ?[^\sA-Za-z0-9]{1,4}|\s")


class Tokenizer:
    """Byte-pair encoding with all 256 bytes in the vocabulary, so that every text has an encoding."""

    def __init__(self, merges: npt.NDArray[np.uint16]) -> None:
        self.spellings = [bytes([byte]) for byte in range(256)] + [b""]
        self._token_of_pair: dict[tuple[int, int], int] = {}
        for left, right in merges.tolist():
            self._token_of_pair[left, right] = len(self.spellings)
            self.spellings.append(self.spellings[left] + self.spellings[right])
        self._tokens_of_word = functools.lru_cache(maxsize=4096)(self._merge_word)

    def encode(self, text: str) -> list[int]:
        return [token for word in WORD.findall(text.encode()) for token in self._tokens_of_word(word)]

    def first_token(self, text: bytes) -> int:
        """Of the encoding of a text that is not empty."""
        word = WORD.match(text)
        return self._tokens_of_word(word[0])[0] if word else text[0]

    def decode(self, tokens: Sequence[int]) -> str:
        return b"".join(self.spellings[token] for token in tokens).decode(errors="replace")

    def _merge_word(self, word: bytes) -> tuple[int, ...]:
        """Join the pair that was learnt first, the leftmost of equals, until no learnt pair is left."""
        tokens = list(word)
        while True:
            pairs = itertools.pairwise(tokens)
            joins = [
                (self._token_of_pair[pair], at)
                for at, pair in enumerate(pairs)
                if pair in self._token_of_pair
            ]
            if not joins:
                return tuple(tokens)
            token, at = min(joins)
            tokens[at : at + 2] = [token]


def rotary_tables(context: int, head_width: int) -> tuple[Floats, Floats]:
    """Cosine and sine of the angle by which each position turns each pair of a head's numbers."""
    pairs = head_width // 2
    angles = np.outer(np.arange(context), 10_000.0 ** (-np.arange(pairs) / pairs))
    return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)


class Memory(msgspec.Struct, kw_only=True):
    """Keys and values of the tokens seen so far: (layer, head, position, width), as long as the context."""

    keys: Floats
    values: Floats
    length: int


class Network:
    """A decoder-only transformer: pre-norm without gains, rotary positions, squared ReLU, tied output.

    Constants are folded into the matrices on load: the attention scale into the queries, the norm of the
    first layer's input into the embedding, the logit scale into the output matrix.
    """

    def __init__(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        self.heads = int(arrays["heads"])
        self.context = int(arrays["context"])
        embedding = arrays["embedding"].astype(np.float32)
        self.width = embedding.shape[1]
        self.head_width = self.width // self.heads
        self.embedding = normalized(embedding)
        self.to_logits = np.ascontiguousarray((embedding * float(arrays["head_scale"])).T)
        self.out, self.up, self.down = (arrays[name].astype(np.float32) for name in ("out", "up", "down"))
        self.layers = len(self.out)
        self.qkv = self._paired(arrays["qkv"].astype(np.float32))
        self.qkv[:, :, : self.width] *= self.head_width**-0.5
        cos, sin = rotary_tables(self.context, self.head_width)
        self.turns = cos + np.complex64(1j) * sin
        self.future = np.triu(np.full((self.context, self.context), -np.inf, dtype=np.float32), k=1)

    def _paired(self, qkv: Floats) -> Floats:
        """Put the two numbers that turn together side by side, so that one complex product turns them.

        Training pairs number i of a head with number i + half; a product of queries and keys does not depend
        on the order, as long as both have the same.
        """
        half = self.head_width // 2
        order = np.arange(self.head_width).reshape(2, half).T.ravel()
        columns = np.arange(3 * self.width).reshape(3, self.heads, self.head_width)
        columns[:2] = columns[:2][:, :, order]
        return np.ascontiguousarray(qkv[:, :, columns.ravel()])

    def empty_memory(self) -> Memory:
        shape = (self.layers, self.heads, self.context, self.head_width)
        return Memory(keys=np.empty(shape, np.float32), values=np.empty(shape, np.float32), length=0)

    def extend(self, memory: Memory, tokens: Sequence[int]) -> Floats:
        """Read the tokens after those in memory, remember them, and return (token, vocabulary) logits."""
        assert memory.length + len(tokens) <= self.context
        x: Floats = self.embedding[list(tokens)]
        for layer in range(self.layers):
            x = x + self._attend(memory, layer, normalized(x)) @ self.out[layer]
            opened = np.maximum(normalized(x) @ self.up[layer], 0)
            x += (opened * opened) @ self.down[layer]
        memory.length += len(tokens)
        return np.asarray(normalized(x) @ self.to_logits)

    def _attend(self, memory: Memory, layer: int, x: Floats) -> Floats:
        """Mix the values of this and all earlier tokens, all heads at once: (token, width) to the same."""
        count = len(x)
        before, after = memory.length, memory.length + count
        qkv = (x @ self.qkv[layer]).reshape(count, 3, self.heads, self.head_width)
        turns = self.turns[before:after, None, None, :]
        turned = (qkv[:, :2].view(np.complex64) * turns).view(np.float32)
        keys = memory.keys[layer, :, :after]
        values = memory.values[layer, :, :after]
        keys[:, before:] = turned[:, 1].transpose(1, 0, 2)
        values[:, before:] = qkv[:, 2].transpose(1, 0, 2)

        scores = turned[:, 0].transpose(1, 0, 2) @ keys.transpose(0, 2, 1)
        if count > 1:
            scores += self.future[before:after, :after]
        scores -= np.maximum.reduce(scores, axis=-1, keepdims=True)
        weights = np.exp(scores, out=scores)
        mixed = (weights @ values) / np.add.reduce(weights, axis=-1, keepdims=True)
        return np.asarray(mixed.transpose(1, 0, 2).reshape(count, self.width))


def normalized(x: Floats) -> Floats:
    """Each row divided by the root of its mean square."""
    mean_square = np.add.reduce(x * x, axis=-1, keepdims=True) * np.float32(1 / x.shape[-1])
    return np.asarray(x / np.sqrt(mean_square + np.float32(NORM_FLOOR)))


def generate(network: Network, start: Sequence[int], asked: StoryRequest) -> Iterator[int]:
    """Yield the story's tokens, the first whatever the network thinks of ending at once."""
    dice = np.random.Generator(np.random.Philox(key=asked.seed))
    memory = network.empty_memory()
    logits = network.extend(memory, start)[-1]
    # An empty answer would be of no use to anybody.
    logits[END_OF_STORY] = -np.inf
    for number in range(asked.max_tokens):
        token = choose_token(
            logits, temperature_milli=asked.temperature_milli, top_k=asked.top_k, draw=dice.random()
        )
        if token == END_OF_STORY:
            return
        yield token
        if number + 1 < asked.max_tokens:
            logits = network.extend(memory, [token])[-1]


def choose_token(logits: Floats, *, temperature_milli: int, top_k: int, draw: float) -> int:
    """The token for one draw from [0, 1): greedy at temperature 0, else among the top k, likeliest first.

    Of equal logits the lower id comes first.
    """
    if temperature_milli == 0:
        return int(np.argmax(logits))
    ranked = np.argsort(-logits, kind="stable")[:top_k]
    scaled = logits[ranked].astype(np.float64) * (1000 / temperature_milli)
    shares = np.cumsum(np.exp(scaled - scaled[0]))
    # Rounding may put draw × total on the total itself.
    rank = min(int(np.searchsorted(shares, draw * shares[-1], side="right")), len(ranked) - 1)
    return int(ranked[rank])
