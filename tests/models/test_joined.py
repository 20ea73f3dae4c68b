"""Projections of one module whose heads lie one behind the other are one."""

import pytest
import torch

from circuits.models.view import ReadsHeads

PARTS = {"gpt2": 1, "llama": 3, "gpt-neox": 3, "bloom": 3}


@pytest.mark.parametrize("name", PARTS)
def test_the_same_heads_in_fewer_parts(name, hooked):
    view = hooked(name).view
    events = [one for one in view.streams[0].events if isinstance(one, ReadsHeads)]
    assert events
    for event in events:
        joined = event.joined
        assert sum(len(parts) for parts in joined.values()) == PARTS[name]
        for module, parts in event.modules.items():
            end = max(p.offset + (p.n_heads - 1) * p.stride + p.d_head for p, _ in parts)
            output = torch.randn(2, 3, end)
            expected = torch.cat([one.heads(output) for one, _ in parts], dim=-2)
            found = torch.cat([one.heads(output) for one, _ in joined[module]], dim=-2)
            assert torch.equal(found, expected)
            columns = [slice.indices(one, 10**6)[:2] for _, one in joined[module]]
            assert columns[0][0] == parts[0][1].start and columns[-1][1] == parts[-1][1].stop
