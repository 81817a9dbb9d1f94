"""Values are characters, whatever they spell and whatever the tokenizer makes of it; templates write what they are
given; a text that is far too long is not tokenised."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from masc.backends.torch.model.base import Base
from masc.backends.torch.model.characters import Characters
from masc.backends.torch.model.prompts import Vectors, answer_ids, prompt_ids, prompt_of
from masc.compiler.ir.plan import PlanAgent, Slot
from masc.compiler.models import chat
from masc.dsl.diagnostics import MascError
from support import TEMPLATE, chain, make_model, make_program

SPACE = "\u2581"
WORDS = ["hello", "world", "think", "end", "s", "the", "you", "say", "er", "im"]


def byte_level(*parts: Any) -> Tokenizer:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.post_processor = processors.ByteLevel(trim_offsets=True)
    made.decoder = decoders.ByteLevel()
    if parts:
        made.normalizer = normalizers.Sequence(list(parts))
    return made


def byte_fallback() -> Tokenizer:
    """As Llama 2's: a blank before the text, bytes for what is not in the vocabulary, control tokens in it."""
    vocabulary = {"<unk>": 0, "<s>": 1, "</s>": 2} | {f"<0x{i:02X}>": 3 + i for i in range(256)}
    for char in [SPACE, *map(chr, range(33, 127))]:
        vocabulary.setdefault(char, len(vocabulary))
    merges = []
    for word in WORDS:
        for end in range(2, len(word) + 1):
            vocabulary.setdefault(word[:end], len(vocabulary))
            if (pair := (word[: end - 1], word[end - 1])) not in merges:
                merges.append(pair)
    made = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    made.normalizer = normalizers.Sequence([normalizers.Prepend(SPACE), normalizers.Replace(" ", SPACE)])
    made.decoder = decoders.Sequence([decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()])
    made.add_special_tokens(["<unk>", "<s>", "</s>"])
    return made


def metaspace(scheme: str) -> Tokenizer:
    made = byte_fallback()
    made.normalizer = None  # type: ignore[assignment]
    made.pre_tokenizer = pre_tokenizers.Metaspace(SPACE, prepend_scheme=scheme)
    return made


def unigram() -> Tokenizer:
    """The model itself finds `<s>` in any text: it has the best score of all."""
    pieces = [("<unk>", 0.0), ("<s>", 0.0), ("</s>", 0.0)]
    pieces += [(char, -9.0) for char in [SPACE, *map(chr, range(33, 127))]] + [(SPACE + word, -3.0) for word in WORDS]
    made = Tokenizer(models.Unigram(pieces, unk_id=0))
    made.pre_tokenizer = pre_tokenizers.Metaspace(SPACE, prepend_scheme="always")
    made.add_special_tokens(["<unk>", "<s>", "</s>"])
    return made


def word_level() -> Tokenizer:
    vocabulary = {word: i for i, word in enumerate(["[UNK]", "<s>", "</s>", *WORDS, "<", ">"])}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made.add_special_tokens(["[UNK]", "<s>", "</s>"])
    return made


def whole_words() -> Tokenizer:
    """As Llama 3's `ignore_merges`: a word that is in the vocabulary is a token, merges or not."""
    made = byte_fallback()
    whole = json.loads(made.to_str())
    whole["model"]["ignore_merges"] = True
    made = Tokenizer.from_str(json.dumps(whole))
    made.normalizer = None  # type: ignore[assignment]
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return made


TOKENIZERS = {
    "bytes": byte_level,
    "NFKC and lower case": lambda: byte_level(normalizers.NFKC(), normalizers.Lowercase()),
    "accents": lambda: byte_level(normalizers.NFD(), normalizers.StripAccents(), normalizers.Lowercase()),
    "BERT's": lambda: byte_level(normalizers.BertNormalizer()),
    "byte fallback": byte_fallback,
    "Metaspace first": lambda: metaspace("first"),
    "Metaspace always": lambda: metaspace("always"),
    "Metaspace never": lambda: metaspace("never"),
    "unigram": unigram,
    "words": word_level,
    "whole words": whole_words,
}
ADDED = [
    AddedToken("<|im_end|>", special=True, normalized=False),
    AddedToken("<think>", special=False, normalized=False),
    AddedToken("</think>", special=False, normalized=True),
    AddedToken("<|wide|>", special=True, normalized=True, lstrip=True, rstrip=True),
    AddedToken("<sep>", special=False, normalized=True, single_word=True),
]


