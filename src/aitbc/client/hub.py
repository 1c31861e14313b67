"""Talk to a hub: quotes, jobs and their events, results. docs/spec/hub.md"""

from collections.abc import Callable, Iterable, Iterator
from time import monotonic, sleep
from typing import Any, TypeVar
from urllib.parse import quote as quoted

import httpx2
import msgspec

from aitbc.client.errors import ClientError, TimedOut, Unreachable, bad_answer
from aitbc.client.http import Call, SyncHttp, network_errors, problem_of

T = TypeVar("T")
Json = dict[str, Any]

TERMINAL_STATES = frozenset({"delivered", "settled", "failed", "expired", "canceled"})
"""After these a job sends no more events."""

MAX_EVENT_BYTES = 1024 * 1024
"""An event is a state, a count or a few characters; a longer line is no hub's."""

_SILENCE_S = 30
"""So long without a byte and the stream is opened again; a hub says something every 10 s."""

RECONNECT_S = 0.5
MAX_BROKEN = 20
"""Ten seconds without a hub: longer than a restart takes."""


class Quote(msgspec.Struct, frozen=True):
    """A hub's binding offer for one job; `lock` is the payload to sign when it is accepted."""

    job_id: str
    job_token: str
    """The bearer token of this job; who has it can read the result."""
    hub: str
    client: str
    kind: str
    model: str
    request: Json
    """What will be computed, every default filled in."""
    request_hash: str
    units: int
    price: int
    deliver_by_ms: int
    claim_until_ms: int
    expires_ms: int
    lock: Json

    def __repr__(self) -> str:
        return f"Quote({self.job_id}, price={self.price})"


class JobResult(msgspec.Struct, frozen=True):
    """What was delivered, with the receipt and the attestation; not checked yet."""

    job_id: str
    media_type: str
    data_base64: bytes
    details: Json
    core: Json
    receipt_id: str
    provider_sig: str
    provider_pubkey: str
    attestation: Json
    attestation_sig: str
    hub_pubkey: str
    claim_tx: str | None = None

    @property
    def data(self) -> bytes:
        return self.data_base64


class HubClient(SyncHttp):
    """A hub's public API. Raises `ApiError` when refused, `Unreachable` when nothing answers."""

    def health(self) -> Json:
        return self.perform(Call(method="GET", path="/v1/health", read=_object))

    def identity(self) -> Json:
        """`address`, `pubkey`, `chain_id`, `genesis_hash`."""
        return self.perform(Call(method="GET", path="/v1/hub", read=_object))

    def busy(self) -> Json:
        """Requests a second, their 95th percentile, jobs under way, and queue and free places by model."""
        return self.perform(Call(method="GET", path="/v1/status", read=_object))

    def models(self) -> list[Json]:
        return self.perform(Call(method="GET", path="/v1/models", read=lambda answer: list(answer["data"])))

    def quote(self, *, client: str, kind: str, request: Json, model: str | None = None) -> Quote:
        """Ask what a job costs; nothing is paid or promised by asking."""
        body = {"client": client, "kind": kind, "request": request} | ({"model": model} if model else {})
        read = _reader(Quote)
        return self.perform(Call(method="POST", path="/v1/quotes", body=body, read=read))

    def start(self, job_id: str, token: str, lock: str) -> Json:
        """Begin a job whose JOB_LOCK is final; starting twice is harmless."""
        body = {"job_id": job_id, "lock": lock}
        return self.perform(
            Call(method="POST", path="/v1/jobs", body=body, headers=_bearer(token), read=_object)
        )

    def status(self, job_id: str, token: str) -> Json:
        return self._of_job("GET", job_id, token, "", _object)

    def cancel(self, job_id: str, token: str) -> Json:
        return self._of_job("POST", job_id, token, "/cancel", _object)

    def result(self, job_id: str, token: str) -> JobResult:
        return self._of_job("GET", job_id, token, "/result", _reader(JobResult))

    def candidates(self, job_id: str, token: str) -> Any:
        """The table behind `candidates_hash`: which providers stood in the draw."""
        return self._of_job("GET", job_id, token, "/candidates", lambda answer: answer)

    def events(self, job_id: str, token: str, *, timeout: float) -> Iterator[Json]:
        """A job's events from its beginning to its last state, each once.

        A stream that breaks is opened again; the hub replays it and what was seen is skipped. Raises TimedOut
        when the job has not ended after `timeout` seconds.
        """
        deadline = monotonic() + timeout
        seen = broken = 0
        while True:
            try:
                for number, event in enumerate(self._stream(job_id, token, deadline)):
                    broken = 0
                    ended = event.get("state") in TERMINAL_STATES
                    if number >= seen or ended:
                        seen = number + 1
                        yield event
                    if ended:
                        return
            except Unreachable:
                broken += 1
                if broken > MAX_BROKEN and monotonic() < deadline:
                    raise
            if monotonic() >= deadline:
                message = f"the job has not ended after {timeout:g} s"
                raise TimedOut(message, "allow more time with --timeout")
            sleep(RECONNECT_S)

    def _stream(self, job_id: str, token: str, deadline: float) -> Iterator[Json]:
        """One connection's events, the replayed ones included."""
        patience = min(_SILENCE_S, max(0.1, deadline - monotonic()))
        headers = {**_bearer(token), "accept": "text/event-stream"}
        path = f"/v1/jobs/{quoted(job_id, safe='')}/events"
        with (
            network_errors(self.base_url, patience),
            self._client.stream("GET", path, headers=headers, timeout=httpx2.Timeout(patience)) as response,
        ):
            if response.status_code != 200:
                raise problem_of(response.status_code, response.read())
            for data in event_data(self.base_url, _until(deadline, response.iter_bytes())):
                yield _event_of(self.base_url, data)

    def _of_job(self, method: str, job_id: str, token: str, what: str, read: Callable[[Any], T]) -> T:
        path = f"/v1/jobs/{quoted(job_id, safe='')}{what}"
        return self.perform(Call(method=method, path=path, headers=_bearer(token), read=read))


def _until(deadline: float, pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Comments keep a connection alive; they do not keep anybody waiting for longer than was asked."""
    for piece in pieces:
        yield piece
        if monotonic() >= deadline:
            return


def event_data(url: str, pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The `data` of each server-sent event in a stream that comes in arbitrary pieces."""
    rest = b""
    data: list[bytes] = []
    for piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        if len(rest) > MAX_EVENT_BYTES or sum(map(len, data)) > MAX_EVENT_BYTES:
            raise bad_answer(url, f"sent an event of more than {MAX_EVENT_BYTES} bytes")
        for line in lines:
            line = line.removesuffix(b"\r")
            if line.startswith(b"data:"):
                data.append(line[5:].removeprefix(b" "))
            elif not line and data:
                yield b"\n".join(data)
                data = []


def _event_of(url: str, data: bytes) -> Json:
    try:
        return msgspec.json.decode(data, type=Json)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise bad_answer(url, "sent an event that is no JSON object") from None


def _bearer(token: str) -> dict[str, str]:
    if not token.isascii() or not token.isprintable() or token != token.strip() or not token:
        raise ClientError("bad_token", "this is no job token", "use the job_token of the job's quote")
    return {"authorization": f"Bearer {token}"}


def _object(answer: Any) -> Json:
    if not isinstance(answer, dict):
        raise TypeError("not a JSON object")
    return answer


def _reader(kind: type[T]) -> Callable[[Any], T]:
    """Read an answer as a record; fields that this version does not know are ignored."""
    return lambda answer: msgspec.convert(answer, kind)
