"""Rows that cannot be run: what is said of them, whichever engine runs them."""

from __future__ import annotations

from masc.dsl.diagnostics import MascError, fail


def empty_prompt(agent: str, index: int) -> MascError:
    return fail("E0619", f"the prompt of agent `{agent}` is empty for row {index + 1}")


def too_long(agent: str, index: int, end: int, limit: int) -> MascError:
    return fail(
        "E0606",
        f"row {index + 1} needs {end} positions by the end of agent `{agent}`; there are {limit}",
        hint="shorten the input, or raise `max_length` if it is the lower limit",
    )


def answer_too_long(index: int, limit: int) -> MascError:
    return fail(
        "E0606",
        f"the answer to row {index + 1} runs past the model's {limit} positions",
        hint="shorten the input, or pass on less with `carry = own` or `carry = latents`",
    )


def no_numbers(agent: str, index: int) -> MascError:
    return fail(
        "E0701",
        f"the logits of agent `{agent}` are not numbers for row {index + 1}: they are NaN or infinite",
        hint="the weights of its base model or of an adapter are damaged or have diverged, or its numbers are too "
        "large for the dtype: fetch the model again, try `float32`, or train with a lower `rate`",
    )
