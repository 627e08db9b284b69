"""Chat templates: Jinja, as Hugging Face's ``apply_chat_template`` renders it.

A template comes with a model, that is from anyone: it runs in Jinja's sandbox, which lets it
reach nothing but what it is given. Imports Jinja and the standard library only, since the
builder compiles templates too.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jinja2
import jinja2.ext
from jinja2.sandbox import ImmutableSandboxedEnvironment

CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""Used for models that bring no template: the one that most models understand somewhat."""


class TemplateFault(ValueError):
    """A template that cannot be compiled or rendered. The message is one clause."""


@dataclass(frozen=True)
class ChatTemplate:
    """A compiled template. ``text`` is its source."""

    text: str
    _template: jinja2.Template

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        bos_token: str = "",
        eos_token: str = "",
        tools: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool = True,
        variables: Mapping[str, Any] | None = None,
    ) -> str:
        """The prompt for a conversation.

        ``variables`` are what else the template may ask for (``enable_thinking``, …). Raises
        TemplateFault when the template fails or refuses the conversation.
        """
        try:
            return self._template.render(
                **dict(variables or {}),
                messages=messages,
                tools=list(tools) if tools else None,
                documents=None,
                bos_token=bos_token,
                eos_token=eos_token,
                add_generation_prompt=add_generation_prompt,
            )
        except (jinja2.TemplateError, TemplateFault) as error:
            raise TemplateFault(_one_line(error)) from error
        except (TypeError, ValueError, KeyError, AttributeError, ArithmeticError) as error:
            raise TemplateFault(f"{type(error).__name__}: {_one_line(error)}") from error
        except (RecursionError, MemoryError, OverflowError) as error:
            raise TemplateFault("it asks for too much memory or depth") from error


def compile_template(text: str) -> ChatTemplate:
    """Compile a template. Raises TemplateFault when it is not valid Jinja."""
    try:
        return ChatTemplate(text, _environment().from_string(text))
    except jinja2.TemplateSyntaxError as error:
        raise TemplateFault(f"{_one_line(error)} (line {error.lineno})") from error
    except (jinja2.TemplateError, RecursionError, SyntaxError) as error:
        raise TemplateFault(_one_line(error)) from error


def _environment() -> jinja2.Environment:
    # The conventions are those of transformers/utils/chat_template_utils.py.
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, jinja2.ext.loopcontrols]
    )
    environment.filters["tojson"] = _tojson
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = _strftime_now
    return environment


class _Generation(jinja2.ext.Extension):
    """``{% generation %}…{% endgeneration %}``: marks the answer for training; here it is idle."""

    tags = {"generation"}  # noqa: RUF012 - Jinja's own class attribute

    def parse(self, parser: Any) -> list[Any]:
        next(parser.stream)
        body: list[Any] = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return body


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Jinja's own filter escapes HTML and everything beyond ASCII, which no model was taught."""
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )


def _raise_exception(message: object) -> None:
    raise TemplateFault(str(message))


def _strftime_now(form: str) -> str:
    return datetime.datetime.now().strftime(form)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
