"""The page in a real browser: files chosen and dropped, the token, every control, the keyboard, light and dark."""

import numpy as np
import pytest
from PIL import Image

from serving import Pipeline
from tests.serving.conftest import write_image_model, write_mirror_model, write_tanh_model
from tests.serving.server.http.browser import CHROMIUM, DOWN, DRIVER, ENTER, LEFT, RIGHT, SHIFT_TAB, SPACE, TAB, Browser

pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="there is no Chromium here: apt-get install chromium chromium-driver"
)
TOKEN = "a-word-of-this-server"
VISIBLE = """return [...document.querySelectorAll("input, select, button, a[href], pre[tabindex]")]
    .filter((one) => one.checkVisibility() && (one.type !== "radio" || one.checked))
    .map((one) => one.id || one.value || one.tagName.toLowerCase())"""
# What reaches beyond the window, but for what only screen readers see.
WIDE = """return [...document.querySelectorAll("body *")].filter((one) => one.checkVisibility())
    .filter((one) => one.getBoundingClientRect().right > innerWidth + 0.5).map((one) => one.id || one.tagName)"""
# The contrast of each piece of text with the nearest ground behind it, by WCAG.
CONTRASTS = """
const light = (color) => {
  const linear = (c) => c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  const [r, g, b] = color.match(/[\\d.]+/g).slice(0, 3).map((c) => linear(c / 255));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const ground = (one) => {
  for (; one; one = one.parentElement) {
    const color = getComputedStyle(one).backgroundColor;
    if (color !== "rgba(0, 0, 0, 0)") return color;
  }
  return "rgb(255, 255, 255)";
};
const texts = "label, p, h1, h2, dt, dd, legend, button, select, input, figcaption, output, code, a";
return [...document.querySelectorAll(texts)]
  .filter((one) => one.checkVisibility() && (one.textContent.trim() || one.value))
  .filter((one) => !["radio", "range"].includes(one.type))
  .map((one) => {
    const [a, b] = [light(getComputedStyle(one).color), light(ground(one))].sort((x, y) => y - x);
    return [one.id || one.textContent, (a + 0.05) / (b + 0.05)];
  })"""


@pytest.fixture(scope="module")
def page_models(tmp_path_factory):
    directory = tmp_path_factory.mktemp("page")
    write_tanh_model(directory / "tanh-model")
    write_mirror_model(directory / "mirror-model")
    write_image_model(directory / "image-model")
    return directory


@pytest.fixture(scope="module")
def address(start, page_models):
    return f"http://127.0.0.1:{start(models=page_models).port}"


@pytest.fixture(scope="module")
def browser():
    browser = Browser()
    yield browser
    browser.close()


