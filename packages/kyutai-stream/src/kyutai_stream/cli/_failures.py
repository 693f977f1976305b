# SPDX-License-Identifier: MIT
"""What went wrong, in one line, and with what exit code the program ends."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager

import anyio
import typer

from ..errors import (
    AuthError,
    BackendUnavailable,
    CapacityError,
    ConfigError,
    ConnectFailed,
    ConnectionLost,
    KyutaiStreamError,
    ProtocolError,
)

__all__ = [
    "FAILED",
    "USAGE",
    "advice",
    "describe",
    "exit_code",
    "explained",
    "one_line",
    "run",
    "warn",
]

FAILED = 1
USAGE = 2

logger = logging.getLogger("kyutai_stream.cli")

ADVICE: tuple[tuple[type[KyutaiStreamError], str], ...] = (
    (AuthError, "check the key: --api-key, or MODAL_KEY and MODAL_SECRET"),
    (CapacityError, "try again later, or name another server with --url"),
    (ConnectFailed, "is the server running? `kyutai-stream doctor` looks closer"),
    (ConnectionLost, "`kyutai-stream doctor` looks closer"),
    (ProtocolError, "does --url lead to a server that --backend is made for?"),
    (BackendUnavailable, "`kyutai-stream doctor` looks closer"),
)


def advice(error: BaseException) -> str:
    """Say what to do about an error; empty where its text says that already."""
    if "pip install" in str(error) or "apt install" in str(error):
        return ""
    for kind, text in ADVICE:
        if isinstance(error, kind):
            return text
    return ""


def warn(text: str) -> None:
    """Write a line to standard error, under the program's name."""
    sys.stderr.write(f"kyutai-stream: {one_line(text)}\n")
    sys.stderr.flush()


def one_line(text: str) -> str:
    """Join lines, and leave out what would move a terminal's cursor."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


@contextmanager
def explained() -> Generator[None, None, None]:
    """Turn errors into one line and an exit code; no traceback.

    Raises:
        typer.Exit: Instead of any `Exception`.
    """
    try:
        yield
    except (typer.Exit, typer.Abort):
        raise
    except BrokenPipeError:
        # The reader of our output has gone, which is its right: `… | head`.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(0) from None
    except Exception as exc:
        logger.debug("failed", exc_info=True)
        warn(describe(exc))
        raise typer.Exit(exit_code(exc)) from None


def exit_code(error: Exception) -> int:
    """The exit code for an error: 2 for wrong settings, else 1."""
    return USAGE if isinstance(error, ConfigError) else FAILED


def describe(error: Exception) -> str:
    """One line: what happened and what to do."""
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    if isinstance(error, KyutaiStreamError | OSError):
        hint = advice(error)
        return f"{error}; {hint}" if hint else str(error)
    return f"internal error, please report it: {type(error).__name__}: {error}"


def run(main: Callable[[], Awaitable[int]]) -> None:
    """Run the asynchronous part of a command and end the program with its result.

    Raises:
        typer.Exit: Always, with the exit code.
    """
    with explained():
        try:
            code = anyio.run(main)
        except KeyboardInterrupt:
            raise typer.Exit(130) from None
        raise typer.Exit(code)
