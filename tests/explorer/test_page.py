"""The page in a browser, from data in it: what is chosen, compared, saved and opened again."""

from __future__ import annotations

import csv
import json
import shutil

import pytest
import torch

from circuits import Circuit, open_run, select
from circuits.explorer import explore
from circuits.runs.records import ExampleFile

HOSTILE = "</script><script>alert(1)</script>"


@pytest.fixture(scope="module")
def address(whole_run, tmp_path_factory):
    """A page of a run whose article tries to run a script."""
    folder = tmp_path_factory.mktemp("explored") / "run"
    shutil.copytree(whole_run, folder)
    example = ExampleFile.load(folder / "pairs" / "example.json")
    example.model_copy(update={"clean_prompt": HOSTILE, "title": HOSTILE}).save(
        folder / "pairs" / "example.json"
    )
    explore(folder, path=folder / "page.html")
    return (folder / "page.html").as_uri()


@pytest.fixture
def opened(watched, address):
    return watched(address, address)


def shown(opened):
    """Names of the edges drawn."""
    script = "() => [...new Set(explorer.graph.cy.edges().map((one) => one.data('name')))]"
    return set(opened.run(script))


def set_state(opened, **changes):
    opened.run("(changes) => explorer.store.set(changes)", changes)


def test_sizes_and_checkpoints_are_the_packages_circuits(opened, whole_run):
    run = open_run(whole_run)
    names = list(run.scores)
    for name, size in ((names[-1], 48), (names[0], 7), (names[1], 200)):
        set_state(opened, checkpoint=names.index(name), by="size", size=size)
        expected = select(run.scores[name], size=size)
        assert len(expected) > 2 and shown(opened) == set(expected.edges)
    set_state(opened, checkpoint=1, by="run")
    assert shown(opened) == set(run.circuits[names[1]].edges)
    f = run.evaluation.checkpoints[names[1]].circuit.faithfulness
    assert f"{f.value:.3f}" in opened.page.locator("output.f").inner_text()


def test_pruning_is_the_packages_on_random_circuits(opened, whole_run):
    layout = next(iter(open_run(whole_run).scores.values())).layout
    draw = torch.Generator().manual_seed(0)
    script = """(edges) => import("circuits-explorer/selection.js").then(({pruned}) => {
      const numbers = edges.map((name) => explorer.contents.edgeNamed(name));
      const kept = pruned(explorer.contents, Uint32Array.from(numbers));
      return [...kept].map((edge) => explorer.contents.edgeName(edge));
    })"""
    for share in (0.05, 0.1, 0.3):
        mask = (torch.rand(layout.shape, generator=draw) < share) & layout.mask
        circuit = Circuit(layout, mask)
        expected = circuit.pruned()
        assert set(opened.run(script, list(circuit.edges))) == set(expected.edges)
    assert 0 < len(expected) < len(circuit)


def test_a_difference_keeps_only_what_is_significant(opened, whole_run):
    run = open_run(whole_run)
    names = list(run.scores)
    page = opened.page
    page.get_by_label("Circuit", exact=True).select_option("size")
    page.get_by_label("Difference with").select_option(names[0])
    before, after = (
        set(select(run.scores[name], size=explorer_size(opened)).edges)
        for name in (names[0], names[-1])
    )
    changed = set(run.comparison.between(names[0], names[-1]).edges.changed)
    assert shown(opened) == (before & after) | ((before ^ after) & changed)
    page.get_by_label("only significant").uncheck()
    assert shown(opened) == before | after
    kinds = opened.run(
        "() => explorer.graph.cy.edges().map((e) => [e.data('name'), e.data('change')])"
    )
    assert {name for name, kind in kinds if kind == "gained"} == after - before
    assert {name for name, kind in kinds if kind == "lost"} == before - after
    page.get_by_label("only significant").check()
    page.keyboard.press("Control+z")
    page.get_by_role("button", name="Undo").click()
    assert shown(opened) == before | after


def test_a_difference_looked_at_from_its_earlier_end_shows_the_same_figures(opened):
    script = """() => {
      const rows = [...document.querySelectorAll(".edges tbody tr")];
      return rows.map((row) => row.textContent);
    }"""
    last = len(opened.run("() => explorer.contents.checkpoints")) - 1
    set_state(opened, by="size", size=60, checkpoint=last, other=0, significant=False)
    late = opened.run(script)
    set_state(opened, checkpoint=0, other=last)
    assert opened.run(script) == late and any("lost" in row for row in late)
    opened.page.locator("tr.lost button").first.click()
    chosen = opened.page.locator(".details").inner_text()
    for name in opened.run("() => explorer.view().two.map((one) => one.name)"):
        assert f"score, {name}" in chosen


