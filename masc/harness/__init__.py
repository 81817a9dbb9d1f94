"""A team as a model of lm-evaluation-harness (`lm_eval`), and the harness's tasks for `masc eval --task`."""
