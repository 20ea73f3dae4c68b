"""Names of edges and nodes in words, for a reader who meets them for the first time."""

from __future__ import annotations

from circuits.graph import Node

_PORTS = {
    "q": "for its query: what it looks for",
    "k": "for its keys: where it is looked for",
    "v": "for its values: what it passes on",
}


def edge_in_words(edge: str) -> str:
    """An edge in words.

    Args:
        edge: its name, such as "a0.h3->a5.h1<q>".

    Returns:
        "head 3 of layer 0 is read by head 1 of layer 5, for its query: what it looks for"
    """
    source, reader = map(Node.parse, edge.split("->"))
    port = f", {_PORTS[reader.port]}" if reader.port else ""
    return f"{_node(source)} is read by {_node(reader)}{port}"


def node_in_words(node: str) -> str:
    """A node, or a unit of one, in words.

    Args:
        node: its name, such as "m3" or "m3[17]".

    Returns:
        "MLP of layer 3, unit 17"
    """
    name, _, unit = node.partition("[")
    return _node(Node.parse(name)) + (f", unit {unit.rstrip(']')}" if unit else "")


def _node(node: Node) -> str:
    layer = f"layer {node.layer}" + (" of the encoder" if node.encoder else "")
    if node.kind == "head":
        attention = "cross-attention head" if node.cross else "head"
        shared = "KV " if ".kv" in node.name else ""
        return f"{shared}{attention} {node.head} of {layer}"
    if node.kind == "mlp":
        return f"the MLP of {layer}"
    return {"input": "the input", "bias": "the biases", "logits": "the logits"}[node.kind] + (
        " of the encoder" if node.encoder else ""
    )
