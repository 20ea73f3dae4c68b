import shutil

from circuits.comparison import compare
from circuits.format import typeset
from circuits.graph import EdgeScores
from circuits.report import narrative
from circuits.report.comparison_page import write_comparison_page
from circuits.report.run import Run
from circuits.report.sections.comparison import similarity, turnover


def page(whole_run, folder, *names):
    for name in names:
        shutil.copy(whole_run / name, folder / name)
    return write_comparison_page(folder)


def test_the_page_holds_words_figures_and_the_matrix(whole_run, tmp_path):
    path = page(whole_run, tmp_path, "comparison.json", "cross_evaluation.json")
    assert path == tmp_path / "comparison.html"
    text = path.read_text()
    assert "What changed from base to step-300" in text
    run = Run(tmp_path)
    for words in (
        narrative.evolution(run.comparison),
        narrative.cross_evaluation(run.cross_evaluation),
    ):
        assert typeset(words).split(". ")[0] in text
    for caption in (
        "noise ceiling",
        "labels swapped",
        "holds them first",
        "in each checkpoint (rows)",
    ):
        assert caption in text
    assert "<both>" not in text, "what a file says is escaped"
    assert not [line for line in text.splitlines() if 'src="http' in line]
    assert write_comparison_page(tmp_path).read_text() == text


def test_circuits_judged_on_what_they_were_chosen_on_are_said_to_be(whole_run, tmp_path):
    text = page(whole_run, tmp_path, "comparison.json", "cross_evaluation.json").read_text()
    assert "which flatters f" not in text and "newsroom, split test" in text
    run = Run(tmp_path)
    scored = run.comparison.model_copy(update={"pairs": ("a", "b", "c")})
    scored.save(tmp_path / "comparison.json")
    matrix = run.cross_evaluation.model_copy(update={"pairs": ("c", "d", "b")})
    matrix.save(tmp_path / "cross_evaluation.json")
    said = "scored on 2 of these examples, which flatters f"
    assert said in write_comparison_page(tmp_path).read_text()


def test_without_models_there_is_no_matrix(whole_run, tmp_path):
    text = page(whole_run, tmp_path, "comparison.json").read_text()
    assert "Circuits in other checkpoints" not in text and "By training step" in text


def test_a_checkpoint_against_itself(whole_run, tmp_path):
    scores = EdgeScores.load(whole_run / "scores" / "base.safetensors")
    found = compare([scores, scores], names=["one", "two"], n_resamples=100)
    found.save(tmp_path / "comparison.json")
    text = write_comparison_page(tmp_path).read_text()
    assert "no change" in text and "no edge and no node changed" in text
    assert "The largest changes" not in text, "rows of zeros say nothing"


def test_what_the_intervals_come_from_is_told(whole_run, tmp_path):
    """Similarity and turnover use no bootstrap: their number of samples is fixed."""
    scores = EdgeScores.load(whole_run / "scores" / "base.safetensors")
    found = compare([scores, scores], n_resamples=123)
    found.save(tmp_path / "comparison.json")
    assert "123 resamples for edges and node totals, 200 random halves" in narrative.evolution(
        found
    )
    run = Run(tmp_path)
    (alike, *_), (_, bars, parts) = similarity(run), turnover(run)
    assert alike.method.settings["gap subsets"] == 60 and bars.method.settings["halves"] == 200
    assert "n_resamples" not in {**alike.method.settings, **bars.method.settings}
    assert parts.method.settings["n_resamples"] == 123
