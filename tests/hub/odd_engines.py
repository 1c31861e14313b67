"""An engine whose prompt says what it does: finish, crawl, crash, hang, flood. Runs in the real child process."""

import hashlib
import os
import struct
import sys
import time
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from aitbc.ports import EngineError, EngineOutput, ModelCard


def text_of(request: Mapping[str, Any]) -> str:
    """What the story teller answers; the tests compute the same."""
    return f" {request['prompt']} ({request['seed']}) the end."


class StoryTeller:
    """Serves tiny-lm. Words in the prompt are commands."""

    name = "story-teller"

    def models(self) -> list[ModelCard]:
        digest = "sha256:" + hashlib.sha256(b"story-teller").hexdigest()
        return [ModelCard(model="tiny-lm", kind="chat", digest=digest, limits={})]

    def load(self, model: str) -> None:
        pass

    def run(
        self,
        model: str,
        request: Mapping[str, Any],
        emit: Callable[[dict[str, Any]], None],
        cancelled: Callable[[], bool],
    ) -> EngineOutput:
        prompt = request["prompt"]
        if "crash" in prompt:
            os._exit(3)
        if "hang" in prompt:
            time.sleep(3600)
        if "refuse" in prompt:
            raise EngineError("bad_request", "this engine does not want to")
        if "memory" in prompt:
            raise MemoryError
        if "bug" in prompt:
            raise ZeroDivisionError("a bug of the engine")
        if "flood" in prompt:
            return _output(b"x" * (9 * 1024 * 1024), 1)
        if "print" in prompt:
            print("noise on stdout")
            sys.stdout.flush()
        text = text_of(request)
        pieces = text.split(" ")[1:]
        for number, piece in enumerate(pieces):
            if "crawl" in prompt:
                _wait(0.1, cancelled, deaf="deaf" in prompt)
            if "murmur" in prompt and number and _stopped_within(0.1, cancelled):
                told = "".join([" " + told for told in pieces[:number]])
                return msgspec.structs.replace(_output(told.encode(), number), partial=True)
            emit({"text": " " + piece})
            emit({"progress": [number + 1, len(pieces)]})
        return _output(text.encode(), len(pieces))


class Painter:
    """Serves tiny-diffusion: a plain picture whose grey is the seed."""

    name = "painter"

    def models(self) -> list[ModelCard]:
        digest = "sha256:" + hashlib.sha256(b"painter").hexdigest()
        return [ModelCard(model="tiny-diffusion", kind="image", digest=digest, limits={})]

    def load(self, model: str) -> None:
        pass

    def run(
        self,
        model: str,
        request: Mapping[str, Any],
        emit: Callable[[dict[str, Any]], None],
        cancelled: Callable[[], bool],
    ) -> EngineOutput:
        for step in range(request["steps"]):
            emit({"progress": [step + 1, request["steps"]]})
        width, height = request["width"], request["height"]
        counts = {
            "steps": request["steps"],
            "width": width,
            "height": height,
            "native_width": 64,
            "native_height": 64,
        }
        return EngineOutput(
            data=png_of(width, height, request["seed"] % 256),
            media_type="image/png",
            counts=counts,
            transcript=[bytes([step] * 32) for step in range(request["steps"])],
            notes={"upscale": f"nearest 64x64 -> {width}x{height}"} if width != 64 else {},
        )


class Broken:
    """Cannot even be made."""

    def __init__(self) -> None:
        raise ImportError("No module named 'torch'")


def png_of(width: int, height: int, grey: int) -> bytes:
    rows = (b"\x00" + bytes([grey]) * width) * height
    return (
        b"\x89PNG\r\n\x1a\n"
        + _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
        + _chunk(b"IDAT", zlib.compress(rows))
        + _chunk(b"IEND", b"")
    )


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _output(data: bytes, tokens: int) -> EngineOutput:
    return EngineOutput(
        data=data,
        media_type="text/plain; charset=utf-8",
        counts={"in": 3, "out": tokens},
        transcript=[hashlib.sha256(data).digest()],
        notes={},
    )


def _stopped_within(seconds: float, cancelled: Callable[[], bool]) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if cancelled():
            return True
        time.sleep(0.005)
    return False


def _wait(seconds: float, cancelled: Callable[[], bool], *, deaf: bool) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if cancelled() and not deaf:
            raise EngineError("cancelled", "stopped in the middle")
        time.sleep(0.01)
