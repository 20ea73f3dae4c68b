"""The page beside a model, in a browser: typed, clicked, cancelled, reloaded, closed."""

from __future__ import annotations

import re

import pytest
import torch
from workers import arrived, held, settle

import circuits
from circuits.explorer.contents import EdgeNumbers
from circuits.explorer.live.backends import backend_of
from circuits.explorer.live.serve import ExplorerServer
from circuits.explorer.live.typed import typed_pairs
from circuits.explorer.notebook import sharing_weights

CLEAN, CORRUPTED = " the capital of France is", " the capital of Italy is"


@pytest.fixture(scope="module")
def model(hooked):
    return hooked("llama")


@pytest.fixture(scope="module")
def server(model, random_pairs):
    made = ExplorerServer(backend_of(model=sharing_weights(model), pairs=random_pairs(n=6)))
    made.start()
    yield made
    made.stop()


@pytest.fixture
def opened(watched, server):
    """A window, behind the task's first pair, which it takes by itself."""
    return window(watched, server)


def window(watched, server):
    address = server.address
    found = watched(address.url, f"http://127.0.0.1:{address.port}/")
    found.page.get_by_text("random pair 0").wait_for()
    return found


def run_prompts(page, clean=CLEAN, corrupted=CORRUPTED, correct=" Paris", incorrect=" Rome"):
    page.get_by_label("Clean prompt").fill(clean)
    page.get_by_label("Corrupted prompt").fill(corrupted)
    page.get_by_label(re.compile("Right answer")).fill(correct)
    page.get_by_label("Wrong answer").fill(incorrect)
    ran = "() => explorer.session.log().filter((one) => one.do === 'prompts').length"
    before = page.evaluate(ran)
    page.get_by_role("button", name="Run", exact=True).click()
    if len(clean.split()) == len(corrupted.split()):
        page.wait_for_function(f"(n) => ({ran})() > n", arg=before)


def score(page):
    page.get_by_role("button", name="Score the edges of this pair").click()
    page.get_by_text("Scored: typed pair").first.wait_for()


def test_what_comes_too_late_is_not_shown_as_an_answer_to_something_else(opened):
    """Another place is chosen in a sweep, another pair taken while an edge is patched."""
    found = opened.run(
        """async () => {
      const {session} = explorer;
      const {heat, answers} = session;
      const real = session.ask;
      let step, done;
      session.ask = (request, act) => {
        step = act;
        return {id: 10 ** 6, answer: new Promise((resolve) => { done = resolve; })};
      };
      const sweep = heat.sweep();
      const running = !heat.stop.hidden;
      heat.site.value = "q";
      heat.reset();
      const late = {recovery: [[0.5, 0.5]]};
      step(late);
      done(late);
      await sweep;
      const cells = heat.cells.length;
      const place = document.createElement("div");
      const asked = answers.tried(place, async () => (await session.ask({}).answer).parts);
      session.pair = {...session.pair};
      done({parts: ["of the old pair"]});
      await asked;
      session.ask = real;
      return {running, cells, stop: heat.stop.hidden, text: place.textContent};
    }"""
    )
    assert found == {"running": True, "cells": 0, "stop": True, "text": "Running …"}


def test_what_is_said_of_f_is_of_the_circuit_that_is_shown(opened):
    """Another size or pair is taken while a circuit is measured: what comes of that is not told."""
    run_prompts(opened.page)
    score(opened.page)
    opened.page.wait_for_function("() => explorer.session.found?.task")
    said = opened.run(
        """async () => {
      const {session, store} = explorer;
      const real = session.ask;
      const asked = [];
      session.ask = (request, step) => {
        const one = {request, step};
        one.answer = new Promise((resolve) => { one.done = resolve; });
        asked.push(one);
        return {id: 10 ** 6 + asked.length, answer: one.answer};
      };
      const f = () => document.querySelector("output.f").textContent;
      const said = {};
      store.set({by: "size", size: 7});
      session.measure();
      asked[0].step({done: 2, of: 6});
      said.running = f();
      store.set({by: "size", size: 30});
      said.moved = f();
      asked[0].step({done: 4, of: 6});
      said.late = f();
      asked[0].done({size: 7, task: {f: 0.125, low: 0, high: 1, n: 6, metric: "m"}});
      await asked[0].answer;
      await null;
      said.done = f();
      session.measure();
      asked[1].done({size: 30, task: {f: 0.5, low: 0.25, high: 0.75, n: 6, metric: "m"}});
      await asked[1].answer;
      await null;
      said.mine = f();
      session.took(session.pair);
      said.emptied = session.circuitPlace.childElementCount;
      session.took(session.pair);
      asked[2].done({size: 30, task: {f: 0.125, low: 0, high: 1, n: 6, metric: "m"}});
      await asked[2].answer;
      await null;
      said.old = f();
      asked[3].done({size: 30, task: {f: 0.75, low: 0.5, high: 1, n: 6, metric: "m"}});
      await asked[3].answer;
      await null;
      said.last = f();
      session.ask = real;
      return {...said, sizes: asked.map((one) => one.request.edges.length)};
    }"""
    )
    assert said["running"] == "f on 6 pairs: 2 of 6 done"
    assert said["moved"] == said["late"] == said["done"] == "f was not measured here"
    assert said["mine"] == "f = 0.5 [0.25, 0.75] (measured now in llama, n = 6)"
    assert said["emptied"] == 0 and said["old"] == said["mine"]
    assert said["last"] == "f = 0.75 [0.5, 1] (measured now in llama, n = 6)"
    assert 0 < said["sizes"][0] < said["sizes"][1]