def test_groups_may_be_called_anything_and_find_a_name_of_their_own(opened):
    set_state(opened, by="size", size=400)
    tap = """([name, shiftKey]) => {
      const node = explorer.graph.cy.nodes(`[name="${name}"]`);
      node.emit({type: "tap", originalEvent: {shiftKey}});
    }"""
    first, *pairs = [("m0", "m1"), ("m2", "input"), ("m3", "logits")]
    for name, mate in (first, pairs[0]):
        opened.run(tap, [name, False])
        opened.run(tap, [mate, True])
    opened.run(tap, ["m0", False])
    group = opened.page.locator("[data-act=group]")
    group.fill("constructor")
    group.blur()
    opened.run(tap, ["m1", False])
    group.fill("constructor")
    group.blur()
    for name, shift in zip(pairs[1], (False, True), strict=True):
        opened.run(tap, [name, shift])
    assert opened.run("() => explorer.store.state.groups") == {
        "constructor": ["m0", "m1"],
        "group 2": ["input", "m2"],
        "group 1": ["logits", "m3"],
    }


def explorer_size(opened):
    return opened.run("() => explorer.store.state.size")


def test_the_keyboard_walks_pins_knocks_out_and_undoes(opened):
    page = opened.page
    page.get_by_role("application").focus()
    page.keyboard.press("ArrowUp")
    chosen = "() => explorer.store.state.selected?.name"
    assert opened.run(chosen) == "logits"
    strongest = opened.run(
        """() => explorer.picture().lines.filter((one) => one.target === "logits")
        .sort((a, b) => Math.abs(b.score) - Math.abs(a.score))[0].source"""
    )
    page.keyboard.press("ArrowDown")
    assert opened.run(chosen) == strongest
    assert page.locator(".details h4").inner_text() == strongest
    page.keyboard.press("p")
    page.keyboard.press("x")
    state = opened.run("() => explorer.store.state")
    assert state["pinned"] == [strongest] and state["knocked"] == [strongest]
    left = opened.run(
        "() => [...explorer.view().circuit].map((e) => explorer.contents.edgeName(e))"
    )
    whole = opened.run("() => [...explorer.view().whole].map((e) => explorer.contents.edgeName(e))")
    layout_mask = [name for name in whole if not name.startswith(f"{strongest}->")]
    layout = open_layout(opened)
    assert set(left) == set(Circuit.of(layout, layout_mask).pruned().edges) != set(whole)
    page.keyboard.press("Control+z")
    assert opened.run("() => explorer.store.state.knocked") == []


def open_layout(opened):
    from circuits import Layout

    return Layout.from_dict(opened.run("() => explorer.contents.raw.layout.sizes"))


def test_the_list_filters_names_groups_and_notes(opened):
    page = opened.page
    page.get_by_text("Filters").click()
    page.get_by_label("Names").fill("logits")
    assert all(name.endswith("->logits") for name in shown(opened)) and shown(opened)
    first = page.locator("button[data-edge]").first
    first.click()
    assert first.get_attribute("aria-pressed") == "true"
    page.keyboard.press("ArrowDown")
    page.locator(".details .buttons button").first.click()
    page.locator("[data-act=name]").fill("the mover")
    page.locator("[data-act=group]").fill("movers")
    page.locator("[data-act=note]").fill("<b>bold</b>")
    page.locator("[data-act=note]").blur()
    assert "“the mover”" in page.locator(".details").inner_text()
    assert opened.run("() => explorer.graph.cy.nodes('[?group][^name]').length") == 1
    assert list(opened.run("() => explorer.store.state.notes").values()) == ["<b>bold</b>"]


