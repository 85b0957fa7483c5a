"""What dividing towers does on one rank."""

from unittest.mock import Mock

import torch.distributed as dist

from medvlp.training.sharding import begin_alike


def test_ranks_agree_where_their_process_group_is(monkeypatch):
    sent = []
    monkeypatch.setattr(dist, "broadcast", lambda tensor, src: sent.append((tensor, src)))
    tensor = Mock()
    begin_alike([tensor], "cuda")
    tensor.to.assert_called_once_with("cuda")
    assert sent == [(tensor.to.return_value, 0)]
    tensor.copy_.assert_called_once_with(tensor.to.return_value)
