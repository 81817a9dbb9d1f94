"""Maps from output to input embeddings that are fitted to a model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from masc.backends.torch.model.align import procrustes_map
from support import chain, make_model, make_program


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def rotation(size: int, seed: int = 0) -> Tensor:
    return torch.linalg.qr(random(size, size, seed=seed)).Q


def misfit(matrix: Tensor, output: Tensor, table: Tensor) -> float:
    return float((output @ matrix - table).norm())


def test_a_rotation_that_is_there_is_found() -> None:
    output, turn = random(300, 24), rotation(24, seed=1)
    torch.testing.assert_close(procrustes_map(output, output @ turn), turn, atol=1e-5, rtol=0)


def test_no_other_rotation_fits_better() -> None:
    output, table = random(300, 24), random(300, 24, seed=1)
    best = procrustes_map(output, table)
    torch.testing.assert_close(best.T @ best, torch.eye(24), atol=1e-5, rtol=0)
    for seed in range(20):
        near = torch.linalg.matrix_exp(0.01 * (random(24, 24, seed=seed) - random(24, 24, seed=seed).T))
        assert misfit(best, output, table) < misfit(best @ near, output, table)


@pytest.mark.parametrize("tokens", [300, 9])
def test_tied_embeddings_need_no_rotation(tokens: int) -> None:
    """Up to a factor, as in Gemma; also where the embeddings span less than the space."""
    table = random(tokens, 24)
    torch.testing.assert_close(procrustes_map(table, 4 * table), torch.eye(24), atol=1e-5, rtol=0)


def test_many_tokens_are_read_in_parts() -> None:
    output, table = random(20_000, 4), random(20_000, 4, seed=1)
    left, _, right = torch.linalg.svd(output.double().T @ table.double())
    torch.testing.assert_close(procrustes_map(output, table), (left @ right).float(), atol=1e-6, rtol=0)


def test_a_model_s_rotation_is_kept(tmp_path: Path) -> None:
    program = make_program(chain(("a", 2, "procrustes"), ("b", 0, "norm")), make_model(tmp_path / "m"))
    base = program.base("a")
    matrix = base.fitted(procrustes_map)
    assert matrix is base.fitted(procrustes_map)
    assert matrix.dtype == torch.float32
    torch.testing.assert_close(matrix @ matrix.T, torch.eye(matrix.shape[0]), atol=1e-5, rtol=0)
    assert not program.links  # nothing of it is trained
