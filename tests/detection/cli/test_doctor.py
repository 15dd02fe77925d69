import json

from detection.runtime.operations.finding import Finding
from detection.runtime.operations.installation import to_json
from tests.detection.conftest import swath


def test_the_command(capsys):
    code, said, _ = swath(capsys, "doctor", "--json", "--provider", "cpu")
    told = json.loads(said)
    states = {finding["what"]: finding["state"] for finding in told["findings"]}
    assert states["CPUExecutionProvider"] == states["onnxruntime"] == states["cv2"] == "ok"
    assert (code, told["ok"], told["schema"]) == (0, True, 1)
    code, said, _ = swath(capsys, "doctor", "--provider", "abacus")
    assert code == 1 and "WRONG" in said and "abacus" in said
    assert to_json([Finding("x", "note", "y")])["ok"]
