# SPDX-License-Identifier: MIT
"""Model files for moshi-server, generated at first use into the user's cache."""

from __future__ import annotations

import hashlib
import io
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import anyio.to_thread
from attrs import frozen

from ..tones import VOCABULARY, vocabulary
from . import _lm, _mimi, _tensors
from ._errors import MoshiServerUnavailable
from ._lm import (
    CODEBOOKS,
    FIRST_WORD,
    TEXT_TOKENS,
    Tables,
    listen_tables,
    lm_tensors,
    script_tables,
)
from ._locks import exclusive
from ._mimi import mimi_tensors
from ._tensors import save_sparse

__all__ = [
    "DELAY",
    "SCRIPT_WORDS",
    "ModelFiles",
    "ModelKind",
    "ensure_weights",
    "model_files",
    "model_tables",
]

DELAY = 6
"""`asr_delay_in_tokens`, as the 1B model has it."""

# The rest of the delay: one step until the language model sees a frame, one from
# the padding's end to the first step that counts.
_LOOK_BACK = DELAY - 2

SCRIPT_WORDS = (
    ("al", "pha"),
    ("bra", "vo"),
    ("char", "lie"),
    ("del", "ta"),
    ("ec", "ho"),
    ("fox", "trot"),
    ("go", "lf"),
    ("hot", "el"),
    ("in", "dia"),
    ("jul", "iett"),
)
"""The words of the script model in their order, in pieces of one token each."""

# Whatever changes in these changes the name of the generated folder.
_RECIPE = (_lm, _mimi, _tensors, vocabulary)

_LOCK_TIMEOUT_S = 120.0

ModelKind = Literal["script", "listen"]
"""Which language model: `script` says the same words whatever it hears, `listen`
hears the words of `kyutai_stream.testing.tones`."""


@frozen(kw_only=True)
class ModelFiles:
    """Where the generated files of one model are."""

    mimi: Path
    lm: Path
    tokenizer: Path


def model_tables(kind: ModelKind) -> tuple[Tables, dict[int, str]]:
    """Return what a model says next, and the text of each of its pieces."""
    if kind == "listen":
        return listen_tables(_LOOK_BACK), dict(enumerate(VOCABULARY, FIRST_WORD))
    pieces: dict[int, str] = {}
    words: list[tuple[int, int]] = []
    for index, (first, second) in enumerate(SCRIPT_WORDS):
        # sentencepiece adds a third one: the second piece as the start of a word.
        number = FIRST_WORD + 3 * index
        pieces |= {number: first, number + 1: second}
        words.append((number, number + 1))
    return script_tables(words), pieces


async def ensure_weights(cache: Path, progress: Callable[[str], None]) -> Path:
    """Generate the files of all models unless they are there.

    Safe for several processes at once, and a killed one leaves nothing half done.

    Args:
        cache: Folder to keep the files in.
        progress: Called with one line of text if there is something to do.

    Returns:
        The folder, for `model_files`.

    Raises:
        MoshiServerUnavailable: If sentencepiece is missing, or another process holds
            the lock for two minutes.
    """
    folder = cache / f"weights-{_recipe_digest()}"
    if folder.exists():
        return folder
    async with exclusive(cache / "weights.lock", _LOCK_TIMEOUT_S):
        if not folder.exists():
            progress(f"generating weights for moshi-server in {folder}")
            await anyio.to_thread.run_sync(_generate_into, folder)
    return folder


def model_files(folder: Path, kind: ModelKind) -> ModelFiles:
    """Name the files of one model in the folder of `ensure_weights`."""
    return ModelFiles(
        mimi=folder / "mimi.safetensors",
        lm=folder / f"{kind}.safetensors",
        tokenizer=folder / f"{kind}.model",
    )


def _recipe_digest() -> str:
    digest = hashlib.sha256()
    for source in (__file__, *(module.__file__ for module in _RECIPE)):
        digest.update(Path(str(source)).read_bytes())
    return digest.hexdigest()[:12]


def _generate_into(folder: Path) -> None:
    """Generate beside the place, then move; left-overs of killed processes go."""
    for leftover in folder.parent.glob("part-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    part = Path(tempfile.mkdtemp(prefix="part-", dir=folder.parent))
    try:
        _generate(part)
        part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _generate(folder: Path) -> None:
    save_sparse(mimi_tensors(CODEBOOKS), folder / "mimi.safetensors")
    kinds: tuple[ModelKind, ...] = ("script", "listen")
    for kind in kinds:
        tables, pieces = model_tables(kind)
        files = model_files(folder, kind)
        save_sparse(lm_tensors(tables), files.lm)
        files.tokenizer.write_bytes(_tokenizer(kind, pieces))


def _tokenizer(kind: ModelKind, pieces: dict[int, str]) -> bytes:
    """Train a sentencepiece model with these pieces at these numbers."""
    try:
        import sentencepiece
    except ImportError as exc:
        raise MoshiServerUnavailable(
            "sentencepiece is missing: pip install 'kyutai-stream[testing]'"
        ) from exc
    seconds = {second for _, second in SCRIPT_WORDS} if kind == "script" else set()
    symbols = {
        number: piece if piece in seconds else f"\u2581{piece}"
        for number, piece in pieces.items()
    }
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["some text to train on"]),
        model_writer=model,
        model_type="word",
        vocab_size=TEXT_TOKENS,
        hard_vocab_limit=False,
        unk_id=0,
        bos_id=1,
        eos_id=2,
        pad_id=3,
        user_defined_symbols=list(symbols.values()),
        minloglevel=2,
    )
    trained = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    if any(trained.id_to_piece(number) != text for number, text in symbols.items()):
        raise AssertionError("this sentencepiece numbers its pieces differently")
    return model.getvalue()
