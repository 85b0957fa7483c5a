import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy, embedding
from torch.utils._python_dispatch import TorchDispatchMode
from transformers.loss.loss_utils import ForCausalLMLoss

from medvlp.losses import token_cross_entropy
from medvlp.losses.token_cross_entropy import linear_cross_entropy
from tests.distributed.ranks import on_ranks
from tests.losses.ranks import CUTS, Tied, cross_entropy_of_a_rank, positions, tied_inputs


def by_full_logits(hidden, weight, target, each):
    return (cross_entropy(hidden @ weight.T, target, reduction="none") * each).sum()


def with_gradients(function, hidden, weight, target, each):
    """The loss and its gradients to hidden and weight; scaled, as a gradient scaler would."""
    leaves = [tensor.clone().requires_grad_() for tensor in (hidden, weight)]
    loss = function(*leaves, target, each)
    return [loss.detach(), *torch.autograd.grad(loss * 3, leaves)]


def chunks_of(monkeypatch, rows, positions):
    """Makes the loss walk the vocabulary so many rows at a time."""
    monkeypatch.setattr(token_cross_entropy, "CHUNK_LOGITS", rows * positions)
    monkeypatch.setattr(token_cross_entropy, "LEAST_CHUNK", 1)


def relative(value, other):
    return float((value.double() - other.double()).norm() / other.double().norm())


@pytest.mark.parametrize("rows", [1, 7, 96, 97, 98, 1000], ids="{} rows a chunk".format)
def test_it_is_the_cross_entropy_of_the_full_logits(rows, monkeypatch):
    chunks_of(monkeypatch, rows, 13)
    inputs = positions(13, 97, 5)
    ours, theirs = with_gradients(linear_cross_entropy, *inputs), with_gradients(by_full_logits, *inputs)
    assert [relative(value, other) < 1e-12 for value, other in zip(ours, theirs, strict=True)] == [True] * len(ours)


def test_float32_keeps_the_loss_to_1e6_and_gradients_to_1e5():
    inputs = positions(300, 30_000, 64, torch.float32)
    assert len(list(token_cross_entropy._chunks(inputs[1], 300))) > 1
    ours = with_gradients(linear_cross_entropy, *inputs)
    theirs = with_gradients(by_full_logits, *inputs)
    exact = with_gradients(by_full_logits, *(t.double() if t.is_floating_point() else t for t in inputs))
    for reference in (theirs, exact):
        assert relative(ours[0], reference[0]) < 1e-6
        assert max(relative(value, other) for value, other in zip(ours[1:], reference[1:], strict=True)) < 1e-5


def test_gradcheck(monkeypatch):
    chunks_of(monkeypatch, 4, 6)
    inputs = tuple(t.requires_grad_() if t.is_floating_point() else t for t in positions(6, 11, 3))
    assert torch.autograd.gradcheck(linear_cross_entropy, inputs)


def test_it_is_transformers_loss_over_labelled_positions():
    hidden, weight, _, _ = positions(2 * 9, 50, 8, torch.float32)
    labels = torch.full((2, 9), -100)
    labels[0, 4:7], labels[1, 1:9] = torch.tensor([3, 49, 0]), torch.arange(8)
    theirs = ForCausalLMLoss((hidden @ weight.T).reshape(2, 9, 50), labels, 50)
    following = torch.nn.functional.pad(labels, (0, 1), value=-100)[:, 1:].reshape(-1)
    target = following[following != -100]
    ours = linear_cross_entropy(hidden[following != -100], weight, target, torch.full((11,), 1 / 11))
    assert float(ours) == pytest.approx(float(theirs), rel=1e-6)


def test_equal_logits_give_the_logarithm_of_the_vocabulary():
    each = torch.tensor([0.5, 0.0, 2.0])
    loss = linear_cross_entropy(torch.zeros(3, 4), torch.randn(1000, 4), torch.tensor([0, 7, 999]), each)
    assert float(loss) == pytest.approx(2.5 * math.log(1000), rel=1e-6)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 12), st.integers(0, 12), st.integers(2, 40), st.integers(0, 99))
