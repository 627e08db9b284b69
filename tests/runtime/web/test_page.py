"""The chat page in Chromium: what people see and do."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, Playwright, expect, sync_playwright

from llamafile_runtime.errors import ContextExceeded, NativeError
from llamafile_runtime.web import static
from llamafile_runtime.web.pages import FILES

pytestmark = pytest.mark.browser

FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update",
]  # fmt: skip
WAIT_MS = 60_000

expect.set_options(timeout=WAIT_MS)

OpenPage = Callable[..., Page]


@pytest.fixture(scope="module")
def playwright() -> Iterator[Playwright]:
    with sync_playwright() as playwright:
        yield playwright


@pytest.fixture(scope="module")
def browser(playwright: Playwright, chromium: str) -> Iterator[Browser]:
    # A user data folder of its own, which Playwright makes and removes.
    browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS, headless=True)
    yield browser
    browser.close()


@pytest.fixture
def open_page(browser: Browser) -> Iterator[OpenPage]:
    """Opens pages at an address; ``faults`` of a page lists what its console complained of."""
    contexts = []

    def open_at(url: str, *, expected: str | None = None, **options: Any) -> Page:
        context = browser.new_context(**options)
        contexts.append((context, faults := []))
        context.set_default_timeout(WAIT_MS)
        page = context.new_page()

        def complain(text: str) -> None:
            if not (expected and re.search(expected, text)):
                faults.append(text)

        page.on("console", lambda note: complain(note.text) if note.type == "error" else None)
        page.on("pageerror", lambda error: complain(str(error)))
        page.on("request", lambda request: complain_of_strangers(request.url, url, complain))
        page.goto(url)
        return page

    yield open_at
    for context, faults in contexts:
        context.close()
        assert faults == []  # scripts without errors, no violation of the CSP, no other address


def complain_of_strangers(wanted: str, own: str, complain: Callable[[str], None]) -> None:
    if not wanted.startswith(own.rstrip("/") + "/"):
        complain(f"asked for {wanted}")


def ready(page: Page) -> None:
    expect(page.locator("body")).to_have_attribute("data-state", "ok")


def ask(page: Page, text: str) -> None:
    ready(page)
    page.fill("#input", text)
    page.press("#input", "Enter")


def answered(page: Page) -> None:
    expect(page.locator("#stop")).to_be_hidden()


def test_a_conversation(server: Any, open_page: OpenPage) -> None:
    page = open_page(server.url)
    expect(page).to_have_title("Test model")
    expect(page.locator("#welcome")).to_be_visible()
    ask(page, "Hi")
    expect(page.locator(".assistant")).to_have_text("Hello")
    expect(page.locator("#welcome")).to_be_hidden()
    expect(page.locator("#speed")).to_have_text("2 tokens, 1.0 a second")
    ask(page, "Again")
    expect(page.locator(".assistant")).to_have_count(2)
    answered(page)
    assert server.engine.asked[1][0] == [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": "Again"},
    ]


def test_new_chat_forgets(server: Any, open_page: OpenPage) -> None:
    page = open_page(server.url)
    ask(page, "Hi")
    expect(page.locator(".assistant")).to_have_text("Hello")
    answered(page)
    page.click("#new")
    expect(page.locator(".message")).to_have_count(0)
    expect(page.locator("#welcome")).to_be_visible()
    ask(page, "New")
    expect(page.locator(".assistant")).to_have_text("Hello")
    assert server.engine.asked[-1][0] == [{"role": "user", "content": "New"}]


def test_tokens_are_shown_as_they_come_and_stopping_keeps_them(
    serve: Any, scripted: Any, open_page: OpenPage
) -> None:
    server = serve(scripted(["One ", "two ", "three ", "four"], stepped=True))
    page = open_page(server.url)
    ask(page, "Count")
    expect(page.locator(".assistant .waiting")).to_be_visible()
    server.engine.step()
    expect(page.locator(".assistant")).to_have_text("One")
    server.engine.step()
    expect(page.locator(".assistant")).to_have_text("One two")
    page.click("#stop")
    answered(page)
    assert server.engine.ended.wait(60)
    assert server.engine.made == 2
    server.engine.step(10)
    ask(page, "Go on")
    expect(page.locator(".assistant").nth(1)).to_have_text("One two three four")
    assert server.engine.asked[1][0][1] == {"role": "assistant", "content": "One two "}


def test_new_chat_stops_the_answer(serve: Any, scripted: Any, open_page: OpenPage) -> None:
    server = serve(scripted(["One "] * 9, stepped=True))
    page = open_page(server.url)
    ask(page, "Count")
    server.engine.step()
    expect(page.locator(".assistant")).to_have_text("One")
    page.click("#new")
    assert server.engine.ended.wait(60)
    expect(page.locator(".message")).to_have_count(0)
    expect(page.locator("#send")).to_be_visible()


def test_keys(server: Any, open_page: OpenPage) -> None:
    page = open_page(server.url)
    ready(page)
    page.fill("#input", "one")
    page.press("#input", "Shift+Enter")
    page.type("#input", "two")
    # An input method's Enter chooses a word.
    page.dispatch_event("#input", "keydown", {"key": "Enter", "isComposing": True})
    page.dispatch_event("#input", "keydown", {"key": "Enter", "keyCode": 229})
    expect(page.locator("#input")).to_have_value("one\ntwo")
    assert server.engine.asked == []
    page.press("#input", "Enter")
    expect(page.locator(".user")).to_have_text("one\ntwo")
    expect(page.locator("#input")).to_have_value("")
    page.press("#input", "Enter")  # nothing to send
    answered(page)
    assert len(server.engine.asked) == 1


def test_what_a_model_writes_is_never_html(serve: Any, scripted: Any, open_page: OpenPage) -> None:
    evil = '<img src="/x" onerror="document.title=1"><script>document.title=2</script>'
    pieces = [evil, "\n\n```html\n", evil, "\n```\n\n**", evil, "** `", evil, "`"]
    page = open_page(serve(scripted(pieces)).url)
    ask(page, evil)
    expect(page.locator(".assistant pre code")).to_have_text(evil)
    answered(page)
    assert page.locator(".assistant p").first.inner_text() == evil
    assert page.locator(".assistant strong").inner_text() == evil
    assert page.locator(".assistant p code").inner_text() == evil
    assert page.locator(".user").inner_text() == evil
    assert page.locator("#messages img, #messages script").count() == 0
    assert page.title() == "Test model"


def test_markup(server: Any, open_page: OpenPage) -> None:
    page = open_page(server.url)
    blocks = page.evaluate(
        """async (texts) => {
            const { blocks } = await import("/markup.js");
            return texts.map((text) => blocks(text).map(({kind, source}) => [kind, source]));
        }""",
        [
            "a\nb\n\n\nc", "```py\nx = 1\n\ny\n```\nend", "```\nopen", "~~~\n```\n~~~",
            "a `b`\n```c", "", "  \n", "````\n```\n````", "    a", "``` `x` ```",
        ],
    )  # fmt: skip
    assert blocks == [
        [["text", "a\nb"], ["text", "c"]],
        [["code", "x = 1\n\ny"], ["text", "end"]],
        [["code", "open"]],
        [["code", "```"]],
        [["text", "a `b`"], ["code", ""]],
        [],
        [],
        [["code", "```"]],
        [["text", "    a"]],
        [["text", "``` `x` ```"]],
    ]


def test_loading_is_shown_and_ends_by_itself(
    serve: Any, scripted: Any, open_page: OpenPage
) -> None:
    engine = scripted()
    engine.now, engine.share = "loading", 0.25
    page = open_page(serve(engine).url)
    expect(page.locator("#notice")).to_contain_text("Loading the model")
    expect(page.locator("#notice-progress")).to_have_js_property("value", 0.25)
    page.fill("#input", "Written early")
    expect(page.locator("#send")).to_be_disabled()
    engine.share = 0.75
    expect(page.locator("#notice-progress")).to_have_js_property("value", 0.75)
    engine.now = "ready"
    expect(page.locator("#notice")).to_be_hidden()
    page.click("#send")
    expect(page.locator(".assistant")).to_have_text("Hello")


def test_a_failed_start_is_told_in_words(serve: Any, scripted: Any, open_page: OpenPage) -> None:
    engine = scripted()
    engine.now, engine.fault = "failed", "the model is <b>cut off</b>; build the file again"
    page = open_page(serve(engine).url)
    expect(page.locator("#notice-title")).to_have_text("The model could not be loaded")
    expect(page.locator("#notice-text")).to_have_text(
        "The model is <b>cut off</b>; build the file again"
    )
    page.fill("#input", "Hi")
    expect(page.locator("#send")).to_be_disabled()


def test_a_refused_message_can_be_tried_again(server: Any, open_page: OpenPage) -> None:
    server.engine.refuse = ContextExceeded(300, 100)
    page = open_page(server.url, expected="status of 400")
    ask(page, "Long")
    expect(page.locator(".fault")).to_contain_text("The prompt has 300 tokens")
    expect(page.locator(".assistant")).to_have_count(0)
    server.engine.refuse = None
    page.click("text=Try again")
    expect(page.locator(".assistant")).to_have_text("Hello")
    expect(page.locator(".fault")).to_have_count(0)
    answered(page)
    assert server.engine.asked[-1][0] == [{"role": "user", "content": "Long"}]


def test_a_broken_answer_is_told_and_tried_again(server: Any, open_page: OpenPage) -> None:
    server.engine.break_with = NativeError("llama.cpp failed")
    page = open_page(server.url)
    ask(page, "Hi")
    expect(page.locator(".fault")).to_contain_text("llama.cpp failed")
    expect(page.locator(".assistant")).to_have_text("Hello")
    server.engine.break_with = None
    page.click("text=Try again")
    answered(page)
    expect(page.locator(".assistant")).to_have_count(1)
    assert server.engine.asked[-1][0] == [{"role": "user", "content": "Hi"}]


def test_a_stopped_server_is_noticed_and_its_return(
    serve: Any, scripted: Any, open_page: OpenPage
) -> None:
    server = serve(scripted())
    page = open_page(server.url, expected="ERR_CONNECTION_REFUSED|ERR_EMPTY_RESPONSE")
    ask(page, "Hi")
    expect(page.locator(".assistant")).to_have_text("Hello")
    server.end()
    expect(page.locator("#notice")).to_contain_text("The server has stopped")
    page.fill("#input", "Still there?")
    expect(page.locator("#send")).to_be_disabled()
    again = serve(scripted(["Yes."]), port=server.port, name="Another model")
    expect(page.locator("#notice")).to_be_hidden()
    expect(page.locator("#name")).to_have_text("Another model")
    page.click("#send")
    expect(page.locator(".assistant").nth(1)).to_have_text("Yes.")
    assert [message["content"] for message in again.engine.asked[0][0]] == [
        "Hi", "Hello", "Still there?",
    ]  # fmt: skip


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_follow_the_system(server: Any, open_page: OpenPage, scheme: Any) -> None:
    page = open_page(server.url, color_scheme=scheme)
    colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
    red = int(re.findall(r"\d+", colour)[0])
    assert (red > 128) == (scheme == "light")


def test_a_phone_shows_everything_without_scrolling_sideways(
    serve: Any, scripted: Any, open_page: OpenPage
) -> None:
    pieces = ["```\n", "code " * 40, "\n```\n\n", "x" * 400]
    page = open_page(
        serve(scripted(pieces), name="A model with a very long name " * 3).url,
        viewport={"width": 320, "height": 560}, is_mobile=True, has_touch=True,
    )  # fmt: skip
    ask(page, "y" * 300)
    expect(page.locator(".assistant p")).to_have_text("x" * 400)
    answered(page)
    assert page.evaluate("document.documentElement.scrollWidth") == 320
    for control in ("#input", "#send", "#new"):
        box = page.locator(control).bounding_box()
        assert box
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 320
        assert box["y"] + box["height"] <= 560


def test_the_newest_text_stays_in_view_unless_the_reader_scrolls(
    serve: Any, scripted: Any, open_page: OpenPage
) -> None:
    server = serve(scripted(["line\n\n"] * 200, stepped=True))
    page = open_page(server.url, viewport={"width": 600, "height": 400})
    ask(page, "Long")
    server.engine.step(100)
    expect(page.locator(".assistant p")).to_have_count(100)
    left = "scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight"
    assert page.evaluate(left) < 2
    page.evaluate("scroller.scrollTop = 0")
    server.engine.step(100)
    expect(page.locator(".assistant p")).to_have_count(200)
    assert page.evaluate("scroller.scrollTop") == 0


def test_the_real_thing(real_server: Any, open_page: OpenPage) -> None:
    """A built file, its model and its page: what README promises."""
    page = open_page(real_server.url)
    ask(page, "What is the capital of France? One word.")
    expect(page.locator(".assistant")).to_contain_text("Paris")
    answered(page)
    expect(page.locator("#speed")).to_contain_text("a second")


def test_every_file_of_the_page_is_served() -> None:
    """A forgotten one would be dead weight in each built file."""
    folder = Path(str(static.__file__)).parent
    names = {path.name for path in folder.iterdir() if path.is_file()} - {"__init__.py"}
    assert names == {name for name, _ in FILES.values()}
