import torch

from rlhf_control.reward.ensemble import nearest_distance


def test_nearest_distance_by_hand() -> None:
    rows = torch.tensor([[0.0, 0.0], [3.0, 4.0], [10.0, 0.0]])
    torch.testing.assert_close(
        nearest_distance(rows, torch.tensor([[0.0, 0.0], [10.0, 1.0]])), torch.tensor([0.0, 5.0, 1.0])
    )