def test_positions_add_up_and_those_of_no_weight_do_not_count(first, second, vocabulary, seed):
    hidden, weight, target, each = positions(first + second, vocabulary, 3, seed=seed)
    parts = [(hidden[part], weight, target[part], each[part]) for part in (slice(first), slice(first, None))]
    apart = [with_gradients(linear_cross_entropy, *part) for part in parts]
    muted = each * (torch.arange(first + second) < first)
    whole, muted_whole = (with_gradients(linear_cross_entropy, hidden, weight, target, w) for w in (each, muted))
    near = {"rtol": 1e-11, "atol": 1e-13}
    assert torch.allclose(whole[0], apart[0][0] + apart[1][0], **near)
    assert torch.allclose(whole[1], torch.cat([apart[0][1], apart[1][1]]), **near)
    assert torch.allclose(whole[2], apart[0][2] + apart[1][2], **near)
    assert torch.allclose(muted_whole[0], apart[0][0], **near)
    assert torch.allclose(muted_whole[2], apart[0][2], **near)
    assert not muted_whole[1][first:].any()


def test_no_positions_give_a_zero_that_reaches_hidden_and_weight():
    source = torch.ones(5, 3, requires_grad=True)
    weight = torch.randn(7, 3, requires_grad=True)
    loss = linear_cross_entropy(source[:0], weight, torch.zeros(0, dtype=torch.int64), torch.zeros(0))
    loss.backward()
    assert loss.item() == 0.0
    assert torch.equal(source.grad, torch.zeros(5, 3))
    assert torch.equal(weight.grad, torch.zeros(7, 3))


def test_a_tied_weight_gathers_both_gradients(monkeypatch):
    chunks_of(monkeypatch, 4, 6)
    _, table, target, each = positions(6, 11, 3)
    ids = torch.tensor([1, 1, 4, 10, 0, 3])
    grads = []
    for function in (linear_cross_entropy, by_full_logits):
        tied = table.clone().requires_grad_()
        function(embedding(ids, tied).tanh(), tied, target, each).backward()
        grads.append(tied.grad)
    assert relative(*grads) < 1e-12


@pytest.mark.parametrize("backward_too", [False, True], ids=["forward", "forward and backward"])
def test_autocast_does_not_lower_its_precision(backward_too):
    hidden, weight, target, each = positions(20, 500, 16, torch.float32)
    rounded = hidden.bfloat16().requires_grad_()
    projection = weight.clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        assert (rounded @ projection.T).dtype == torch.bfloat16
        loss = linear_cross_entropy(rounded, projection, target, each)
        if backward_too:
            loss.backward()
    if not backward_too:
        loss.backward()
    reference = with_gradients(by_full_logits, rounded.detach().double(), weight.double(), target, each.double())
    assert (loss.dtype, projection.grad.dtype, rounded.grad.dtype) == (torch.float32, torch.float32, torch.bfloat16)
    assert relative(loss.detach(), reference[0]) < 1e-6
    assert relative(projection.grad, reference[2] / 3) < 1e-5
    assert relative(rounded.grad, reference[1] / 3) < torch.finfo(torch.bfloat16).eps


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_half_precision_tensors_are_computed_in_float32_and_rounded_once(half):
    inputs = positions(20, 500, 16, half)
    inputs = (*inputs[:3], inputs[3].float())
    ours = with_gradients(linear_cross_entropy, *inputs)
    exact = with_gradients(by_full_logits, *(t.double() if t.is_floating_point() else t for t in inputs))
    assert [tensor.dtype for tensor in ours] == [torch.float32, half, half]
    assert relative(ours[0], exact[0]) < 1e-6
    assert max(relative(value, other) for value, other in zip(ours[1:], exact[1:], strict=True)) < torch.finfo(half).eps


@pytest.mark.parametrize(
    ("hidden_trains", "weight_trains", "products"), [(True, True, 4), (True, False, 3), (False, True, 3)]
)
def test_only_wanted_gradients_are_computed(hidden_trains, weight_trains, products):
    hidden, weight, target, each = positions(64, 256, 8)
    hidden, weight = hidden.requires_grad_(hidden_trains), weight.requires_grad_(weight_trains)
    with Products() as counted:
        linear_cross_entropy(hidden, weight, target, each).backward()
    assert counted.multiplications == products * 64 * 256 * 8
    assert ((hidden.grad is not None), (weight.grad is not None)) == (hidden_trains, weight_trains)


def test_without_gradients_one_product_is_enough():
    hidden, weight, target, each = positions(64, 256, 8)
    with torch.no_grad(), Products() as counted:
        loss = linear_cross_entropy(hidden.requires_grad_(), weight.requires_grad_(), target, each)
    assert counted.multiplications == 64 * 256 * 8
    assert not loss.requires_grad


