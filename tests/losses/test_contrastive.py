"""The contrastive losses against loops that read as their definitions, against open_clip's, and over ranks."""

import math
from dataclasses import replace

import pytest
import torch
from open_clip.loss import ClipLoss, SigLipLoss

from medvlp.losses import Pairs, contrastive_loss
from tests.distributed.ranks import on_ranks
from tests.losses.ranks import CASES, CLASSES, IDS, OVER_RANKS, SETS, features, gradients, losses_of_a_rank, pairs_of


def relations(text, ids, way):
    """right[i], ignored[i]: sets of numbers of pairs."""
    classes = {None: [[number] for number in range(8)], "classes": [[number] for number in CLASSES], "sets": SETS}[ids]
    right, ignored = [], []
    for i in range(8):
        equal_text = {j for j in range(8) if IDS[j] == IDS[i]}
        joined = {j for j in range(8) if set(classes[j]) & set(classes[i])}
        positive = (
            {i} | (equal_text if text in ("mil_nce", "positive") else set()) | (set() if way == "mask" else joined)
        )
        masked = (equal_text if text == "masked" else set()) | (joined if way == "mask" else set())
        right.append(positive)
        ignored.append(masked - positive)
    return right, ignored


def by_definition(*args, **options):
    """The mean of what each pair has of the loss."""
    return torch.stack(of_pairs_by_definition(*args, **options)).mean()


def of_pairs_by_definition(name, pairs, right, ignored, inside, beta=0.25):
    """Loops over pairs and candidates; differentiable."""
    image, text, scale, bias = pairs.image_BD, pairs.text_BD, pairs.logit_scale, pairs.logit_bias
    count, terms = len(image), []
    if name == "sigmoid":
        for i in range(count):
            signs = {j: 1 if j in right[i] else -1 for j in set(range(count)) - ignored[i]}
            logits = {j: sign * (scale * (image[i] @ text[j]) + bias) for j, sign in signs.items()}
            terms.append(-sum(torch.nn.functional.logsigmoid(logit) for logit in logits.values()))
        return terms
    for queries, candidates in ((image, text), (text, image)):
        for i in range(count):
            logit = {j: scale * (queries[i] @ candidates[j]) for j in set(range(count)) - ignored[i]}
            negatives = set(logit) - right[i]
            weight = dict.fromkeys(logit, 1.0)
            if name == "hard_negatives" and negatives:
                mean = sum((beta * logit[j]).exp() for j in negatives) / len(negatives)
                weight |= {j: (beta * logit[j]).exp() / mean for j in negatives}
            total = sum(weight[j] * logit[j].exp() for j in logit)
            if inside:
                terms.append(-(sum(logit[j].exp() for j in right[i]) / total).log())
            else:
                terms.append(-sum((logit[j].exp() / total).log() for j in right[i]) / len(right[i]))
    return [(of_image + of_text) / 2 for of_image, of_text in zip(terms[:count], terms[count:], strict=True)]


def close(ours, others, rtol=1e-9):
    for row, another in zip(ours, others, strict=True):
        torch.testing.assert_close(row, another, rtol=rtol, atol=1e-13)


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("chunk", [0, 3])
def test_losses_and_gradients_are_those_of_the_definition(case, chunk):
    name, text, ids, way = case
    pairs, another = pairs_of(text, ids, way, scale=4.0), pairs_of(text, ids, way, scale=4.0)
    loss_function = contrastive_loss(name, {"chunk": chunk})
    losses_B = loss_function.of_pairs(pairs)
    inside = text == "mil_nce" or way == "inside"
    expected_B = torch.stack(of_pairs_by_definition(name, another, *relations(text, ids, way), inside))
    torch.testing.assert_close(losses_B, expected_B, rtol=1e-12, atol=1e-13)
    assert loss_function(pairs) == losses_B.mean()
    weight_B = torch.linspace(0.2, 1.7, len(losses_B), dtype=losses_B.dtype)  # each pair's gradient is its own
    close(gradients(losses_B @ weight_B, pairs), gradients(expected_B @ weight_B, another))


@pytest.mark.parametrize("case", [case for case in CASES if case[1:3] != ("negative", None)], ids=str)
def test_every_target_and_mask_changes_the_gradient(case):
    """Equal texts have one embedding, as a text tower gives them."""
    name, text, ids, way = case
    options = {}
    rows = []
    for pairs in (pairs_of(text, ids, way, scale=5.0), pairs_of("negative", None, "target", scale=5.0)):
        embeddings_BD = pairs.text_BD[[IDS.index(text_id) for text_id in IDS]].detach().requires_grad_()
        pairs = replace(pairs, text_BD=embeddings_BD)
        rows.append(gradients(contrastive_loss(name, options)(pairs), pairs)[:2])
    for row, plain in zip(*rows, strict=True):
        assert (row - plain).norm() > 0.01 * plain.norm()


def test_a_target_uniform_over_equal_texts_would_be_the_loss_itself():
    pairs = pairs_of("negative", None, "target", scale=5.0)
    pairs = replace(pairs, text_BD=pairs.text_BD[[IDS.index(text_id) for text_id in IDS]])
    right, ignored = relations("positive", None, "target")
    uniform = by_definition("info_nce", pairs, right, ignored, inside=False)
    assert float(uniform) == pytest.approx(float(contrastive_loss("info_nce", {})(pairs)), rel=1e-12)