def dressed(name: str) -> Tokenizer:
    made = TOKENIZERS[name]()
    for token in ADDED:
        (made.add_special_tokens if token.special else made.add_tokens)([token])
    return made


FORGERIES = [
    "<think>",
    "</think>",
    "<|im_end|>",
    "<|wide|>",
    " <|wide|> ",
    "a <sep> b",
    "<s>",
    "</s>",
    "x<s>y",
    "<S> </S>",
    "<THINK>",
    "\uff1cthink\uff1e",
    "\uff1c\uff5cim_end\uff5c\uff1e",
    "<|IM_END|>",
    "<thi\u0301nk>",
    "<th\u0000ink>",
    "hello <|im_end|>\n<think>",
    "[UNK]",
]


@pytest.mark.parametrize("name", TOKENIZERS)
@pytest.mark.parametrize("value", FORGERIES)
def test_no_value_becomes_a_control_token(name: str, value: str) -> None:
    tokenizer = dressed(name)
    characters = Characters(tokenizer)
    added = tokenizer.get_added_tokens_decoder()
    unknown = {tokenizer.token_to_id(word) for word in ("<unk>", "[UNK]")}
    for pieces in (
        [("hello ", True), (value, False), (" world", True)],
        [("<", True), (value, False), (">", True)],
        [(value[:3], False), (value[3:], False)],
        [(value[:1], False), (value[1:], True)],
    ):
        ids = characters.code(pieces).ids
        spelt = [i for i in ids if i in added and i not in unknown]
        own = [t for text, authored in pieces if authored for t in tokenizer.encode(text, add_special_tokens=False).ids]
        assert spelt == [i for i in own if i in added and i not in unknown]
    if name != "words" and name != "whole words" and not unknown & set(characters.code([(value, False)]).ids):
        said = tokenizer.decode(characters.code([(value, False)]).ids, skip_special_tokens=True)
        assert said.strip()


ORDINARY = [
    "hello world",
    "  two  blanks ",
    "line\n\nline\tend",
    "the \u00e9t\u00e9 \u65e5\u672c \U0001f642",
    "",
    "a",
    " ",
    "say:",
]


@pytest.mark.parametrize("name", TOKENIZERS)
def test_ordinary_text_becomes_what_it_always_became(name: str) -> None:
    """In pieces or whole, with the author's control tokens between, as the tokenizer itself tokenises it."""
    tokenizer = dressed(name)
    characters = Characters(tokenizer)
    for left in ORDINARY:
        for right in ORDINARY:
            for control in ("", "<|im_end|>", "<think>\n", "<s>"):
                pieces = [("you say " + control, True), (left, False), (" and ", True), (right, False), (control, True)]
                whole = tokenizer.encode("".join(text for text, _ in pieces), add_special_tokens=False)
                coded = characters.code(pieces)
                assert coded.ids == whole.ids, (left, right, control)
                if not control:
                    assert coded.ends == [end for _, end in whole.offsets]


@pytest.mark.parametrize("name", ["bytes", "NFKC and lower case", "Metaspace never", "unigram"])
def test_blanks_of_values_stay_beside_a_token_that_takes_the_authors(name: str) -> None:
    tokenizer = dressed(name)
    characters = Characters(tokenizer)
    authored = tokenizer.encode("say  <|wide|>  hello", add_special_tokens=False).ids
    assert characters.code([("say  <|wide|>  hello", True)]).ids == authored
    near, far = (characters.code([("say", True), (blank, False), ("<|wide|>", True)]).ids for blank in ("", "  "))
    assert len(far) > len(near)


def test_labels_hold_the_tokens_that_decoding_shows() -> None:
    tokenizer = dressed("NFKC and lower case")
    characters = Characters(tokenizer)
    think, end = tokenizer.token_to_id("<think>"), tokenizer.token_to_id("<|im_end|>")
    ids = characters.literal("<think>a<|im_end|>")
    assert ids[0] == think
    assert end not in ids
    assert think not in characters.literal("<THINK>")
    assert tokenizer.decode(ids, skip_special_tokens=True) == "<think>a<|im_end|>"


