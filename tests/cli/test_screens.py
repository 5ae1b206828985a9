"""What `check` and `fix` print: one screen, shorter and longer forms, batches with a bad file, slips."""

from pathlib import Path

import onnx
import pytest

from qdqgraph.cli.main import main
from tests.support.models import build

TWICE = "g (float[1,4,8,8] x) => (float[1,4,8,8] y, float[1,4,8,8] v) { a = Relu (x) y = t.conv4 (a, s1) v = t.conv4 (a, s2) }"
CLEAN = "g (float[1,4,8,8] x) => (float[1,4,8,8] y) { y = t.conv4 (x, s1) }"
LONG = "a_tensor_with_a_name_that_is_much_longer_than_a_line_of_a_terminal_has_room_for_in_a_table/part"


def saved(folder: Path, text: str, name: str) -> Path:
    onnx.save(build(text), folder / name)
    return folder / name


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return saved(tmp_path, TWICE, "model.onnx")


@pytest.fixture
def wide(tmp_path: Path) -> Path:
    """A file with 40 findings at tensors with long names."""
    outputs = [f"{kind}{i}" for i in range(40) for kind in "yv"]
    lines = [f"a{i} = Relu (x) y{i} = t.conv4 (a{i}, s1) v{i} = t.conv4 (a{i}, s2)" for i in range(40)]
    text = f"g (float[1,4,8,8] x) => ({', '.join(f'float[1,4,8,8] {o}' for o in outputs)}) {{ {' '.join(lines)} }}"
    made = build(text)
    for node in made.graph.node:
        for names in (node.input, node.output):
            for place, name in enumerate(names):
                names[place] = f"{LONG}/{name}" if name.startswith("a") else name
    path = tmp_path / "wide.onnx"
    onnx.save(made, path)
    return path


def run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, list[str], str]:
    """The exit code, the lines on stdout, and stderr."""
    code = main([str(word) for word in words])
    said = capsys.readouterr()
    return code, said.out.splitlines(), said.err