@pytest.fixture
def photo(tmp_path):
    """A file of 20x12 pixels, and its array."""
    pixels = np.random.default_rng(1).integers(0, 256, (12, 20, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a photo's.png")
    return tmp_path / "a photo's.png", pixels


def after(browser, act, *given, made_of=""):
    """Do something, and wait for the image that the page shows then.

    made_of: what must stand in its request, where several keys are pressed: the page may ask between two of them.
    """
    before = browser.run("return document.querySelector('#image').src")
    act(*given)
    script = """const image = document.querySelector("#image");
        const done = document.querySelector("#status").textContent === "Done.";
        return done && !image.hidden && image.src !== arguments[0] && image.alt.includes(arguments[1])"""
    browser.wait(script, before, made_of)


def open_model(browser, address, model):
    browser.go(f"{address}/#{model}")
    browser.wait("return document.querySelector('#about').textContent === arguments[0]", model)


def shown(browser):
    """What the page shows: (height, width, 3)."""
    width, height, flat = browser.pixels("#image")
    return np.array(flat, np.uint8).reshape(height, width, 4)[..., :3]


def choose(browser, selector, text):
    """Choose from a list by the first letters of an option, as a keyboard does."""
    browser.run("document.querySelector(arguments[0]).focus()", selector)
    browser.type(selector, text)


def test_a_file_that_is_chosen_is_translated_and_enlarged(browser, address, page_models, photo):
    path, pixels = photo
    pipeline = Pipeline.from_directory(page_models / "image-model", threads=1)
    open_model(browser, address, "image-model")
    browser.wait_for("Choose an image.")
    after(browser, browser.type, "#file", str(path))
    np.testing.assert_array_equal(shown(browser), pipeline.translate(pixels))
    assert browser.text("#caption") == "20 \N{MULTIPLICATION SIGN} 12 pixels"
    assert "--data-binary '@a photo'\\''s.png'" in browser.text("#command")
    assert "image-model.translate_a_to_b:translate'" in browser.text("#command")
    after(browser, choose, browser, "#direction", "translate b")
    back = Pipeline.from_directory(page_models / "image-model", ability="translate_b_to_a", threads=1)
    np.testing.assert_array_equal(shown(browser), back.translate(pixels))
    after(browser, browser.click, "input[value=upscale]")
    enlarger = Pipeline.from_directory(page_models / "image-model", ability="upscale", threads=1)
    np.testing.assert_array_equal(shown(browser), enlarger.upscale(pixels))
    assert browser.text("#caption") == "80 \N{MULTIPLICATION SIGN} 48 pixels"


def test_a_file_that_is_dropped_is_translated(browser, address, page_models, photo):
    _, pixels = photo
    open_model(browser, address, "image-model")
    browser.wait_for("Choose an image.")
    drop = """
    const [width, height, values] = arguments, canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [width, height];
    canvas.getContext("2d").putImageData(new ImageData(new Uint8ClampedArray(values), width, height), 0, 0);
    return new Promise((done) => canvas.toBlob((blob) => {
      const dataTransfer = new DataTransfer();
      dataTransfer.items.add(new File([blob], "dropped.png", { type: "image/png" }));
      for (const name of ["dragover", "drop"])
        document.body.dispatchEvent(new DragEvent(name, { dataTransfer, bubbles: true, cancelable: true }));
      done(true);
    }))"""
    opaque = np.concatenate([pixels, np.full((12, 20, 1), 255, np.uint8)], axis=2)
    after(browser, browser.run, drop, 20, 12, opaque.ravel().tolist())
    pipeline = Pipeline.from_directory(page_models / "image-model", threads=1)
    np.testing.assert_array_equal(shown(browser), pipeline.translate(pixels))
    assert browser.run("return document.querySelector('#input').naturalWidth") == 20
    assert not browser.run("return document.querySelector('#drop').classList.contains('over')")


def test_what_is_no_image_is_refused_in_words_and_the_old_image_is_gone(browser, address, tmp_path, photo):
    open_model(browser, address, "image-model")
    after(browser, browser.type, "#file", str(photo[0]))
    (tmp_path / "text.png").write_text("no image")
    browser.type("#file", str(tmp_path / "text.png"))
    browser.wait("return document.querySelector('#status').className === 'error'")
    assert "image" in browser.text("#status")
    assert browser.run("return document.querySelector('#image').hidden")


def test_class_and_truncation_are_those_of_the_image(browser, address, page_models):
    pipeline = Pipeline.from_directory(page_models / "mirror-model", threads=1)
    open_model(browser, address, "mirror-model")
    after(browser, choose, browser, "#label", "shoe", made_of='"label": "shoe"')
    found = pipeline.sample(1, 0, labels="shoe")[0]
    np.testing.assert_array_equal(shown(browser), np.repeat(found, 3, axis=2))
    after(browser, browser.type, "#truncation", RIGHT * 3, made_of='"truncation": 1.15')
    assert browser.text("#truncation-value") == "1.15"
    found = pipeline.sample(1, 0, labels="shoe", truncation=1.15)[0]
    np.testing.assert_array_equal(shown(browser), np.repeat(found, 3, axis=2))
    assert '"label": "shoe", "truncation": 1.15' in browser.text("#command")


def test_styles_of_two_seeds_are_mixed(start, browser, style_model):
    address = f"http://127.0.0.1:{start(models=style_model).port}"
    open_model(browser, address, "style-model")
    browser.wait_for("Done.")
    images = []
    for press, layers in (("", 1), (RIGHT, 2), (LEFT * 2, 0)):
        if press:
            after(browser, browser.type, "#layers", press, made_of=f'"layers": {layers}')
        images.append(shown(browser))
    mixed, first, second = images
    np.testing.assert_array_equal(mixed, np.stack([first[0], second[1]]))
    assert (first != second).any()


def test_the_page_asks_for_the_token_and_uses_it(start, browser, page_models, tmp_path):
    (tmp_path / "token").write_text(TOKEN)
    address = f"http://127.0.0.1:{start('--token-file', tmp_path / 'token', models=page_models).port}"
    browser.go(f"{address}/#tanh-model")
    browser.wait("return !document.querySelector('#token-row').hidden")
    assert browser.run("return document.querySelector('#status').className") == "error"
    browser.type("#token", "another-word" + ENTER)
    browser.wait("return document.querySelector('#status').className === 'error'")
    assert not browser.run("return document.querySelector('#token-row').hidden")
    browser.run("document.querySelector('#token').value = ''")
    after(browser, browser.type, "#token", TOKEN + ENTER)
    assert browser.run("return document.querySelector('#token-row').hidden")
    assert browser.text("#about") == "tanh-model"
    assert '-H "Authorization: Bearer $TOKEN"' in browser.text("#command")
    assert TOKEN not in browser.run("return document.documentElement.outerHTML + location.href")


@pytest.mark.parametrize("model", ["mirror-model", "image-model"])
def test_every_control_is_reached_and_used_by_the_keyboard(browser, address, model, photo):
    open_model(browser, address, model)
    if model == "image-model":
        after(browser, browser.type, "#file", str(photo[0]))
    else:
        browser.wait_for("Done.")
    browser.run("document.activeElement.blur(); document.body.focus(); getSelection().removeAllRanges()")
    browser.run("document.querySelector('#model').focus()")
    wanted, reached, outlines = browser.run(VISIBLE), [browser.focus()], []
    for _ in range(2 * len(wanted)):
        if set(reached) >= set(wanted):
            break
        browser.press(TAB)
        reached.append(browser.focus())
        outlines.append(browser.run("return getComputedStyle(document.activeElement).outlineStyle"))
    assert set(wanted) <= set(reached)
    assert "none" not in outlines[: len(wanted) - 1]  # the focus is seen
    browser.press(SHIFT_TAB)
    assert browser.focus() == reached[-2]
    if model == "mirror-model":
        browser.run("document.querySelector('#next').focus()")
        after(browser, browser.press, SPACE)
        assert browser.run("return document.querySelector('#seed').value") == "1"
        browser.run("document.querySelector('input[name=mode]:checked').focus()")
        after(browser, browser.press, DOWN)
        assert browser.focus() == "interpolate"
        after(browser, browser.type, "#to", "7" + ENTER, made_of='"to": 17')
        assert '"to": 17' in browser.text("#command")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_nothing_is_cut_off_on_a_narrow_screen_and_all_text_is_readable(address, dark, photo):
    narrow = Browser(width=320, height=700, dark=dark)
    try:
        for model in ("tanh-model", "mirror-model", "image-model"):
            open_model(narrow, address, model)
            if model == "image-model":
                after(narrow, narrow.type, "#file", str(photo[0]))
            else:
                narrow.wait_for("Done.")
            for number in range(narrow.run("return document.querySelectorAll('input[name=mode]').length")):
                narrow.run("document.querySelectorAll('input[name=mode]')[arguments[0]].click()", number)
                assert narrow.run("return document.documentElement.scrollWidth") <= 320
                assert narrow.run(WIDE) == []
                assert [pair for pair in narrow.run(CONTRASTS) if pair[1] < 4.5] == []
        ground = narrow.run("return getComputedStyle(document.body).backgroundColor")
        assert (max(int(part) for part in ground[4:-1].split(",")) < 64) == dark
    finally:
        narrow.close()


def test_two_windows_of_one_server_do_not_share_a_token(browser, address):
    """The page keeps nothing in the browser."""
    open_model(browser, address, "tanh-model")
    assert browser.run("return [localStorage.length, sessionStorage.length, document.cookie]") == [0, 0, ""]