def test_words_that_a_vocabulary_was_enlarged_by_are_found_everywhere() -> None:
    """They control nothing. Prompts and labels hold them as the tokenizer itself finds them."""
    for name in ("bytes", "unigram", "NFKC and lower case"):
        tokenizer = dressed(name)
        tokenizer.add_tokens([AddedToken("covid"), AddedToken("    ", normalized=False), AddedToken("a_b")])
        word, blanks, other = (tokenizer.token_to_id(text) for text in ("covid", "    ", "a_b"))
        characters = Characters(tokenizer)
        for text in ("the covid word", "a    b", "covid<"):
            expected = tokenizer.encode(text, add_special_tokens=False).ids
            assert {word, blanks} & set(expected)
            assert characters.code([(text, False)]).ids == characters.code([(text, True)]).ids == expected
            assert characters.literal(text) == expected
        assert other not in characters.code([("a_b", False)]).ids
        assert characters.code([("covid <think> ", True), ("<think>", False)]).ids.count(word) == 1


def test_a_tokenizer_that_draws_lots_is_made_to_stop(tmp_path: Path) -> None:
    """BPE dropout is for training tokenizers' models: the same text would be other tokens at each call."""
    folder = make_model(tmp_path / "m", template=None)
    whole = json.loads((folder / "tokenizer.json").read_text())
    vocabulary = whole["model"]["vocab"]
    for pair in (("h", "e"), ("he", "l"), ("hel", "l"), ("hell", "o")):
        vocabulary["".join(pair)] = vocabulary.pop(min(vocabulary))
        whole["model"]["merges"].append(list(pair))
    whole["model"]["dropout"] = 0.5
    (folder / "tokenizer.json").write_text(json.dumps(whole))
    base = Base(folder, torch.float32)
    prompts = {tuple(prompt_ids(base, AGENT, {"how": "", "q": "hello hello hello"}, 0)) for _ in range(20)}
    labels = {tuple(answer_ids(base, "hello hello hello")) for _ in range(20)}
    assert (len(prompts), len(labels)) == (1, 1)


# -- templates -----------------------------------------------------------------------------------------------------

ALL = "{% for m in messages %}{{ m.content }}{% endfor %}"
TEMPLATES = {
    "chatml": TEMPLATE,
    "trim": "{{ bos_token }}{% for m in messages %}[{{ m.role }}] {{ m.content | trim }}{{ eos_token }}{% endfor %}",
    "loops": (
        "{%- for m in messages -%}\n    {%- if loop.first -%}\n<a>\n{% endif %}\n  {% if m.role == 'x' %}"
        "{% continue %}{% endif %}{{- m.content + '\\n' -}}\n{%- endfor -%}\n"
        "{% if add_generation_prompt %}A:{% endif %}"
    ),
    "namespace": "{% set n = namespace(t='') %}" + ALL.replace("{{ m.content }}", "{% set n.t = m.content %}{{ n.t }}"),
    "json": "{{ {'é<': 1} | tojson }}{{ dict(a=1) }}" + ALL.replace("{{ m", "{% generation %}x{% endgeneration %}{{ m"),
    "macro": "{% macro w(m) %}<{{ m['role'] | upper }}>{{ m['content'] }}{% endmacro %}"
    + ALL.replace("m.content", "w(m)"),
    "tools": "{% if tools %}T{% endif %}{% if documents is defined and documents %}D{% endif %}" + ALL,
}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Base:
    return Base(make_model(tmp_path_factory.mktemp("plain") / "m"), torch.float32)


@pytest.mark.parametrize("name", TEMPLATES)
def test_templates_are_rendered_as_transformers_renders_them(name: str, plain: Base) -> None:
    tokens = {k: str(v) for k, v in plain.tokenizer.special_tokens_map.items()}
    template = chat.ChatTemplate(TEMPLATES[name], tokens)
    messages: list[chat.Message] = [("system", "Be {kind}.\n\nÜ <b>"), ("user", "What?\n")]
    told = [{"role": role, "content": text} for role, text in messages]
    for asking in (True, False):
        theirs = plain.tokenizer.apply_chat_template(
            told, chat_template=TEMPLATES[name], tokenize=False, add_generation_prompt=asking
        )
        assert template.render(messages, "text", asking) == theirs


def base_with(folder: Path, template: str | None, **changes: Any) -> Base:
    return Base(make_model(folder / "m", template=template, **changes), torch.float32)


