"""What a screen reader is told, as Chromium's accessibility tree has it."""

from __future__ import annotations

import re

import pytest

from circuits.explorer import explore
from circuits.explorer.live.backends import backend_of
from circuits.explorer.live.serve import ExplorerServer
from circuits.explorer.notebook import sharing_weights

CONTROLS = {
    "application", "button", "checkbox", "combobox", "DisclosureTriangle", "image", "link",
    "progressbar", "radio", "searchbox", "slider", "spinbutton", "switch", "tab", "textbox",
}  # fmt: skip
NAMED = {"list", "region", "table"}
"""What is jumped to: of several on one page, each needs a name."""
_IN_REACH = """() => [...document.querySelectorAll(
  "#explorer :is(button, input, select, textarea, summary, [tabindex])"
)].filter((one) => one.checkVisibility()).length"""


def tree(opened):
    """(role, name, whether it takes the focus) of all that is told."""
    session = opened.page.context.new_cdp_session(opened.page)
    nodes = session.send("Accessibility.getFullAXTree")["nodes"]
    session.detach()
    told = []
    for node in nodes:
        if not node["ignored"]:
            flags = {one["name"]: one["value"].get("value") for one in node.get("properties", ())}
            name = str(node.get("name", {}).get("value", ""))
            told.append((node["role"]["value"], name.strip(), bool(flags.get("focusable"))))
    return told


def nameless(told):
    """Roles of what has no name, though it is operated or jumped to."""
    return [
        role
        for role, name, focusable in told
        if not name
        and role not in ("RootWebArea", "MenuListPopup")
        and (focusable or role in CONTROLS | NAMED)
    ]


def controls(opened):
    """Names of all controls by role; none is without, and none is kept from the reader."""
    told = tree(opened)
    assert nameless(told) == []
    operated = [(role, name) for role, name, _ in told if role in CONTROLS]
    assert len(operated) >= opened.run(_IN_REACH) > 10
    return operated


@pytest.fixture
def static(watched, whole_run, tmp_path):
    explore(whole_run, path=tmp_path / "page.html")
    address = (tmp_path / "page.html").as_uri()
    return watched(address, address)


@pytest.fixture(scope="module")
def server(hooked, random_pairs):
    backend = backend_of(model=sharing_weights(hooked("llama")), pairs=random_pairs(n=6))
    made = ExplorerServer(backend)
    made.start()
    yield made
    made.stop()


def test_a_control_without_a_name_is_found(static):
    static.run(
        """() => {
      const one = document.createElement("button");
      document.getElementById("explorer").append(one);
    }"""
    )
    assert nameless(tree(static)) == ["button"]


def test_everything_in_a_page_of_a_run_has_a_name(static, whole_run):
    page = static.page
    told = controls(static)
    (drawing,) = [name for role, name in told if role == "application"]
    assert drawing.startswith("The circuit. Arrow keys")
    assert ("slider", "Edges") in told and ("combobox", "Difference with") in told
    assert (
        page.title()
        == page.get_by_role("heading", level=1).inner_text()
        == f"Circuits of {whole_run.name}"
    )
    page.get_by_text("Filters").click()
    page.get_by_label("Circuit", exact=True).select_option("threshold")
    assert ("searchbox", "Names") in controls(static)
    said = page.get_by_label("Least |score|").get_attribute("aria-valuetext")
    assert said.startswith("|score| at least ")
    page.get_by_label("Circuit", exact=True).select_option("size")
    page.get_by_label("Difference with").select_option(index=1)
    assert ("checkbox", "only significant") in controls(static)
    for kind, fields in (("node", {"Name", "Group", "Note"}), ("edge", {"Note"})):
        name = static.run(
            "(kind) => kind === 'node' ? 'm0' : explorer.picture().lines[0].name", kind
        )
        static.run("(selected) => explorer.store.set({selected})", {"kind": kind, "name": name})
        found = {text for role, text in controls(static) if role == "textbox"}
        assert found >= {f"{field} of {name}" for field in fields}


def test_what_is_chosen_by_the_keyboard_is_told(static):
    """The drawing is a picture: its keys say what they came to."""
    page = static.page
    status = page.locator(".said")
    assert status.get_attribute("role") == "status"
    page.get_by_role("application").focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    node = static.run("() => explorer.store.state.selected.name")
    words = {"a": "head", "m": "MLP", "i": "the input"}[node[0]]
    assert re.fullmatch(f"Chosen: {re.escape(node)}, {words}.*", status.inner_text())
    page.locator("button[data-edge]").first.click()
    edge, score = static.run(
        """() => {
      const {name} = explorer.store.state.selected;
      const score = explorer.view().scores[explorer.contents.edgeNamed(name)];
      return [name.replace("->", " to "), score];
    }"""
    )
    said = status.inner_text().replace("\N{MINUS SIGN}", "-")
    assert said.startswith(f"Chosen: {edge}, score ") and said.endswith(", rank 1")
    assert float(said.split("score ")[1].split(",")[0]) == pytest.approx(score, rel=5e-3)


def test_everything_beside_a_model_has_a_name(watched, server):
    address = server.address
    opened = watched(address.url, f"http://127.0.0.1:{address.port}/")
    page = opened.page
    page.get_by_text("random pair 0").wait_for()
    told = controls(opened)
    assert ("button", "Score the edges of 6 pairs of pairs") in told
    assert ("button", "layer 1, position 3") in told
    page.get_by_role("button", name="Patch all").click()
    page.get_by_text("All places are patched").wait_for()
    cells = [name for role, name in controls(opened) if name.startswith("layer ")]
    assert cells and all(re.search(r": \S*\d of the gap$", name) for name in cells[-15:])
    page.get_by_role("button", name=re.compile("layer 1, position 3")).click()
    page.get_by_text("resid_pre, layer 1, position 3").wait_for()
    assert page.locator("[aria-current=true]").count() == 1
    page.get_by_role("button", name="Score the edges of 6 pairs").click()
    page.get_by_text("Scored: pairs, here. Its strongest edges are drawn.").wait_for()
    head = opened.run("() => explorer.picture().nodes.find((n) => n.kind === 'head').name")
    opened.run("(name) => explorer.store.set({selected: {kind: 'node', name}})", head)
    page.get_by_role("button", name="What it does here").click()
    page.get_by_text("The last position looks at").first.wait_for()
    told = controls(opened)
    assert any(role == "image" and name.startswith("The last position") for role, name in told)
    page.get_by_label("Clean prompt").fill("")
    page.get_by_role("button", name="Run", exact=True).click()
    page.get_by_role("alert").get_by_text("type a clean and a corrupted prompt").wait_for()
