"""What names out of data may do to a terminal, to a card and to a picture: nothing."""

from __future__ import annotations

import io
import os
import subprocess
import sys

import pytest

import zoo
from inference.command.main import main
from inference.command.terminal import escaped, plainly
from tests.helpers.command import FEW, fails

NASTY = "\x1b]0;owned\x07\x1b[31m<img src=x onerror=alert(1)>`|*\u202e$_{\x85"


def test_control_characters_are_shown_escaped():
    assert escaped("a\tb\nc é k̂ …") == "a\tb\nc é k̂ …"
    assert escaped("\x1b[2J\r\x7f\x9b\u202e") == "\\x1b[2J\\r\\x7f\\x9b\\u202e"


@pytest.mark.usefixtures("blank")
def test_a_header_steers_nothing(tmp_path, capsys):
    (tmp_path / "t.csv").write_text(f'"{NASTY}",b\n' + "\n".join(f"{i % 7},{i % 5}" for i in range(30)), "utf-8")
    assert main(["fit", "gmm", "--data", "t.csv", *FEW, "--out", "run"]) == 0
    printed = capsys.readouterr().out
    texts = [printed, (tmp_path / "run" / "summary.txt").read_text("utf-8")]
    for text in texts:
        assert "\\x1b]0;owned\\x07" in text
    (tmp_path / "word.csv").write_text(f'"{NASTY}",b\n1,2\nx,3\n', "utf-8")
    assert "\\x1b" in fails(capsys, "fit", "gmm", "--data", "word.csv", "--out", "other")
    for text in (*texts, (tmp_path / "run" / "README.md").read_text("utf-8")):
        assert not {"\x1b", "\x07", "\x85", "\u202e"} & set(text)


def test_a_card_shows_names_as_they_stand(tmp_path):
    columns = [(NASTY, "real"), ("b", "binary", ["<b>", "`"])]
    pair = zoo.create("naive_bayes_vae", columns=columns, latent=1)
    pair.card["data"] = {"name": "[x](javascript:0)", "<script>": 3}
    pair.save(tmp_path / 'a"\n```')
    text = (tmp_path / 'a"\n```' / "README.md").read_text("utf-8")
    spans = [line for line in text.splitlines() if "<img" in line or "javascript" in line or "<script" in line]
    assert len(spans) == 3
    for line in spans:
        opened = line.split(": ", 1)[1] if "<script>" not in line else line[2:]
        fence = len(opened) - len(opened.lstrip("`"))
        assert fence >= 1
        inside = opened[fence:]
        assert "`" * fence in inside, "the code span ends"
    assert 'zoo.load("a\\"\\n```")' in text, "a name cannot end the block"


def test_a_picture_takes_any_name(tmp_path):
    rows = "\n".join(f"{i % 7}.5,{i % 5}.25" for i in range(30))
    (tmp_path / "t.csv").write_text(f"$a_{{$,\x1b b\n{rows}", "utf-8")
    assert main(["fit", "gmm", "--data", "t.csv", *FEW, "--out", "run"]) == 0
    assert (tmp_path / "run" / "predictive.png").stat().st_size > 5000


def test_a_terminal_that_lacks_a_character_is_no_error():
    """As a user meets it: a process whose streams are ASCII. The list has accents; the second command names a k̂."""
    code = "from inference.command.main import main; print(main(['list']), main(['info', 'k\u0302']))"
    env = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, check=True)
    assert done.stdout.endswith(b"0 2\n")
    assert done.stderr.startswith(b"zoo info: unknown model 'k?'")


def test_streams_are_as_before_afterwards(monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii", write_through=True)
    monkeypatch.setattr(sys, "stdout", stream)
    with plainly():
        sys.stdout.write("k̂ \x1b\n")
    assert sys.stdout is stream
    assert stream.errors == "strict"
    assert stream.buffer.getvalue().split() == [b"k?", b"\\x1b"]