def test_what_is_saved_is_read_back(opened, watched, address, tmp_path):
    page = opened.page
    set_state(opened, by="size", size=20, notes={"m0": HOSTILE}, pinned=["m0"])

    def saved(name):
        with page.expect_download() as found:
            page.get_by_role("button", name=name, exact=True).click()
        path = tmp_path / found.value.suggested_filename
        found.value.save_as(path)
        return path

    circuit = Circuit.load(saved("Circuit file"))
    assert set(circuit.edges) == shown(opened) and circuit.scores is not None
    svg = saved("SVG").read_text()
    assert svg.count("<path") == opened.run("() => explorer.picture().lines.length") > 5
    assert saved("PNG").read_bytes()[:4] == b"\x89PNG"
    row = saved("Table row").read_text().splitlines()
    assert row[0].startswith("model,") and f",{len(circuit)}," in row[1]
    large = """() => import("circuits-explorer/exports.js").then(({tableRow}) => {
      const view = {...explorer.view(), circuit: new Uint32Array(32491)};
      return tableRow(explorer.contents, explorer.store.state, view, null);
    })"""
    assert ",32491," in opened.run(large)
    assert json.loads(saved("JSON").read_text())["notes"] == {"m0": HOSTILE}
    state = saved("State")
    again = watched(saved("This page").as_uri(), "file:///")
    assert again.run("() => explorer.store.state") == opened.run("() => explorer.store.state")
    opened.run("() => explorer.store.set({size: 3, notes: {}})")
    page.locator("input[type=file]").set_input_files(state)
    page.wait_for_function("() => explorer.store.state.size === 20")
    other = json.loads(state.read_text())
    other["layout"]["n_layers"] = 9
    state.write_text(json.dumps(other))
    page.locator("input[type=file]").set_input_files(state)
    page.get_by_text("model of other sizes").wait_for()


def test_a_state_of_a_checkpoint_that_is_not_here_says_what_is_shown(opened, tmp_path):
    """It comes from another run of the same model: what is shown is named, and nothing compared."""
    page = opened.page
    names = opened.run("() => explorer.contents.checkpoints.map((one) => one.name)")
    set_state(opened, by="size", size=20, checkpoint=0, other=1)
    with page.expect_download() as found:
        page.get_by_role("button", name="State", exact=True).click()
    path = tmp_path / "state.json"
    found.value.save_as(path)
    state = json.loads(path.read_text())
    assert (state["checkpoint"], state["other"]) == (names[0], names[1])

    def reopened(**changes):
        path.write_text(json.dumps({**state, **changes}))
        set_state(opened, size=3, checkpoint=1, other=None)
        page.locator("input[type=file]").set_input_files(path)
        page.wait_for_function("() => explorer.store.state.size === 20")
        chosen = opened.run("() => [explorer.store.state.checkpoint, explorer.store.state.other]")
        return chosen, page.locator(".said").inner_text()

    assert reopened() == ([0, 1], "Opened state.json")
    last = len(names) - 1
    assert reopened(checkpoint="step 9", other="step 8") == (
        [last, None],
        f"Opened state.json; this run has no checkpoint step 9, so {names[last]} is shown",
    )
    assert len(shown(opened)) > 2


def test_a_table_row_counts_whole_and_rounds_figures(opened):
    row = opened.run(
        """() => import("circuits-explorer/exports.js").then(({tableRow}) => {
      const checkpoint = {...explorer.view().checkpoint, name: 'a "b", c'};
      const edges = new Uint32Array(32491);
      const view = {...explorer.view(), checkpoint, circuit: edges, whole: edges};
      const f = {f: -0.0123456, low: -0.98765, high: 1 / 3, metric: "kl"};
      return tableRow(explorer.contents, explorer.store.state, view, {measured: () => f});
    })"""
    )
    head, values, _ = row.split("\n")
    found = dict(zip(head.split(","), next(csv.reader([values])), strict=True))
    assert found["edges"] == found["measured_at"] == "32491"
    assert found["checkpoint"] == 'a "b", c'
    assert (found["f"], found["low"], found["high"]) == ("-0.0123", "-0.988", "0.333")


def test_an_article_is_text_and_the_page_fits_a_phone_in_the_dark(watched, address):
    opened = watched(address, address, color_scheme="dark", has_touch=True)
    opened.page.set_viewport_size({"width": 390, "height": 800})
    opened.page.get_by_text("The example").click()
    assert HOSTILE in opened.page.locator(".example").inner_text()
    assert opened.run("() => document.documentElement.scrollWidth") <= 390
    assert opened.run("() => getComputedStyle(document.body).backgroundColor") == "rgb(21, 25, 29)"