def test_inside_the_logarithm_acts_from_a_text_to_its_images_and_adds_a_constant_from_an_image_to_its_texts():
    pairs = pairs_of("mil_nce", None, "target", scale=5.0)
    image, text = features()
    text = text[[IDS.index(text_id) for text_id in IDS]]
    same = torch.tensor(IDS)[:, None] == torch.tensor(IDS)
    by_text = torch.nn.functional.one_hot(torch.tensor(IDS)).double()

    def both(logits):  # the gradients of one direction's loss, inside the logarithm and plain
        logits = logits.requires_grad_()
        right = logits.masked_fill(~same, -math.inf).logsumexp(dim=1), logits.diagonal()
        return [torch.autograd.grad((logits.logsumexp(dim=1) - term).mean(), logits)[0] for term in right]

    inside, plain = both(pairs.logit_scale.detach() * image @ text.T)
    assert torch.allclose(inside @ by_text, plain @ by_text, atol=1e-12)  # what reaches the one embedding of a text
    inside, plain = both(pairs.logit_scale.detach() * text @ image.T)
    assert (by_text.T @ (inside - plain)).norm() > 0.1 * (by_text.T @ plain).norm()


@pytest.mark.parametrize(("name", "peer"), [("info_nce", ClipLoss()), ("sigmoid", SigLipLoss())])
def test_they_are_open_clips_losses_and_gradients(name, peer):
    pairs = pairs_of("negative", None, "target")
    loss = contrastive_loss(name, {})(pairs)
    arguments = (pairs.image_BD, pairs.text_BD, pairs.logit_scale)
    theirs = peer(*arguments, *([pairs.logit_bias] if name == "sigmoid" else []))
    assert float(loss) == pytest.approx(float(theirs), rel=1e-12)
    close(gradients(loss, pairs), gradients(theirs, pairs))


def test_without_weights_hard_negatives_are_info_nce():
    pairs = pairs_of("masked", "classes", "inside")
    loss, plain = contrastive_loss("hard_negatives", {"beta": 0.0})(pairs), contrastive_loss("info_nce", {})(pairs)
    close([loss, *gradients(loss, pairs)], [plain, *gradients(plain, pairs)])


def test_a_row_without_negatives_has_no_loss_and_finite_gradients():
    pairs = replace(pairs_of("masked", None, "target"), text_ids_B=torch.ones(8, dtype=torch.int64))
    for name in ("info_nce", "hard_negatives"):
        loss = contrastive_loss(name, {})(pairs)
        assert float(loss.detach()) == pytest.approx(0.0, abs=1e-12)
        assert all(gradient.abs().max() < 1e-12 for gradient in gradients(loss, pairs))


def test_equal_embeddings_give_the_logarithm_of_the_batch():
    image = torch.ones(7, 1)
    pairs = Pairs(image_BD=image, text_BD=image, logit_scale=torch.tensor(20.0))
    assert float(contrastive_loss("info_nce", {})(pairs)) == pytest.approx(math.log(7))


def test_in_single_precision_blocks_are_the_whole_within_rounding():
    image, text = (values.float() for values in features(256, 16))
    scale = torch.tensor(100.0, requires_grad=True)
    rows = []
    for name in ("info_nce", "sigmoid"):
        for chunk in (0, 7):
            pairs = Pairs(
                image_BD=image.clone().requires_grad_(),
                text_BD=text.clone().requires_grad_(),
                logit_scale=scale,
                logit_bias=torch.tensor(-10.0, requires_grad=True),
            )
            loss = contrastive_loss(name, {"chunk": chunk})(pairs)
            rows.append([loss.detach(), *gradients(loss, pairs)])
    for whole, blocks in (rows[:2], rows[2:]):
        for row, another in zip(whole, blocks, strict=True):
            assert (row - another).norm() <= 3e-6 * row.norm()


def test_unknown_meanings_and_missing_ids_are_refused():
    pairs = pairs_of("negative", None, "target")
    with pytest.raises(ValueError, match="same_text='other'"):
        contrastive_loss("info_nce", {})(replace(pairs, same_text="other"))
    with pytest.raises(ValueError, match="needs text_ids_B"):
        contrastive_loss("info_nce", {})(replace(pairs, same_text="masked", text_ids_B=None))


@pytest.mark.parametrize("ranks", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_ranks_give_the_losses_and_gradients_of_one(ranks, tmp_path):
    code, said = on_ranks(losses_of_a_rank, ranks, str(tmp_path))
    assert code == 0, said
    results = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(ranks)]
    assert len(results[0]) == len(OVER_RANKS) + sum(case[0] == "sigmoid" for case in OVER_RANKS)
    for case in OVER_RANKS:
        pairs = pairs_of(*case[1:])
        loss = contrastive_loss(case[0], {})(pairs)
        expected = [loss.detach(), *gradients(loss, pairs)]
        for exchange in ("gather", "ring") if case[0] == "sigmoid" else ("",):
            of_ranks = [result[f"{case} {exchange}"] for result in results]
            joined = [torch.cat([values[k] for values in of_ranks]) for k in (1, 2)]
            close([of_ranks[0][0], *joined, *of_ranks[0][3:5]], expected)
            of_pairs = torch.cat([values[5] for values in of_ranks])
            torch.testing.assert_close(
                of_pairs, contrastive_loss(case[0], {}).of_pairs(pairs).detach(), rtol=1e-9, atol=1e-13
            )
