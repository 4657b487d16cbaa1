import inspect
import subprocess
import sys

import pytest

import zoo
from zoo import registry, sources


def test_what_is_read_is_what_is_registered():
    known = {name: cls for name, cls in registry.registry().items() if cls.__module__.startswith("zoo.")}
    assert sources.complete()
    assert sources.sources().keys() == known.keys()
    for name, cls in known.items():
        source = sources.sources()[name]
        assert (source.module, source.called) == (cls.__module__, cls.__qualname__)
        assert source.summary == inspect.getdoc(cls).split("\n")[0]


def test_one_name_is_one_file():
    code = "import sys, zoo; zoo.create('hmm'); print(*sorted(m for m in sys.modules if m.startswith('zoo.mixtures.')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr


def test_a_name_of_the_zoos_is_taken_before_it_is_imported(monkeypatch):
    monkeypatch.setattr(registry, "_registry", {})
    with pytest.raises(ValueError, match=r"two pairs called 'gmm': zoo\.mixtures\.gmm and "):
        registry.register("gmm")(type("Mine", (), {}))
    assert not registry._registry


def test_what_was_taken_out_is_found_again(monkeypatch):
    cls = registry.registered("gmm")
    monkeypatch.setattr(registry, "_registry", {})
    assert registry.registered("gmm") is cls


def test_without_their_source_all_are_imported(monkeypatch):
    monkeypatch.setattr(registry, "sources", dict)
    monkeypatch.setattr(registry, "complete", lambda: False)
    monkeypatch.setattr(registry, "_registry", {})
    monkeypatch.setattr(registry, "modules", lambda: ["zoo.mixtures.gmm"])
    imported = []

    def again(module):
        imported.append(module)
        registry._registry["gmm"] = sys.modules[module].GMM if hasattr(sys.modules[module], "GMM") else object
        return sys.modules[module]

    monkeypatch.setattr(registry.importlib, "import_module", again)
    assert zoo.names() == ["gmm"]
    assert registry.registered("gmm") is registry._registry["gmm"]
    with pytest.raises(ValueError, match="unknown model 'gmmm', did you mean 'gmm'"):
        registry.registered("gmmm")
    assert set(imported) == {"zoo.mixtures.gmm"}
