"""Chat templates that go on and on: each is refused with a reason, and nothing legitimate is."""

from __future__ import annotations

import pytest

from masc.compiler.models import chat_sandbox
from masc.compiler.models.chat import ChatTemplate, Message, look
from masc.compiler.models.folder.templates import examine_template
from masc.compiler.models.refusal import RefusalError

SAID: tuple[Message, ...] = (("system", "You are."), ("user", "Hi"))
TWICE = "{% if n %}{{ f(n-1) }}{{ f(n-1) }}{% endif %}"
LOOP = "{% for i in range(100000) %}"
END = "{% endfor %}"
ENDLESS = {
    "loops that write nothing": LOOP + LOOP + END + END,
    "loops that write nothing in a row": (LOOP + END) * 2,
    "loops whose test is never true": LOOP + "{% for j in range(100000) if j < 0 %}{% endfor %}" + END,
    "a macro that calls itself twice": "{% macro f(n) %}" + TWICE + "{% endmacro %}{{ f(60) }}",
    "a macro in a call block": (
        "{% macro g() %}{{ caller() }}{% endmacro %}{% macro f(n) %}{% call g() %}"
        + TWICE
        + "{% endcall %}{% endmacro %}{{ f(18) }}"
    ),
    "a loop that calls itself": (
        "{% for x in [20] recursive %}{% if x %}{{ loop([x-1, x-1]) }}{% endif %}{% endfor %}"
    ),
    "filters": "{% set l = range(99999)|list %}" + LOOP + "{% set k = l|first %}" + END,
}
TOO_MUCH = {
    "much written": LOOP + "{{ 'x' * 100000 }}" + END,
    "a product": "{{ 'a' * 10000000000 }}",
    "a product of lists": "{{ 10000000000 * [0] }}",
    "doubled with ~": "{% set s = 'ab' %}" + "{% set s = s ~ s %}" * 60,
    "doubled with +": "{% set s = 'ab' %}" + "{% set s = s + s %}" * 60,
    "doubled in a block": "{% set s = 'ab' %}" + "{% set s %}{{ s }}{{ s }}{% endset %}" * 60,
    "lists doubled": "{% set l = [1] %}" + "{% set l = l + l %}" * 60,
    "replaced": "{% set s = 'a' * 900 %}{{ s|replace('a', s)|replace('b', s) ~ s|replace('a', s) }}",
}
GREAT = {
    "a filter's width": "{{ 'a'|center(99999999999) }}",
    "a filter's width, not known before": "{{ messages[0].content|center(99999999999) }}",
    "a method's width": "{{ 'a'.ljust(99999999999) }}",
    "a power": "{{ 10 ** (10 ** 9) }}",
    "numbers squared": "{% set ns = namespace(n=9) %}{% for i in range(40) %}{% set ns.n = ns.n * ns.n %}{% endfor %}",
}


@pytest.mark.parametrize("what", ENDLESS)
def test_what_does_not_end_is_refused(what: str) -> None:
    with pytest.raises(RefusalError, match=r"does not come to an end: at line 1"):
        ChatTemplate(ENDLESS[what]).render(SAID, "text")


@pytest.mark.parametrize("what", TOO_MUCH)
def test_what_makes_too_much_is_refused(what: str) -> None:
    with pytest.raises(RefusalError, match=r"(makes|writes) too much"):
        ChatTemplate(TOO_MUCH[what]).render(SAID, "text")


@pytest.mark.parametrize("what", GREAT)
def test_great_numbers_are_refused_before_anything_is_made_of_them(what: str) -> None:
    with pytest.raises(RefusalError, match=r"beyond 1,000,000|a thousand digits"):
        ChatTemplate(GREAT[what]).render(SAID, "text")


def test_steps_that_are_long_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_sandbox, "SECONDS", -1)
    with pytest.raises(RefusalError, match="at line 2 it has run for"):
        ChatTemplate("a\n{% for m in messages %}{{ m.content }}{% endfor %}").render(SAID, "text")


def test_a_long_prompt_may_be_looked_at_letter_by_letter() -> None:
    template = ChatTemplate("{% for m in messages %}{% for c in m.content %}{{ c }}{% endfor %}{% endfor %}")
    long = "word " * 60_000
    assert template.render([("user", long)], "text") == long


def test_steps_change_nothing_that_a_template_writes() -> None:
    text = (
        "{% filter upper %}abc{% endfilter %}{% set x | upper %}def{% endset %}{{ x }}"
        "{% macro w(a, b='-') %}[{{ a ~ b ~ caller(a) }}]{% endmacro %}{% call(y) w('in') %}{{ y }}{% endcall %}"
        "{{ range(3)|map('string')|join('-') }}{{ 3000000|string }}{{ 'ab' * 2 }}{{ 2 ** 10 }}"
        "{% for m in messages if m.role == 'user' %}{{ loop.length }}{{ loop.last }}{% else %}none{% endfor %}"
        "{% for x in [[1], [2]] recursive %}{{ loop(x) if x is iterable else x }}{% endfor %}"
        "{% block b %}block{% endblock %}{{ self.b() }}{% for m in [] %}{% else %}empty{% endfor %}"
    )
    told = "ABCDEF[in-in]0-1-23000000abab10241True12blockblockempty"
    assert ChatTemplate(text).render(SAID, "text") == told


def test_it_is_said_of_the_model_before_anything_runs() -> None:
    _, findings = examine_template(ENDLESS["loops that write nothing"], None)
    (found,) = findings
    assert found.code == "E0537"
    assert "cannot be used: its chat template does not come to an end: at line 1" in found.message


def test_what_is_kept_of_a_template_is_of_what_it_was_told() -> None:
    """`true` and 1 are equal, and a template writes them otherwise."""
    text = "{{ note }}{% for message in messages %}{{ message['content'] }}{% endfor %}"
    starts = [look(ChatTemplate(text, told=(("note", note),))).start[:4] for note in (True, 1, "True", 1.0)]
    assert starts == ["True", "1The", "True", "1.0T"]
