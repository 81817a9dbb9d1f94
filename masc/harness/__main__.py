"""`python -m masc.harness`: the command of lm-evaluation-harness, to which the model `masc` is known.

Versions of it after 0.4.13 find the model by its entry point: there `lm_eval` itself does.
"""

from __future__ import annotations


def main() -> None:
    from lm_eval.__main__ import cli_evaluate

    import masc.harness.model  # noqa: F401  # which makes the model known

    cli_evaluate()


if __name__ == "__main__":
    main()
