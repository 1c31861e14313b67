"""What can go wrong between a client and a node or hub: it refused, it cannot be reached, or its answer lies.

Each error carries one line that says what to do; the CLI prints it and nothing else.
"""


class ClientError(Exception):
    """Base of every error that this package raises on purpose."""

    def __init__(self, code: str, message: str, fix: str = "") -> None:
        super().__init__(message)
        self.code = code
        """Stable identifier; `aitbc explain CODE` tells about it."""
        self.message = message
        self.fix = fix
        """What to do, in one line; empty when there is nothing to be done."""
        self.nothing_paid = False
        """Of a job: its escrow was refused, so there is no money to take back and no result to wait for."""


class ApiError(ClientError):
    """The other side answered with a refusal (RFC 9457 problem details), or with what is no answer."""

    def __init__(self, code: str, message: str, fix: str = "", status: int = 0) -> None:
        super().__init__(code, message, fix)
        self.status = status
        """HTTP status; 0 when the answer itself was unusable."""


class Unreachable(ClientError):
    """Nothing answered at `url` in time."""

    def __init__(self, url: str, fix: str, detail: str = "") -> None:
        super().__init__("unreachable", f"{url} cannot be reached" + (f": {detail}" if detail else ""), fix)
        self.url = url
        self.detail = detail


class TransactionFailed(ClientError):
    """A transaction is in a block and the state refused it: its fee is spent and nothing else happened."""

    def __init__(self, tx_id: str, reason: str, message: str) -> None:
        super().__init__(reason, message or reason, f"see: aitbc explain {reason}")
        self.tx_id = tx_id


class JobFailed(ClientError):
    """A job ended without a result; `code` is the hub's reason."""


class TimedOut(ClientError):
    """Something did not become final, or finish, in the time that the caller gave."""

    def __init__(self, message: str, fix: str) -> None:
        super().__init__("timed_out", message, fix)


class Stopped(KeyboardInterrupt):
    """Ctrl-C while something was under way that cannot be taken back by stopping."""

    def __init__(self, fix: str) -> None:
        super().__init__(fix)
        self.fix = fix
        """What was left behind and what to do about it, in one line."""


class ResultRejected(ClientError):
    """A delivered result does not hold what its receipt says; nothing of it should be used."""

    def __init__(self, message: str) -> None:
        super().__init__(
            "result_rejected",
            message,
            "do not use this result; the escrow can be taken back after its deadline with: aitbc refund LOCK",
        )


def bad_answer(url: str, what: str) -> ApiError:
    """An answer that is not what the interface promises."""
    return ApiError("bad_answer", f"{url} {what}", "check that the URL is an AITBC service of this version")
