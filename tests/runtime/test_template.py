"""Chat templates as Hugging Face renders them, and templates that mean harm."""

from __future__ import annotations

import datetime

import pytest

from llamafile_runtime.engine.template import CHATML, TemplateFault, compile_template

HELLO = [{"role": "user", "content": "Hi <b>ü</b>"}]


def test_chatml() -> None:
    prompt = compile_template(CHATML).render(HELLO)
    assert prompt == "<|im_start|>user\nHi <b>ü</b><|im_end|>\n<|im_start|>assistant\n"
    assert not compile_template(CHATML).render(HELLO, add_generation_prompt=False).endswith("nt\n")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # Llama 3 and many others rely on trim_blocks and lstrip_blocks.
        ("{% for m in messages %}\n    {% if true %}\n{{ m.content }}\n    {% endif %}\n"
         "{% endfor %}", "Hi <b>ü</b>\n"),
        ("{% for m in messages %}{% break %}{% endfor %}ok", "ok"),
        ("{{ bos_token }}{{ messages[0]['role'] }}{{ eos_token }}", "<s>user</s>"),
        ("{{ messages | tojson }}", '[{"role": "user", "content": "Hi <b>ü</b>"}]'),
        ("{{ {'b': 1, 'a': 2} | tojson(indent=1) }}", '{\n "b": 1,\n "a": 2\n}'),
        ("{{ strftime_now('%Y') }}", str(datetime.datetime.now().year)),
        ("{% if tools %}tools{% else %}none{% endif %}", "none"),
        ("{% if documents is none %}no documents{% endif %}", "no documents"),
        ("{% generation %}x{% endgeneration %}", "x"),
        ("{{ messages[0].content.split(' ')[0] }}", "Hi"),
        ("{% set ns = namespace(n=1) %}{% set ns.n = ns.n + 1 %}{{ ns.n }}", "2"),
    ],
)  # fmt: skip
def test_hugging_face_conventions(text: str, expected: str) -> None:
    assert compile_template(text).render(HELLO, bos_token="<s>", eos_token="</s>") == expected


def test_tools_and_variables_reach_the_template() -> None:
    template = compile_template("{{ tools[0].name }}{{ enable_thinking }}")
    tools = [{"name": "f"}]
    assert template.render(HELLO, tools=tools, variables={"enable_thinking": False}) == "fFalse"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{{ raise_exception('roles must alternate') }}", "roles must alternate"),
        ("{{ messages[0].content + 1 }}", "TypeError"),
        ("{{ 1 / 0 }}", "division"),
        ("{{ messages[7].content }}", "no element 7"),
        ("{{ ''.__class__.__mro__ }}", "unsafe"),
        ("{{ messages.append(1) }}", "unsafe"),
        ("{{ cycler.__init__.__globals__ }}", "unsafe"),
        ("{% for i in range(99999999999) %}{% endfor %}", "ange"),
        ("{% include 'x' %}", "loader"),
    ],
)
def test_faults_when_rendering(text: str, words: str) -> None:
    with pytest.raises(TemplateFault, match=words) as caught:
        compile_template(text).render(HELLO)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["{% if %}", "{{ x", "{% nosuchtag %}", "{{ x | nosuchfilter }}"])
def test_faults_when_compiling(text: str) -> None:
    with pytest.raises(TemplateFault, match="line 1"):
        compile_template(text)