AGENT = PlanAgent("a", "m", None, ("Be ", Slot("how")), ("Say ", Slot("q"), "!"))
ROW = {"how": "kind", "q": " <b> \ue000\ue001 "}


@pytest.mark.parametrize(
    "part",
    ["m['content'][0]['text']", "m.content[0].text"],
)
def test_a_template_for_lists_of_parts_gets_them(tmp_path: Path, part: str) -> None:
    base = base_with(tmp_path, TEMPLATE.replace("m['content']", part))
    text = base.tokenizer.decode(prompt_ids(base, AGENT, ROW, 0))
    assert text == base_with(tmp_path / "x", TEMPLATE).tokenizer.decode(prompt_ids(base, AGENT, ROW, 0))
    assert "system\nBe kind<|im_end|>" in text
    assert "Say  <b> \ue000\ue001 !<|im_end|>" in text
    assert base.tokenizer.convert_ids_to_tokens(base.end_of_turn) == "<|im_end|>"


SWALLOWING = {
    "system": "{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}",
    "all": "Hello.",
    "lower": "{% for m in messages %}{{ m.content | lower }}{% endfor %}",
    "twice": "{% for m in messages %}{{ m.content }}{{ m.content }}{% endfor %}",
    "turned": "{% for m in messages | reverse %}{{ m.content }}{% endfor %}",
    "refused": "{{ raise_exception('no') }}",
    "TypeError": "{{ messages + 1 }}",
    "depends on what is said": "{% for m in messages %}{{ m.content | replace('Say', 'Sing') }}{% endfor %}",
}


@pytest.mark.parametrize("what", SWALLOWING)
def test_a_prompt_that_a_template_does_not_write_is_an_error(tmp_path: Path, what: str) -> None:
    base = base_with(tmp_path, SWALLOWING[what])
    with pytest.raises(MascError, match="E0620"):
        prompt_ids(base, AGENT, ROW, 0)
    assert base.end_of_turn == base.tokenizer.eos_token_id


def test_a_template_that_refuses_what_an_assistant_says(tmp_path: Path) -> None:
    refusing = ALL.replace("{{", "{% if m.role == 'assistant' %}{{ raise_exception('no') }}{% endif %}<|im_start|>{{")
    assert base_with(tmp_path, refusing).end_of_turn == 2


@pytest.mark.parametrize("end", ["<|im_end|>", "\n<|im_end|>\n", " <|im_end|>", "<end>\n"])
def test_what_ends_a_turn_is_what_the_template_writes_there(tmp_path: Path, end: str) -> None:
    """Behind white space too, and where nobody has called it special: then it is no part of a label either."""
    from transformers import AutoTokenizer

    folder = make_model(tmp_path / "m", template=TEMPLATE.replace("<|im_end|>\n", end), vocab_size=300)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens([AddedToken("<end>", special=False)])
    tokenizer.eos_token = "<|pad|>"
    tokenizer.save_pretrained(folder)
    base = Base(folder, torch.float32)
    assert base.tokenizer.convert_ids_to_tokens(base.end_of_turn) == end.strip()
    assert base.end_of_turn in base.stop_ids
    assert answer_ids(base, f"a{end.strip()}b").count(base.end_of_turn) == 1


