"""Tests that need an extra: `make test-torch` runs them; elsewhere they are skipped, and say so."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def small_stable_diffusion(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from support.small_models import save_stable_diffusion

    folder = tmp_path_factory.mktemp("stable-diffusion")
    save_stable_diffusion(folder)
    return folder / "model"


@pytest.fixture(scope="session")
def small_sentence_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from support.small_models import save_sentence_encoder

    folder = tmp_path_factory.mktemp("sentence-encoder")
    save_sentence_encoder(folder)
    return folder / "model"
