"""What the page may ask for: every field named, typed and bounded; nothing here is a path."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from circuits.errors import InputError
from circuits.options.choices import Direction

MOST_BYTES = 4 * 2**20
"""Of one message: 70,651 numbers of edges are 0.5 MB."""

Text = Annotated[str, Field(max_length=20_000)]
Answer = Annotated[str, Field(max_length=500)]
Edges = Annotated[list[Annotated[int, Field(ge=0)]], Field(max_length=500_000)]
Site = Literal[
    "resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out", "z", "q", "k", "v", "pattern"
]
Index = Annotated[int, Field(ge=0, le=10**6)]


class _Asked(BaseModel):
    """A request; id: by which its answers are told apart, larger than that of those before it."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    id: Annotated[int, Field(ge=0)]


class Prompts(_Asked):
    """Take these prompts; an empty answer is what the model says."""

    do: Literal["prompts"]
    clean: Text
    corrupted: Text
    correct: Answer = ""
    incorrect: Answer = ""


class TaskPrompts(_Asked):
    """Take a pair of the task."""

    do: Literal["task_prompts"]
    index: Index


class AskedOfPair(_Asked):
    """A request about the pair that the window took.

    pair_id: the id of the request that took it. What is asked about another pair than the window is
    at when it asks is refused. None: whichever pair the window is at when it is answered.
    """

    pair_id: Annotated[int, Field(ge=0)] | None = None


class PatchSite(AskedOfPair):
    """Patch one place; position and unit None patch all of them at once."""

    do: Literal["site"]
    site: Site
    direction: Direction
    layer: Index
    position: Index | None = None
    unit: Index | None = None


class Sweep(AskedOfPair):
    """Patch every place of a kind: layers by positions, or by heads."""

    do: Literal["sweep"]
    site: Site
    direction: Direction
    by: Literal["position", "head"]


class PatchEdge(AskedOfPair):
    """Patch one edge."""

    do: Literal["edge"]
    edge: Annotated[str, Field(max_length=60)]
    direction: Direction


class RunCircuit(AskedOfPair):
    """Run the pair, and the task's pairs where there are some, on a circuit."""

    do: Literal["circuit"]
    edges: Edges


class AboutNode(AskedOfPair):
    """A node's attention and what it does straight to the logits."""

    do: Literal["node"]
    node: Annotated[str, Field(max_length=60)]


class Score(AskedOfPair):
    """Score every edge, of the pair or of the task's pairs."""

    do: Literal["score"]
    of: Literal["pair", "task"]
    steps: Annotated[int, Field(ge=1, le=64)] = 5


class Page(_Asked):
    """The page as a file, with a state in it."""

    do: Literal["page"]
    state: dict[str, object]
    added: list[dict[str, object]] = Field(default_factory=list, max_length=20)


class Cancel(_Asked):
    """Stop an earlier request."""

    do: Literal["cancel"]
    of: Annotated[int, Field(ge=0)]


Asked = (
    Prompts
    | TaskPrompts
    | PatchSite
    | Sweep
    | PatchEdge
    | RunCircuit
    | AboutNode
    | Score
    | Page
    | Cancel
)
_ASKED: TypeAdapter[Asked] = TypeAdapter(Annotated[Asked, Field(discriminator="do")])


def read(text: str) -> Asked:
    """A request from what the page sent.

    Raises:
        InputError: for what is too long, no JSON, or no request; says which field.
    """
    if len(text.encode()) > MOST_BYTES:
        raise InputError(f"a message of more than {MOST_BYTES} bytes")
    try:
        return _ASKED.validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        location = ".".join(str(step) for step in first["loc"]) or "the message"
        raise InputError(f"{location}: {first['msg']}") from error