@pytest.mark.parametrize("width", [80, 200])
def test_many_findings_fit_one_screen(
    wide: Path, width: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    code, (first, *lines, last), _ = run(capsys, "check", wide, "--no-config")
    assert code == 1 and first.startswith(f"{wide}: 40 findings") and last.startswith("40 findings, 40 repairable: ")
    assert len(lines) < 24 and max(map(len, lines)) <= width
    places = [line for line in lines if line.endswith("QDQ104")]
    assert len(places) == 10 and len(set(places)) == 10, "the ends of the names tell them apart"
    assert " 30 more places: --full lists all" in lines


def test_full_lists_every_finding_with_whole_names_by_cost(wide: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, lines, _ = run(capsys, "check", wide, "--full")
    assert sum(line.startswith(f"{wide}: {LONG}/a") for line in lines) == 40


def test_quiet_is_one_line_a_file_and_statistics_the_table(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clean = saved(tmp_path, CLEAN, "clean.onnx")
    code, lines, _ = run(capsys, "check", "-q", model, clean)
    assert code == 1 and [line.partition(": ")[0] for line in lines] == [str(model), str(clean)]
    _, lines, _ = run(capsys, "check", "--statistics", model)
    assert [line.split()[0] for line in lines] == ["code", "QDQ104"]


def test_verbose_says_the_message_and_the_repair_of_each_place(wide: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = " ".join(" ".join(run(capsys, "check", wide, "-v")[1]).split())
    assert said.count("is quantized 2 times, with different scales") == 10 and "repair: give all pairs of" in said


def test_the_proposed_command_has_the_options_of_the_check(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = model.with_name("model.fixed.onnx")
    _, lines, _ = run(capsys, "check", model, "--target", "trt-8.6", "--statistics", "--no-config")
    assert len(lines) == 2
    words = ["check", model, "--target", "trt-11", "-v", "--format", "text", "--no-config"]
    _, lines, _ = run(capsys, *words)
    assert lines[-1].endswith(f": qdqgraph fix {model} -o {out} --target trt-11 --no-config")
    assert main(lines[-1].partition(": ")[2].split()[1:]) == 0 and out.exists()


def test_without_a_rehearsal_a_finding_is_repairable_if_it_has_a_repair(
    model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, lines, _ = run(capsys, "check", model, "--no-rehearsal")
    assert lines[-1].startswith("1 finding, 1 repairable: ") and not any("after the repair" in line for line in lines)


def test_a_bad_file_of_a_batch_is_named_and_the_others_are_reported(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad, empty = tmp_path / "bad.onnx", tmp_path / "float.onnx"
    bad.write_bytes(b"no model")
    onnx.save(
        onnx.parser.parse_model(
            '<ir_version: 8, opset_import: ["": 13]> g (float[1] x) => (float[1] y) { y = Relu (x) }'
        ),
        empty,
    )
    code, lines, error = run(capsys, "check", bad, model, empty, "-q")
    assert code == 2 and [line.partition(": ")[0] for line in lines] == [str(model)]
    sentences = error.splitlines()
    assert len(sentences) == 2 and str(bad) in sentences[0] and sentences[1].startswith(f"qdqgraph: {empty}: ")
    code, lines, _ = run(capsys, "check", bad, model, "--format", "github")
    assert code == 2 and len(lines) == 3 and str(bad) in lines[0]
    assert run(capsys, "check", bad)[:2] == (2, [])


def test_an_option_that_resembles_none_gets_no_suggestion(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["check", str(model), "--wrong"])
    assert capsys.readouterr().err == "qdqgraph: unrecognized arguments: --wrong; options: qdqgraph check --help\n"


def test_the_number_of_a_built_in_rule_is_enough(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "explain", "104") == run(capsys, "explain", "QDQ104")
    assert run(capsys, "check", model, "--select", "104", "-q") == run(capsys, "check", model, "--select", "QDQ1", "-q")


def test_fix_quiet_prints_what_was_written(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, plan = tmp_path / "out.onnx", tmp_path / "plan.json"
    code, lines, _ = run(capsys, "fix", model, "-o", out, "--plan", plan, "-q", "--no-numerics")
    assert code == 0 and lines == [f"Wrote {out}", f"Plan: {plan}"]
    code, lines, _ = run(capsys, "fix", model, "-o", out, "-q", "--dry-run", "--no-numerics")
    assert code == 0 and lines == ["dry run: nothing written"]


def test_fix_verbose_prints_every_repair_and_scale(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, lines, _ = run(capsys, "fix", model, "--dry-run", "-v")
    assert any(line.startswith(f"{model}: a: QDQ104 'a' is quantized 2 times") for line in lines)
    assert any(line.split()[:2] == ["a", "0.1"] for line in lines) and any("output y: SQNR" in line for line in lines)


def test_what_is_left_has_its_reason_and_may_be_an_exit_code(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("fix", model, "--dry-run", "--no-numerics", "--max-bits-lost", "0.1")
    code, lines, _ = run(capsys, *words)
    said = " ".join(" ".join(lines).split())
    assert code == 0 and "Left (1) QDQ104 tensor-quantized-twice 1 a QDQ104: the scale of 'a'" in said
    assert run(capsys, *words, "--exit-non-zero-if-left")[0] == 1
    assert run(capsys, *words, "--exit-non-zero-if-left", "--json")[0] == 1
    assert run(capsys, *words[:4], "--exit-non-zero-if-left")[0] == 0


SLIPS = [
    (("check", "MODEL", "--fulll"), "unrecognized arguments: --fulll; did you mean '--full'?"),
    (("chek", "MODEL"), "there is no 'chek'; did you mean 'check'? Choose from"),
    (("check", "MODEL", "--target", "trt10"), "there is no 'trt10'; did you mean 'trt-10'? Choose from"),
    (
        ("engine", "forecast", "MODEL", "--target", "trt-9"),
        "unknown target 'trt-9'; did you mean 'trt-10'? Known targets: ",
    ),
    (("engine", "time", "MODEL", "--device", "orni"), "unknown device 'orni'; did you mean 'orin'? Known devices: "),
    (("check", "WRONG"), "wrong.onnx: cannot be read: No such file or directory; did you mean 'FOLDER/wrung.onnx'?"),
    (("check", "MODEL", "--select", "QDQ10x"), "no rule matches 'QDQ10x'; did you mean 'QDQ10"),
    (("check", "MODEL", "--select", "tensor-quantised-twice"), "did you mean 'tensor-quantized-twice'? See: qdqgraph"),
    (("fix", "MODEL", "--dry-run", "--except", "/heat/*"), "matches '/heat/*'; did you mean '/head/*'?"),
    (("fix", "MODEL", "--dry-run", "--only", "/head/Rely"), "matches '/head/Rely'; did you mean '/head/Relu'?"),
    (("strip", "MODEL", "-o", "out.onnx", "--nodes", "/heat/*"), "no node matches '/heat/*'; did you mean '/head/*'?"),
]


@pytest.mark.parametrize(("words", "said"), SLIPS, ids=[said[0][-1] for said in SLIPS])
def test_a_slip_gets_one_suggestion(
    words: tuple[str, ...], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = build(TWICE)
    next(node for node in made.graph.node if node.op_type == "Relu").name = "/head/Relu"
    path = tmp_path / "m.onnx"
    onnx.save(made, path)
    (tmp_path / "wrung.onnx").touch()
    said = said.replace("FOLDER", str(tmp_path))
    arguments = [{"MODEL": str(path), "WRONG": str(tmp_path / "wrong.onnx")}.get(word, word) for word in words]
    try:
        code: int | str | None = main(arguments)
    except SystemExit as stop:
        code = stop.code
    error = capsys.readouterr().err
    assert code == 2 and said in error and error.count("did you mean") == 1