def test_from_prompts_to_an_edge_patched_and_saved_as_python(opened, model, server, tmp_path):
    """What a person does who never saw the page: run, score, take the strongest edge, patch it."""
    page = opened.page
    run_prompts(page)
    assert page.locator(".aligned .differs").count() == 1
    score(page)
    page.get_by_text("Filters").click()
    page.get_by_label("Names").fill("->logits")
    first = page.locator("button[data-edge]").first
    edge = first.get_attribute("data-edge")
    first.click()
    page.get_by_role("button", name="Corrupt it in the clean run").click()
    page.locator(".details .answer").wait_for()
    pairs = typed_pairs(model, CLEAN, CORRUPTED, " Paris", " Rome")
    effect = float(circuits.patch_edges(model, pairs, [edge]).values)
    assert abs(effect) > 1e-4
    log = opened.run("() => explorer.session.log()")
    ends = next(one["ends"] for one in log if one["do"] == "prompts")
    (click,) = (one for one in log if one["do"] == "edge")
    assert ends[0] - click["value"] == pytest.approx(effect, rel=1e-4)
    page.get_by_role("button", name="Restore it in the corrupted run").click()
    page.wait_for_function(
        "() => explorer.session.log().some((one) => one.direction === 'denoise')"
    )
    page.locator("button[data-act]").first.wait_for()
    with page.expect_download() as found:
        page.get_by_role("button", name="Python", exact=True).click()
    found.value.save_as(tmp_path / "clicks.py")
    source = (tmp_path / "clicks.py").read_text()
    source = source.replace(server.backend.load, "given")
    said = []
    exec(compile(source, "clicks.py", "exec"), {"given": model, "print": lambda *a: said.append(a)})
    assert any(
        one[0] == edge and float(one[1]) == pytest.approx(effect, rel=1e-4)
        for one in said
        if len(one) == 2 and isinstance(one[1], torch.Tensor) and one[1].numel() == 1
    )


def test_a_grid_grows_is_cancelled_and_a_reload_ends_its_work(opened, server):
    page = opened.page
    run_prompts(page)
    cell = page.get_by_role("button", name="layer 1, position 3")
    cell.click()
    page.get_by_text("resid_pre, layer 1, position 3").wait_for()
    page.locator("[aria-label^='layer 1, position 3: '][data-known]").wait_for()
    page.get_by_role("button", name="Patch all").click()
    page.get_by_text("All places are patched").wait_for()
    assert page.locator(".heat [data-known]").count() == 15
    page.get_by_role("button", name=re.compile("of 6 pairs")).click()
    page.get_by_role("button", name="Cancel").last.click()
    page.get_by_text("cancelled").first.wait_for()
    page.get_by_role("button", name=re.compile("of 6 pairs")).click()
    page.reload()
    page.wait_for_selector("#explorer[data-ready=true]", state="attached")
    settle(server.backend.worker)


def test_two_windows_do_not_disturb_each_other(opened, watched, server):
    other = window(watched, server)
    run_prompts(opened.page)
    run_prompts(other.page, clean=CORRUPTED, corrupted=CLEAN)
    mine, others = (one.run("() => explorer.session.pair.ends") for one in (opened, other))
    assert mine == others[::-1] and mine[0] != mine[1]
    other.page.close()
    score(opened.page)
    settle(server.backend.worker)


def test_what_is_typed_is_text_and_what_is_wrong_is_said(opened):
    page = opened.page
    hostile = "<script>alert(1)</script>"
    run_prompts(page, hostile, hostile.replace("1", "2"), "", "")
    run_prompts(page, "the capital of France", "the capital")
    page.get_by_text("Patching needs equal lengths").wait_for()
    page.get_by_text("they do not lie side by side").wait_for()