class Products(TorchDispatchMode):
    """Counts the multiplications of matrix products and notes the largest tensor that any operation returned."""

    def __init__(self):
        super().__init__()
        self.multiplications, self.largest = 0, 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        returned = function(*args, **(kwargs or {}))
        if function.overloadpacket in (torch.ops.aten.mm, torch.ops.aten.addmm, torch.ops.aten.addmm_):
            first_factor, right = args[-2:]
            self.multiplications += first_factor.shape[0] * first_factor.shape[1] * right.shape[1]
        for tensor in returned if isinstance(returned, (tuple, list)) else [returned]:
            if isinstance(tensor, torch.Tensor):
                self.largest = max(self.largest, tensor.numel())
        return returned


def test_no_operation_returns_more_than_a_chunk_of_logits_or_a_gradient(monkeypatch):
    chunks_of(monkeypatch, 100, 512)
    inputs = positions(512, 4000, 4)
    with Products() as ours:
        with_gradients(linear_cross_entropy, *inputs)
    with Products() as full:
        with_gradients(by_full_logits, *inputs)
    assert (ours.largest, full.largest) == (512 * 100, 512 * 4000)


@pytest.mark.parametrize(
    ("positions", "rows"), [(0, 49_152), (1, 49_152), (85, 49_152), (1024, 4096), (2048, 2048), (10**6, 256)]
)
def test_chunks_hold_four_million_logits_but_never_thin_rows(positions, rows):
    chunks = list(token_cross_entropy._chunks(torch.empty(49_152, 0), positions))
    assert chunks[0] == slice(0, rows)
    assert [chunk.start for chunk in chunks[1:]] == [chunk.stop for chunk in chunks[:-1]]
    assert chunks[-1].stop == 49_152


def test_huge_logits_stay_finite(monkeypatch):
    chunks_of(monkeypatch, 2, 2)
    hidden, weight = torch.tensor([[1e4], [-1e4]]), torch.tensor([[0.0], [0.5], [1.0], [-1.0]])
    ours = with_gradients(linear_cross_entropy, hidden, weight, torch.tensor([2, 2]), torch.ones(2))
    assert float(ours[0]) == 2e4
    assert all(tensor.isfinite().all() for tensor in ours)


def test_a_certain_right_answer_never_costs_less_than_nothing(monkeypatch):
    chunks_of(monkeypatch, 3, 50)
    hidden, weight, _, _ = positions(50, 20, 6, torch.float32)
    target = (hidden @ weight.T).argmax(dim=1)
    for scale in (1.0, 10.0, 100.0):
        loss_T = torch.stack(
            [
                linear_cross_entropy(hidden[i : i + 1] * scale, weight, target[i : i + 1], torch.ones(1))
                for i in range(50)
            ]
        )
        assert float(loss_T.min()) >= 0.0


def shaped(**changed):
    shapes = {"hidden_TD": (4, 3), "weight_VD": (9, 3), "target_T": (4,), "weight_T": (4,)} | changed
    return {k: torch.zeros(v, dtype=torch.int64 if k == "target_T" else torch.float32) for k, v in shapes.items()}


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (shaped(hidden_TD=(2, 4, 3)), r"hidden \(2, 4, 3\) and weight \(9, 3\) should be \(T, D\) and \(V, D\)"),
        (shaped(weight_VD=(3, 9)), r"hidden \(4, 3\) and weight \(3, 9\)"),
        (shaped(target_T=(5,)), r"target \(5,\) and weight_T \(4,\) should both be \(4,\)"),
        (shaped(weight_T=(4, 1)), r"weight_T \(4, 1\) should both be \(4,\)"),
        (shaped(weight_T=()), r"weight_T \(\) should both be \(4,\)"),
        (shaped() | {"target_T": torch.tensor([0, 8, -100, 3])}, r"target -100 at row 2 is not in \[0, 9\)"),
        (shaped() | {"target_T": torch.tensor([0, 9, 1, 3])}, r"target 9 at row 1 .* supervised positions only"),
    ],
)
def test_what_does_not_fit_is_refused(inputs, message):
    with pytest.raises(ValueError, match=message):
        linear_cross_entropy(**inputs)


@pytest.fixture(scope="module")
def gradients_of_ranks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    code, said = on_ranks(cross_entropy_of_a_rank, 2, str(folder))
    assert code == 0, said
    return folder


@pytest.mark.parametrize("cut", CUTS)
def test_ranks_give_the_gradients_of_one(cut, gradients_of_ranks):
    gradients = [torch.load(gradients_of_ranks / f"{cut} {rank}.pt", weights_only=True) for rank in range(2)]
    torch.manual_seed(0)
    model = Tied()
    model(*tied_inputs(slice(None))).backward()
    for parameter, first, second in zip(model.parameters(), *gradients, strict=True):
        assert torch.equal(first, second)
        assert torch.allclose(first * 2, parameter.grad, rtol=1e-12, atol=1e-15)
