import pytest

from detection.evaluation.gate import Minimum
from tests.detection.conftest import swath


def test_minimums_are_parsed_and_nonsense_is_refused():
    assert Minimum.parse("AP50=0.6") == Minimum("AP50", 0.6)
    assert Minimum.parse("sugar beet: x:AP=1") == Minimum("AP", 1.0, "sugar beet: x")
    for text in ("AP50", "AP50=", "AP50=nan", "AP50=60", "AP51=0.5", ":AP=0.5", "weed:AR1=0.5", "=0.5", ""):
        with pytest.raises(ValueError, match="is not like AP50=0.6"):
            Minimum.parse(text)


def test_exit_1_says_what_is_not_reached_and_leaves_the_report(run, rendered, tmp_path, capsys):
    out = tmp_path / "report"
    minimums = ("--fail-below", "AP=0", "--fail-below", "AP50=1", "--fail-below", "sugar_beet:AP75=1")
    code, said, error = swath(capsys, "evaluate", run, rendered, "--out", out, *minimums, "--worst-slice", 1)
    lines = [line for line in error.splitlines() if "is required" in line]
    assert code == 1
    assert lines[0].startswith("swath: AP50 is 0.") and lines[0].endswith(", at least 1 is required")
    assert lines[1].startswith("swath: AP75 of sugar_beet is 0.")
    assert len(lines) > 3 and all(" where " in line and " boxes)" in line for line in lines[2:])
    assert (out / "report.html").is_file()
    code, _, error = swath(
        capsys, "evaluate", run, rendered, "--out", out, "--fail-below", "AP=0", "--worst-slice", 0
    )
    assert (code, "is required" in error) == (0, False)


def test_wrong_minimums_are_refused_before_any_image(run, rendered, tmp_path, capsys):
    never = ("--out", tmp_path / "none")
    code, _, error = swath(capsys, "evaluate", run, rendered, "--fail-below", "AP=much", *never)
    assert code == 2 and "is not like AP50=0.6" in error
    code, _, error = swath(
        capsys, "evaluate", run, rendered, "--fail-below", "tree:AP=0.5", "--out", tmp_path / "none"
    )
    assert code == 1 and "no class tree: there are" in error
    assert not (tmp_path / "none").exists()