def test_a_head_is_knocked_out_of_the_circuit_and_measured_again(opened):
    page = opened.page
    run_prompts(page)
    score(page)
    page.wait_for_function("() => explorer.session.found?.task")
    before = opened.run("() => [explorer.session.found.size, explorer.session.found.task.f]")
    said = page.locator("output.f").inner_text()
    assert "measured now in llama, n = 6" in said
    head = opened.run("() => explorer.picture().nodes.find((n) => n.kind === 'head').name")
    opened.run("(name) => explorer.store.set({selected: {kind: 'node', name}})", head)
    page.get_by_role("button", name="What it does here").click()
    page.get_by_text("The last position looks at").first.wait_for()
    page.get_by_role("button", name="Knock out").click()
    page.wait_for_function(
        "(size) => (explorer.session.found?.size ?? size) !== size", arg=before[0]
    )
    page.wait_for_function("() => explorer.session.found?.task")
    after = opened.run("() => [explorer.session.found.size, explorer.session.found.task.f]")
    assert after[0] < before[0] and after[1] != before[1]


def used(found):
    """What the fields say, what the page shows tokens of, and what the server answers about."""
    text = "(tokens) => tokens.map((one) => one.text).join('')"
    fields = [
        found.page.get_by_label(one).input_value() for one in ("Clean prompt", "Corrupted prompt")
    ]
    shown = found.run(
        f"() => [explorer.session.pair.clean, explorer.session.pair.corrupted].map({text})"
    )
    value = found.run(
        "async () => (await explorer.session.askOfPair("
        "{do: 'edge', edge: 'm1->logits', direction: 'noise'}).answer).value"
    )
    return fields, shown, value


@pytest.mark.parametrize("order", [("Run", "Next"), ("Next", "Run"), ("Next", "Next")])
def test_of_two_pairs_asked_for_at_once_the_page_shows_the_last(opened, server, model, order):
    """On a server that is busy: typed prompts take a step more, so they are ready last."""
    page, task = opened.page, server.backend.task.pairs
    page.get_by_label("Clean prompt").fill(CLEAN)
    page.get_by_label("Corrupted prompt").fill(CORRUPTED)
    buttons = {
        "Run": page.get_by_role("button", name="Run", exact=True),
        "Next": page.get_by_role("button", name=re.compile("^Next pair")),
    }
    settle(server.backend.worker)
    with held(server.backend.worker):
        for name in order:
            buttons[name].click()
        arrived(server.backend.worker, 4)  # each with what makes its pair ready
    settle(server.backend.worker)
    if order[-1] == "Run":
        pairs = typed_pairs(model, CLEAN, CORRUPTED)
        expected = [CLEAN, CORRUPTED]
    else:
        index = order.count("Next")
        pairs = task[index : index + 1]
        expected = [
            "".join(model.tokenizer.decode([token]) for token in tokens)
            for tokens in (pairs[0].clean, pairs[0].corrupted)
        ]
    page.wait_for_function(
        "(text) => explorer.session.pair.clean.map((one) => one.text).join('') === text",
        arg=expected[0],
    )
    fields, shown, value = used(opened)
    assert fields == shown == expected
    ends = opened.run("() => explorer.session.pair.ends")
    effect = float(circuits.patch_edges(model, pairs, ["m1->logits"], metric=pairs.metric).values)
    assert abs(effect) > 1e-4 and ends[0] - value == pytest.approx(effect, rel=1e-3)
    assert page.get_by_text("not in use yet").is_hidden()
    page.get_by_label("Clean prompt").fill("something else")
    page.get_by_text("These prompts are not in use yet. Answers are about").wait_for()


def test_scores_of_a_pair_that_was_left_are_repeated_about_that_pair(opened, server, model):
    """Scoring goes on behind the next pair; Python says which pair each line is about."""
    page = opened.page
    run_prompts(page)
    with held(server.backend.worker):
        page.get_by_role("button", name="Score the edges of this pair").click()
        page.get_by_role("button", name=re.compile("^Next pair")).click()
        arrived(server.backend.worker, 3)
    page.get_by_text("Scored: typed pair").first.wait_for()
    page.get_by_text("random pair 1").wait_for()
    source = opened.run("() => explorer.session.python()").replace(server.backend.load, "given")
    names = {"given": model, "print": lambda *_: None}
    exec(compile(source, "clicks.py", "exec"), names)
    assert tuple(names["pairs"]) == tuple(typed_pairs(model, CLEAN, CORRUPTED, " Paris", " Rome"))
    found = opened.run("() => Array.from(explorer.contents.checkpoints.at(-1).scores)")
    expected = names["scores"].matrix.flatten()[EdgeNumbers.of(model.layout).flat].tolist()
    assert max(map(abs, expected)) > 0
    assert found == pytest.approx(expected, abs=1e-5 * max(map(abs, expected)))
