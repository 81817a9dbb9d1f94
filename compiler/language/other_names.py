"""What options, entries and words are called in PEFT, transformers and elsewhere: hints for who comes from there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from masc.dsl.diagnostics import did_you_mean

_CALLED = {
    "rate": "lr learning_rate base_lr max_lr learning",
    "batch": "batch_size bs train_batch_size per_device_train_batch_size micro_batch_size bsz",
    "steps": "max_steps num_steps train_steps total_steps iterations iters max_iters num_iterations updates",
    "accumulate": "gradient_accumulation_steps gradient_accumulation grad_accum grad_accum_steps accumulation_steps",
    "clip": "max_grad_norm grad_clip gradient_clip gradient_clipping clip_grad clip_grad_norm max_norm grad_norm "
    "epsilon eps cliprange clip_range clip_ratio",
    "weight_decay": "wd decay l2",
    "save_every": "save_steps save_interval checkpoint_every checkpointing_steps save_strategy",
    "keep": "save_total_limit keep_last max_checkpoints",
    "eval_every": "eval_steps eval_interval evaluation_steps evaluation_strategy eval_strategy val_every",
    "max_length": "max_seq_length max_seq_len max_len cutoff_len block_size model_max_length context_length",
    "data": "train_file train_data dataset train dataset_name training_data data_path train_path",
    "eval_data": "eval_file validation_data val_data dev_data test_data validation_file test_file eval_dataset",
    "seed": "random_seed data_seed manual_seed",
    "rank": "r lora_r lora_rank dim lora_dim",
    "alpha": "lora_alpha scaling scale",
    "dropout": "lora_dropout p drop",
    "targets": "target_modules modules layers lora_target",
    "max_tokens": "max_new_tokens max_length tokens num_predict max_output_tokens length n_predict",
    "temperature": "temp t",
    "align": "alignment mode map project",
    "carry": "mode pass passes what content keep sees send",
    "gradient": "grad gradients backward detach stop_gradient stop_grad",
    "open": "warmup open_steps curriculum anneal",
    "merge": "join combine position positions",
    "link": "projection projector proj map bridge",
    "width": "dim hidden hidden_size size",
    "gate": "mask prune pruning learnable learned_gate gated gating",
    "sparsity": "l0 l0_lambda lambda l0_penalty gate_penalty prune pruning sparse sparsity_weight",
    "gate_rate": "gate_lr gate_learning_rate mask_lr lr_gate",
    "objective": "loss loss_type trainer algorithm algo method rl task",
    "reward": "reward_funcs reward_func reward_function reward_fn rewards scorer score metric",
    "group": "num_generations generations num_samples samples group_size n rollouts",
    "kl": "beta kl_coef kl_weight kl_coeff init_kl_coef kl_beta",
    "updates": "num_iterations ppo_epochs mu epochs iterations",
    "learned": "learnable trained trainable train hard_concrete on true yes",
    "revision": "branch commit tag version rev",
    "load": "quantization quantize quant quantized dtype torch_dtype precision load_in bits load_in_4bit load_in_8bit",
    "template": "chat_template_kwargs template_kwargs chat_template variables kwargs enable_thinking",
    "device": "device_map gpu place on to",
    # words
    "supervised": "sft ce cross_entropy likelihood mle nll lm",
    "grpo": "rl ppo reinforce rloo gspo dapo dr_grpo policy_gradient reward rlvr rlhf",
    "nf4": "4bit int4 fp4 q4 bnb bitsandbytes qlora four true",
    "int8": "8bit q8 eight i8 llm_int8",
    "float8": "fp8 e4m3 f8 float8_e4m3fn",
    "bfloat16": "bf16 fp16 float16 half f16 mixed amp auto",
    "float32": "fp32 f32 full single float",
    "agent": "true gradient full all on yes",
    "all": "all-linear linear every everything",
    "none": "null nothing off frozen freeze false no disabled base",
    "trace": "all full everything whole context cache kv",
    "own": "self segment mine local prompt",
    "latents": "latent thoughts thought think hidden",
    "stop": "stop_sequences stop_strings eos stop_tokens stop_words eos_token until none false detach off no zero cut",
    "full": "true yes on all",
    "stack": "concat concatenate cat append sequential",
    "overlap": "parallel union shared same",
    "lora": "qlora peft adapter low_rank",
    "rslora": "use_rslora rank_stabilized rs_lora",
    "dora": "use_dora",
    "true": "yes on y",
    "false": "no off n",
}
_NOTES = {
    "warmup_steps": "did you mean `warmup`? It is a share of the steps, such as 0.05",
    "num_warmup_steps": "did you mean `warmup`? It is a share of the steps, such as 0.05",
    "warmup_ratio": "did you mean `warmup`?",
    "gradient_checkpointing": "write `checkpoint agent`",
    "fp16": "write `dtype bfloat16`",
    "bf16": "write `dtype bfloat16`",
    "precision": "did you mean `dtype`?",
    "mixed_precision": "did you mean `dtype`?",
    "torch_dtype": "did you mean `dtype`?",
    "do_sample": "`temperature = 0` is greedy, above 0 it samples",
    "greedy": "`temperature = 0` is greedy, above 0 it samples",
}
_NOTES |= dict.fromkeys(
    ("epochs", "num_train_epochs", "num_epochs", "epoch", "max_epochs"),
    "`steps` counts optimiser steps: an epoch has as many as there are rows by `batch` times `accumulate`",
)
_NOTES |= dict.fromkeys(
    ("optimizer", "optim", "optimiser", "betas", "adam_beta1", "adam_beta2", "eps", "adam_epsilon", "momentum"),
    "the optimiser is AdamW; `rate`, `weight_decay` and `clip` can be set",
)
_NOTES |= dict.fromkeys(
    ("scheduler", "lr_scheduler", "lr_scheduler_type", "schedule", "min_lr", "lr_schedule"),
    "the rate leads up over `warmup` and falls as a cosine",
)
_NOTES |= dict.fromkeys(
    ("lora_rank", "lora_r", "lora_alpha", "lora_dropout", "target_modules", "lora", "r", "rank", "alpha"),
    "adapters belong to agents: `adapt lora(rank = 8, alpha = 16)`",
)
_NOTES |= dict.fromkeys(
    ("top_k", "min_p", "num_beams", "typical_p", "repetition_penalty", "frequency_penalty", "presence_penalty"),
    "an answer is sampled with `temperature` and `top_p` alone",
)
_NOTES |= {name: f"write `lora({name} = true)`" for name in ("rslora", "dora")}
_NOTES |= dict.fromkeys(
    ("attention", "attn_implementation", "attn", "flash_attention", "flash_attention_2"),
    "masc computes attention by one function of its own, since every layer may see other columns",
)
_NOTES["gate"] = "words take no gradient, so that no gate on them could learn: all other channels have one"
_NOTES |= dict.fromkeys(("resume", "resume_from_checkpoint"), "go on with `masc train --resume`")
_NOTES |= dict.fromkeys(("device", "gpus", "num_gpus", "devices"), "choose it with `masc train --device`")
_NOTES |= dict.fromkeys(("report_to", "wandb", "tracker", "logger"), "choose it with `masc train --tracker`")
_NOTES |= dict.fromkeys(("output_dir", "save_dir"), "choose it with `masc compile -o`")
_NOTES |= dict.fromkeys(("logging_steps", "log_every", "log_interval"), "every step is logged")
_NOTES |= dict.fromkeys(("shuffle", "sampler"), "rows are drawn in an order that `seed` decides")


def meant(wrong: str, known: Sequence[str], called: Mapping[str, str] = _CALLED) -> str | None:
    """The hint for a name or a word that is none of the known ones: what is meant if it is called so elsewhere
    (`called`: by our name, what others say), else what looks like it."""
    lower = wrong.lower()
    if not known:
        return _NOTES[lower] if lower == "gate" else None  # of `text`, whose senders take no gradient
    if lower in known:
        return f"did you mean `{lower}`?"
    other = called_here(lower, known, called)
    return f"did you mean `{other}`?" if other else _NOTES.get(lower) or did_you_mean(wrong, known)


def called_here(theirs: str, known: Sequence[str], called: Mapping[str, str] = _CALLED) -> str | None:
    """Which of the known names is called so elsewhere."""
    return next((ours for ours in known if theirs in called.get(ours, "").split()), None)
