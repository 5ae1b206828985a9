"""Files of engines: saved ones come back whole, damaged and hostile ones are one sentence; and the command that reads them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qdqgraph.cli.main import main
from qdqgraph.engines.layers import Engine
from qdqgraph.engines.read import jsonfile
from qdqgraph.engines.read.saved import open_engine, to_json
from qdqgraph.errors import EngineError
from tests.support.paths import DATA


def test_a_saved_engine_comes_back_whole(tmp_path: Path) -> None:
    found = open_engine(DATA / "qat.graph.json")
    file = tmp_path / "e.json"
    file.write_text(to_json(found))
    assert open_engine(file) == found


@pytest.mark.parametrize("number", ["-Infinity", "NaN", "1e999"])
def test_numbers_that_are_not_finite_become_null(tmp_path: Path, number: str) -> None:
    file = tmp_path / "layers.json"
    file.write_text(
        f'{{"Layers": [{{"Name": "a", "LayerType": "Reformat", "TacticValue": {number}}}], "Bindings": []}}'
    )
    (layer,) = json.loads(to_json(open_engine(file)))["layers"]
    assert layer["fields"]["TacticValue"] is None


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ('{"Layers": ["a", "b"]}', "--profilingVerbosity=detailed"),
        ('[{"count": 1}, {"name": "a"}]', "give it with --profile"),
        ('[{"computeMs": 1, "latencyMs": 2}]', "engine read LAYERS.json --times"),
        ("[]", "not layer info"),
        ('{"Layers": [{"Name": "a", "Inputs"', "was the export interrupted?"),
        ("Layers: nothing", "this is not JSON"),
        ("[" * 200_000, "nested too deeply"),
        ('{"Layers": [{"Name": 3}]}', "Layers[0].Name: Expected `str`, got `int`"),
        ('{"Layers": [{"Name": "a", "Inputs": [7]}]}', "Layers[0].Inputs[0]: Expected `object`, got `int`"),
        ('{"Layers": {"a": 1}}', "Layers: Expected `array`, got `object`"),
        ('{"Layers": [' + "1," * 2_100_000 + "1]}", "more than 2,000,000 values"),
        (
            '{"Layers": [' + "9" * 10_000 + "]}",
            "this is not layer info of an engine: an integer has thousands of digits",
        ),
        ('{"Layers": [' + '{"Name":"a"},' * 100_000 + '{"Name":"a"}]}', "no engine has more than 100,000"),
        (
            '{"schema": "urn:qdqgraph:engine:2", "layers": [], "name": 5}',
            "this saved engine is damaged: name: Expected `str`, got `int`",
        ),
        (
            '{"schema": "urn:qdqgraph:engine:2", "layers": [], "names": "e"}',
            "damaged: Object missing required field `name`",
        ),
        (
            '{"schema": "urn:qdqgraph:engine:2", "name": "e", "source": "s"}',
            "damaged: Object missing required field `layers`",
        ),
        (
            '{"schema": "urn:qdqgraph:engine:2", "name": "e", "source": "s", "layers": [{}]}',
            "damaged: layers[0]: Object missing",
        ),
        ('{"schema": "urn:qdqgraph:engine:9"}', "this qdqgraph reads urn:qdqgraph:engine:2"),
    ],
)
def test_a_bad_file_is_one_clear_sentence(
    content: str, sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "layers.json"
    file.write_text(content)
    assert main(["engine", "read", str(file)]) == 2
    said = capsys.readouterr()
    assert sentence in said.err
    assert str(file) in said.err
    assert len(said.err) < 500 and not said.out


def test_a_huge_file_is_refused_before_it_is_read(tmp_path: Path) -> None:
    file = tmp_path / "layers.json"
    with file.open("wb") as sparse:
        sparse.truncate(1 << 36)
    with pytest.raises(EngineError, match="larger than 64 MiB"):
        jsonfile.load(file, "layer info")


@pytest.mark.parametrize("cut", range(0, 17_900, 997))
def test_a_truncated_export_is_refused(cut: int, tmp_path: Path) -> None:
    file = tmp_path / "layers.json"
    file.write_bytes((DATA / "qat.graph.json").read_bytes()[:cut])
    with pytest.raises(EngineError):
        open_engine(file)


def test_layer_names_alone_are_read_with_a_profile(tmp_path: Path) -> None:
    """The form that trtexec 8.4 writes without detailed verbosity (trt-samples-for-hackathon-cn, issue 18)."""
    names_only = [
        "Reformatting CopyNode for Input Tensor 0 to w + QuantizeLinear_7 + Conv_9",
        "w + QuantizeLinear_7 + Conv_9",
        "DequantizeLinear_11",
        "/cat/Concat copy",
    ]
    (tmp_path / "e.json").write_text(json.dumps({"Layers": names_only, "Bindings": ["x", "y"]}))
    rows = [{"count": 10}, *({"name": n, "averageMs": i + 1.0} for i, n in enumerate(names_only))]
    (tmp_path / "p.json").write_text(json.dumps(rows))
    found = open_engine(tmp_path / "e.json", profile=tmp_path / "p.json")
    assert [x.cause for x in found.layers] == ["unknown", "", "Q/DQ", "copy"]
    assert found.layers[1].nodes == ("w", "Conv_9") and found.bindings == ("x", "y")
    assert (found.time_ms, found.bytes) == (10.0, 0)
    assert "layer names only: no tensors, types or bytes" in found.notes[0]
    assert open_engine_of(found, tmp_path) == found, "it can be saved"


def open_engine_of(found: Engine, folder: Path) -> Engine:
    (folder / "saved.json").write_text(to_json(found))
    return open_engine(folder / "saved.json")


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_value_anywhere_is_read_or_refused_and_never_crashes(tmp_path: Path, data: st.DataObject) -> None:
    content = json.loads((DATA / "qat-residual.graph.json").read_text())
    place: Any = content
    while True:
        step = data.draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
        if not isinstance(place[step], dict | list) or not place[step] or data.draw(st.integers(0, 4)) == 0:
            break
        place = place[step]
    place[step] = data.draw(VALUES)
    file = tmp_path / "layers.json"
    file.write_text(json.dumps(content))
    try:
        assert open_engine(file).layers is not None
    except EngineError as error:
        assert str(error).startswith(str(file))


def test_the_command_prints_figures_and_saves(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "engine.json"
    graph = DATA / "qat.graph.json"
    assert main(["engine", "read", str(graph), "--profile", str(DATA / "qat.profile.json"), "-o", str(out)]) == 0
    said = capsys.readouterr().out
    assert "20 kernels, 8 reformats" in said
    assert "reformats by cause: Q/DQ 6, type 1, layout 1" in said
    assert open_engine(out).reformats
    assert main(["engine", "read", str(graph), "-o", str(out)]) == 2, "an existing file stays"
    assert "--force" in capsys.readouterr().err


def test_a_profile_of_another_engine_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = tmp_path / "p.json"
    other.write_text('[{"count": 1}, {"name": "x", "averageMs": 1}]')
    assert main(["engine", "read", str(DATA / "qat.graph.json"), "--profile", str(other)]) == 2
    assert "belongs to another engine" in capsys.readouterr().err
