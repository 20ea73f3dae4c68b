"""The notebooks run from top to bottom."""

from pathlib import Path

import nbformat
import pytest
from killing import ENVIRONMENT
from nbclient import NotebookClient

NOTEBOOKS = {
    path.stem: nbformat.read(path, as_version=4)
    for path in sorted(Path(__file__).parents[1].glob("notebooks/*.ipynb"))
}


def code(name):
    return [cell for cell in NOTEBOOKS[name].cells if cell.cell_type == "code"]


@pytest.mark.exhaustive
def test_all_run(tmp_path, monkeypatch):
    """One after the other, names forgotten in between: a kernel for each would double the time."""
    for name, value in {**ENVIRONMENT, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}.items():
        monkeypatch.setenv(name, value)
    whole, cells = nbformat.v4.new_notebook(), {name: [] for name in NOTEBOOKS}
    for name, held in cells.items():
        whole.cells.append(nbformat.v4.new_code_cell("%reset -f"))
        held.extend(nbformat.v4.new_code_cell(cell.source) for cell in code(name))
        whole.cells.extend(held)
    NotebookClient(whole, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    for name, held in cells.items():
        shown = [output.output_type for cell in held for output in cell.outputs]
        assert "execute_result" in shown or "display_data" in shown, name


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_is_kept_without_outputs(name):
    assert all(not cell.outputs and cell.execution_count is None for cell in code(name))
    first = NOTEBOOKS[name].cells[0]
    assert first.cell_type == "markdown" and first.source.startswith("# ")
