"""What a conversion may get wrong misses a gate, on toy weights and on the authors' own."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

from scripts import job, reference
from scripts.recipe import read
from tests.conftest import ROOT
from tests.models.mt3.defects import DEFECTS, missed, plant


class Built(NamedTuple):
    task: job.Job
    cases: Mapping[str, reference.Cases]

    def artifact(self, component: str) -> Path:
        return self.task.inputs["compose"] / f"mt3-{component}-fp32.onnx"


@pytest.fixture(scope="module", params=["tiny", "released"])
def built(request) -> Built:
    folder = request.getfixturevalue({"tiny": "cast", "released": "released"}[request.param]).parent
    task = job.Job("mt3", request.param, read(ROOT, "mt3"), {"compose": folder / "compose"}, folder, None)
    return Built(task, reference.read(folder / "ask/reference.npz"))


@pytest.mark.parametrize("component", ["frontend", "encoder", "decoder"])
def test_nothing_planted_misses_nothing(built, component):
    assert missed(built.task, built.cases, component, built.artifact(component)) == []


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_defect_misses_a_gate(built, tmp_path, defect):
    component, change = DEFECTS[defect]
    planted = tmp_path / "planted.onnx"
    plant(lambda weights: change(component, weights), built.artifact(component), planted)
    found = missed(built.task, built.cases, component, planted)
    print(f"{built.task.weights}, {defect}: {'; '.join(found)}")
    assert found
