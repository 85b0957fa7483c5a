import math

import pytest
import torch
from open_clip.loss import ClipLoss

from medvlp.losses.info_nce import InfoNCE, any_of, cross_entropy
from tests.distributed.ranks import on_ranks
from tests.losses.ranks import IDS, KINDS, features, info_nce_of_a_rank

info_nce = InfoNCE()


def by_definition(image, text, scale, ids, same_text, classes=None, uniform_over_equal_texts=False):
    """Loops over pairs and candidates, as the definition reads."""
    total, count = 0.0, len(image)
    classes = list(range(count)) if classes is None else classes
    for queries, candidates in ((image, text), (text, image)):
        for i in range(count):
            right = {j for j in range(count) if j == i or classes[j] == classes[i]}
            if same_text == "mil_nce" or uniform_over_equal_texts:
                right |= {j for j in range(count) if ids[j] == ids[i]}
            hidden = {j for j in range(count) if same_text == "masked" and ids[j] == ids[i]} - right
            weight = {j: math.exp(float(scale * queries[i] @ candidates[j])) for j in range(count) if j not in hidden}
            if same_text == "mil_nce":
                total -= math.log(sum(weight[j] for j in right) / sum(weight.values()))
            else:
                total -= sum(math.log(weight[j] / sum(weight.values())) for j in right) / len(right)
    return total / (2 * count)


def gradients(same_text, ids, classes=None, seed=0):
    """Of image features, texts that are equal having one embedding."""
    image, text = features(seed=seed)
    text = text[[ids.index(text_id) for text_id in ids]]
    image.requires_grad_(), text.requires_grad_()
    classes = None if classes is None else torch.tensor(classes)
    loss = info_nce(image, text, torch.tensor(5.0, dtype=torch.float64), torch.tensor(ids), same_text, classes)
    return torch.autograd.grad(loss, (image, text))


@pytest.mark.parametrize(("same_text", "classes"), KINDS)
@pytest.mark.parametrize("ids", [[0, 1, 2, 3, 4, 5, 6, 7], [0, 1, 0, 1, 2, 2, 2, 3], [5] * 8])
def test_it_is_the_definition(same_text, classes, ids):
    image, text = features()
    tensor = None if classes is None else torch.tensor(classes)
    loss = info_nce(image, text, torch.tensor(3.0), torch.tensor(ids), same_text, tensor)
    assert float(loss) == pytest.approx(by_definition(image, text, 3.0, ids, same_text, classes), rel=1e-12)


def test_a_target_uniform_over_equal_texts_would_be_the_loss_itself():
    image, text = features()
    text = text[[IDS.index(text_id) for text_id in IDS]]
    plain = by_definition(image, text, 5.0, IDS, "negative")
    assert by_definition(image, text, 5.0, IDS, "negative", uniform_over_equal_texts=True) == pytest.approx(
        plain, rel=1e-12
    )


@pytest.mark.parametrize(("same_text", "classes"), KINDS[1:])
def test_what_is_offered_instead_changes_the_gradient(same_text, classes):
    plain, other = gradients("negative", IDS), gradients(same_text, IDS, classes)
    for row, another in zip(plain, other, strict=True):
        assert (row - another).norm() > 0.05 * row.norm()


def test_from_image_to_text_mil_nce_adds_a_constant_and_from_text_to_image_it_acts():
    image, text = features()
    text = text[[IDS.index(text_id) for text_id in IDS]]
    same = torch.tensor(IDS)[:, None] == torch.tensor(IDS)
    by_text = torch.nn.functional.one_hot(torch.tensor(IDS)).double()

    def gradients_of(logits):
        logits = logits.requires_grad_()
        right = ((any_of, same), (cross_entropy, torch.eye(8).bool()))
        return [torch.autograd.grad(loss(logits, positive), logits)[0] for loss, positive in right]

    inside, plain = gradients_of(
        5 * image @ text.T
    )  # what reaches the one embedding of a text: the sum over its columns
    assert torch.allclose(inside @ by_text, plain @ by_text, atol=1e-12)
    inside, plain = gradients_of(5 * text @ image.T)  # and here over its rows
    assert (by_text.T @ (inside - plain)).norm() > 0.1 * (by_text.T @ plain).norm()


def test_it_is_open_clips_loss_and_gradient():
    ours, theirs = [], []
    for function, gradients in ((lambda i, t, s: info_nce(i, t, s), ours), (ClipLoss(), theirs)):
        image, text = (f.requires_grad_() for f in features())
        scale = torch.tensor(14.0, dtype=torch.float64, requires_grad=True)
        loss = function(image, text, scale)
        gradients += [loss, *torch.autograd.grad(loss, (image, text, scale))]
    for ours_row, other in zip(ours, theirs, strict=True):
        assert torch.allclose(ours_row, other, rtol=1e-12, atol=1e-14)


def test_equal_embeddings_give_the_logarithm_of_the_batch():
    image = torch.ones(7, 1)
    assert float(info_nce(image, image, torch.tensor(20.0))) == pytest.approx(math.log(7))


def test_masking_leaves_no_gradient_through_what_is_masked():
    image, text = (f.requires_grad_() for f in features(4))
    loss = info_nce(image, text, torch.tensor(5.0), torch.tensor([1, 1, 1, 1]), "masked")
    assert float(loss) == 0.0
    assert all(not g.any() and g.isfinite().all() for g in torch.autograd.grad(loss, (image, text)))


def test_unknown_same_text_and_missing_ids_are_refused():
    image, text = features(2)
    with pytest.raises(ValueError, match="same_text='other'"):
        info_nce(image, text, torch.tensor(1.0), same_text="other")
    with pytest.raises(ValueError, match="needs text_ids_B"):
        info_nce(image, text, torch.tensor(1.0), same_text="masked")


@pytest.mark.parametrize("ranks", [2, 4])
def test_ranks_give_the_loss_and_gradients_of_one(ranks, tmp_path):
    code, said = on_ranks(info_nce_of_a_rank, ranks, str(tmp_path))
    assert code == 0, said
    results = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(ranks)]
    for same_text, classes in KINDS:
        kind = f"{same_text} {classes}"
        image, text = (f.requires_grad_() for f in features())
        scale = torch.tensor(14.0, dtype=torch.float64, requires_grad=True)
        shared = None if classes is None else torch.tensor(classes)
        loss = info_nce(image, text, scale, torch.tensor(IDS), same_text, shared)
        grads = torch.autograd.grad(loss, (image, text, scale))
        assert torch.allclose(results[0][kind][0], loss.detach(), rtol=1e-12)
        assert torch.allclose(torch.cat([f[kind][1] for f in results]), grads[0], rtol=1e-9, atol=1e-15)
        assert torch.allclose(torch.cat([f[kind][2] for f in results]), grads[1], rtol=1e-9, atol=1e-15)
        assert torch.allclose(results[0][kind][3], grads[2], rtol=1e-9)