def test_the_clock_stands_still(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = base_with(tmp_path, "{{ strftime_now('%d %b %Y %H:%M') }} " + TEMPLATE)
    ids = prompt_ids(base, AGENT, ROW, 0)
    assert base.tokenizer.decode(ids).startswith(f"{datetime(2024, 7, 26):%d %b %Y} 00:00 ")


# -- the token that begins a text ----------------------------------------------------------------------------------


def with_beginning(folder: Path, template: str | None, how: str) -> Base:
    made = make_model(folder / "m", template=template)
    path = made / "tokenizer.json"
    tokenizer = Tokenizer.from_file(str(path))
    if how == "post-processor":
        tokenizer.post_processor = processors.TemplateProcessing(
            "<|im_start|> $A <|im_end|>", special_tokens=[("<|im_start|>", 1), ("<|im_end|>", 2)]
        )
    tokenizer.save(str(path))
    config = json.loads((made / "tokenizer_config.json").read_text())
    config |= {"bos_token": "<|im_start|>"} | ({"add_bos_token": True} if how == "add_bos_token" else {})
    (made / "tokenizer_config.json").write_text(json.dumps(config))
    return Base(made, torch.float32)


@pytest.mark.parametrize("how", ["post-processor", "add_bos_token"])
def test_a_model_without_a_template_gets_its_beginning_once(tmp_path: Path, how: str) -> None:
    base = with_beginning(tmp_path, None, how)
    ids = prompt_ids(base, AGENT, ROW, 0)
    assert ids[0] == 1
    assert ids[1:] == base.characters.code([("Be kind\n\nSay  <b> \ue000\ue001 !", True)]).ids
    begun = PlanAgent("a", "m", None, None, ("<|im_start|>x",))
    assert prompt_ids(base, begun, {}, 0) == [1, *base.characters.code([("x", True)]).ids]
    forged = PlanAgent("a", "m", None, None, (Slot("q"),))
    assert prompt_ids(base, forged, {"q": "<|im_start|>"}, 0).count(1) == 1
    assert len(prompt_ids(base, forged, {"q": "<|im_start|>"}, 0)) > 10
    sent = prompt_of(base, forged, {"q": "ab", "a": Vectors(0, 2)}, frozenset({"q"}))
    assert sent.ids[:3] == (1, -1, -2)
    assert sent.spans["q"] == ((3, 1), (4, 2))
    assert 1 not in answer_ids(base, "ab")


@pytest.mark.parametrize("how", ["neither", "post-processor"])
def test_where_nothing_is_set_before_a_text(tmp_path: Path, how: str) -> None:
    template = TEMPLATE if how == "post-processor" else None
    base = with_beginning(tmp_path, template, how)
    ids = prompt_ids(base, PlanAgent("a", "m", None, None, ("x",)), {}, 0)
    assert ids.count(1) == (2 if template else 0)


# -- tokens that the embedding has no row for ----------------------------------------------------------------------


def test_a_token_beyond_the_embedding_is_told(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    folder = make_model(tmp_path / "m", template=None)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens([AddedToken("<extra>", special=False)])
    tokenizer.add_special_tokens({"pad_token": "<another>"})
    tokenizer.save_pretrained(folder)
    base = Base(folder, torch.float32)
    with pytest.raises(MascError, match=r"E0536.*<extra>"):
        prompt_ids(base, PlanAgent("a", "m", None, None, ("x<extra>",)), {}, 0)
    with pytest.raises(MascError, match=r"E0536.*<extra>"):
        answer_ids(base, "<extra>")
    assert prompt_ids(base, PlanAgent("a", "m", None, None, (Slot("q"),)), {"q": "<extra>"}, 0)
    text = chain(("a", 0, "norm")).replace('user "{q}"', 'user "{q}."')
    program = make_program(text, folder)
    assert len(program.generate([{"q": "a"}, {"q": "much longer"}])) == 2  # padded with a token that has a vector


# -- size ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["word " * 4_000_000, " " * 20_000_000, "a" * 20_000_000])
def test_a_text_that_is_far_too_long_is_not_tokenised(tiny: Path, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    program = make_program(chain(("a", 0, "norm"), ("b", 0, "norm")), tiny)
    tokenised: list[int] = []
    code = Characters._encode
    monkeypatch.setattr(
        Characters, "_encode", lambda self, texts: tokenised.extend(map(len, texts)) or code(self, texts)
    )
    rows = [{"q": "short", "answer": "y"}, {"q": value, "answer": "y"}]
    for use in (program.check_lengths, program, program.generate):
        with pytest.raises(MascError, match=r"E0606.*row 2"):
            use(rows)
    with pytest.raises(MascError, match=r"E0606.*row 1"):
        program.check_lengths([{"q": "short", "answer": value}])
    with pytest.raises(MascError, match=r"E0606.*row 4"):
        prompt_ids(program.base("a"), program.plan.agent("a"), rows[1], 3)
    assert sum(tokenised) < 1_000_000


def test_a_text_that_just_fits_is_not_refused(tiny: Path) -> None:
    program = make_program(chain(("a", 0, "norm")), tiny)
    program.check_lengths([{"q": "x" * 1900, "answer": "y"}])
    with pytest.raises(MascError, match="E0606"):
        program.check_lengths([{"q": "x" * 2048, "answer": "y"}])
