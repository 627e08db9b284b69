"""Loading, from the native libraries to a context, step by step."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..native.bindings import bind
from ..native.context import Context, choose_context
from ..native.host import default_threads
from ..native.library import load_libraries
from ..native.log import Log
from ..native.model import Model, load_model
from ..native.weights import Weights
from .request import SamplingParams

if TYPE_CHECKING:
    from .template import ChatTemplate


@dataclass(frozen=True)
class EngineOptions:
    """What to load, and how to answer.

    ``libraries`` gives the folder of llama.cpp's libraries and may unpack them first; ``note``
    is told what the user should know but need not stop for. ``context``: tokens, 0 for the
    model's own, None for a sensible size. ``threads`` None takes the physical cores.
    ``chat_template`` and ``system_prompt`` go before what the model brings. ``license`` is what
    the manifest says; None asks the model.
    """

    weights: Weights
    libraries: Callable[[], Path]
    defaults: SamplingParams = SamplingParams()
    name: str | None = None
    license: str | None = None
    context: int | None = None
    threads: int | None = None
    chat_template: str | None = None
    system_prompt: str | None = None
    use_mmap: bool = True
    verbose: bool = False
    note: Callable[[str], None] = lambda text: None


@dataclass(frozen=True)
class Loaded:
    """A model that is ready to answer."""

    model: Model
    context: Context
    template: ChatTemplate
    bos_token: str
    eos_token: str

    def close(self) -> None:
        self.context.close()
        self.model.close()


def load(options: EngineOptions, progress: Callable[[float], bool]) -> Loaded:
    """Load everything. ``progress`` gets 0 to 1 and says whether to go on.

    Raises RuntimeFailure subclasses.
    """
    # Importing Jinja takes a tenth of the start. llama.cpp works without Python's lock, so it can
    # be done beside it.
    module = f"{__package__}.template"
    threading.Thread(target=importlib.import_module, args=(module,), daemon=True).start()
    log = Log(echo=options.verbose)
    api = bind(load_libraries(options.libraries()), log)
    model = load_model(api, options.weights, log, progress, use_mmap=options.use_mmap)
    context = None
    try:
        context = Context(
            model,
            log,
            size=choose_context(model, options.context),
            threads=options.threads or default_threads(),
        )
        template = choose_template(options.chat_template, model.chat_template(), options.note)
        bos, eos = model.token_text(model.bos), model.token_text(model.eos)
        return Loaded(model, context, template, bos, eos)
    except BaseException:
        if context:
            context.close()
        model.close()
        raise


def choose_template(
    packed: str | None, own: str | None, note: Callable[[str], None]
) -> ChatTemplate:
    """The file's own template, else the model's, else ChatML; ``note`` hears why it is ChatML."""
    from .template import CHATML, TemplateFault, compile_template

    if packed is None and own is None:
        note("the model has no chat template: chats use ChatML, which it may not understand")
    try:
        return compile_template(packed or own or CHATML)
    except TemplateFault as error:
        note(f"the chat template cannot be used ({error}): chats use ChatML")
        return compile_template(CHATML)
