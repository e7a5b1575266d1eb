"""The demo from beginning to end, with a few train steps: every image that its page shows is there."""

import re
from pathlib import Path

import pytest
from PIL import Image

from serving.card import read_card
from zoo.cli import demo
from zoo.pretrained import find_directory


@pytest.mark.slow
def test_the_page_shows_what_was_made(tmp_path: Path) -> None:
    page = demo.run(tmp_path / "demo", steps=4)
    text = page.read_text(encoding="utf-8")
    shown = re.findall(r'<img[^>]* src="([^"]+)"', text)
    assert {"pretrained.png", "trained.png", "formats.png", "served.png"} < set(shown)
    assert [name for name in shown if "step-" in name] == [f"run/samples/step-{n:07d}.png" for n in range(5)]
    for name in shown:
        with Image.open(page.parent / name) as image:
            assert image.width > image.height / 2 > 8
    steps = read_card(find_directory(demo.PRESET)).recipe["steps"]
    assert f"for 4 steps where the preset had {steps}." in text
    assert "T-shirt/top" in text
    points = re.search(r'<polyline[^>]* points="([^"]+)"', text)
    assert points is not None
    assert len(points[1].split()) == 4


@pytest.mark.parametrize(
    ("out", "steps", "reason"),
    [
        ("/dev/null", 4, "--out /dev/null: /dev/null is no directory that can be written to"),
        ("new", 0, "--steps 0: choose at least 1"),
    ],
)
def test_what_can_not_be_done_is_refused_before_it_begins(
    out: str, steps: int, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=reason):
        demo.run(Path(out), steps)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_no_demo_wrote_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(ValueError, match="holds files that no demo wrote: choose another --out"):
        demo.run(tmp_path, steps=4)
    assert (tmp_path / "thesis.txt").read_text() == "mine"
