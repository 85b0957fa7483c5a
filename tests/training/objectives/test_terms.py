"""Losses that are added to a contrastive one: what they are, in parts, over ranks, and what is saved of them."""

import pytest
import torch
from open_clip.loss import CoCaLoss, DistillClipLoss
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from medvlp.data.batch import StepBatch
from medvlp.losses import LossError, Pairs, auxiliary_losses
from medvlp.losses.distillation import Distillation
from medvlp.training.steps.grad_cache import cached_loss
from tests.distributed.ranks import on_ranks
from tests.losses.ranks import features, pairs_of
from tests.losses.ranks import gradients as gradients_of_pairs
from tests.training.objectives.term_models import batch_of, gradients, module_of, terms_of_a_rank


@pytest.fixture(scope="module")
def whole():
    """By model: the module, its loss, the parts of it, and the gradients, on one rank."""
    results = {}
    for kind in ("coca", "bert"):
        module = module_of(kind)
        loss, values = module.loss(batch_of(is_masked=kind == "bert"))
        results[kind] = module, loss.detach(), values, gradients(module, loss)
    return results


def test_captions_are_open_clips(whole):
    module, _, values, _ = whole["coca"]
    batch = batch_of(is_masked=False)
    images = (batch.images_BCHW.double() / 255 - module.mean) / module.std
    output = module.model(images, batch.tokens_BL)
    theirs = CoCaLoss(caption_loss_weight=1.0, clip_loss_weight=0.0, pad_id=0)(**output)[1]
    assert float(values["loss_captioning"]) == pytest.approx(float(theirs), rel=1e-12)


def test_masked_words_are_told_from_the_masked_text_and_the_image(whole):
    module, _, values, grads = whole["bert"]
    batch = batch_of()
    states = module.model.text.transformer(
        input_ids=batch.masked_tokens_BL, attention_mask=batch.masked_tokens_BL != 0
    ).last_hidden_state
    image = torch.nn.functional.normalize(
        module.model.encode_image((batch.images_BCHW.double() / 255 - module.mean) / module.std), dim=-1
    )
    fusion = module.auxiliary["masked_language"].fusion
    logits = fusion(states, batch.masked_tokens_BL == 0, image) @ fusion.vocabulary_proj.T
    selected = batch.is_selected_BL
    expected = cross_entropy(logits[selected], batch.tokens_BL[selected])
    assert float(values["loss_masked_language"]) == pytest.approx(float(expected), rel=1e-12)
    assert grads["auxiliary.masked_language.fusion.image_proj.weight"].norm() > 0  # it reads the image
    other = fusion(states, batch.masked_tokens_BL == 0, image.roll(1, 0)) - fusion(
        states, batch.masked_tokens_BL == 0, image
    )
    assert other[selected].norm() > 0


def test_labels_count_where_they_are(whole):
    module, _, values, _ = whole["coca"]
    batch = batch_of(is_masked=False)
    images = module.encode(batch)["image_BD"]
    view, findings = (module.auxiliary[f"head_{name}"].linear(images) for name in ("view", "findings"))
    weights = torch.tensor([1.0, 2.0], dtype=torch.float64)
    expected = cross_entropy(view, batch.targets["view"], weights, ignore_index=-1, label_smoothing=0.1)
    assert float(values["loss_head_view"]) == pytest.approx(float(expected), rel=1e-12)
    present = ~batch.targets["findings"].isnan()
    expected = binary_cross_entropy_with_logits(findings[present], batch.targets["findings"][present].double())
    assert float(values["loss_head_findings"]) == pytest.approx(float(expected), rel=1e-12)


@pytest.mark.parametrize("chunk", [0, 3])
def test_distillation_from_logits_is_open_clips(chunk):
    pairs, (image, text) = pairs_of("masked", "classes", "target"), features(seed=5)
    scale = torch.tensor(9.0, dtype=torch.float64)
    ours = Distillation(teacher="x", chunk=chunk)(pairs, Pairs(image_BD=image, text_BD=text, logit_scale=scale))
    theirs = DistillClipLoss()(pairs.image_BD, pairs.text_BD, pairs.logit_scale, image, text, scale)[1]
    assert float(ours.detach()) == pytest.approx(float(theirs.detach()), rel=1e-12)
    for row, another in zip(gradients_of_pairs(ours, pairs), gradients_of_pairs(theirs, pairs), strict=True):
        torch.testing.assert_close(row, another, rtol=1e-9, atol=1e-13)


def test_distillation_from_features_is_their_distance():
    pairs, (image, text) = pairs_of("negative", None, "target"), features(seed=5)
    teacher = Pairs(image_BD=image, text_BD=text, logit_scale=torch.tensor(1.0))
    distance = sum(
        (row - another).square().sum()
        for row, another in zip([*pairs.image_BD, *pairs.text_BD], [*image, *text], strict=True)
    )
    assert float(Distillation(teacher="x", on="features")(pairs, teacher).detach()) == pytest.approx(
        float(distance.detach()) / 16
    )


def test_the_loss_is_the_weighted_sum_of_its_parts(whole):
    for module, loss, values, grads in whole.values():
        weights = {"contrastive": module.weight, **{name: term.weight for name, term in module.terms.items()}}
        assert float(loss) == pytest.approx(sum(w * float(values[f"loss_{name}"]) for name, w in weights.items()))
        assert set(grads) == {name for name, p in module.named_parameters() if p.requires_grad}
        assert not any("teacher" in name or "hidden" in name for name in module.state_dict())


@pytest.mark.parametrize("kind", ["coca", "bert"])
def test_a_step_in_parts_is_the_whole_step(kind, whole):
    _, loss, values, grads = whole[kind]
    module = module_of(kind)
    batches = [batch_of(share, kind == "bert") for share in (slice(0, 2), slice(2, 8))]
    parted, parts = cached_loss(module, StepBatch.of(batches))
    parted.backward()
    assert float(parted) == pytest.approx(float(loss), rel=1e-12)
    assert {name: float(value) for name, value in parts.items() if name.startswith("loss_")} == pytest.approx(
        {name: float(value) for name, value in values.items() if name.startswith("loss_")}
    )
    torch.testing.assert_close(parts["losses_B"], values["losses_B"], rtol=1e-10, atol=1e-12)
    for name, parameter in module.named_parameters():
        torch.testing.assert_close(parameter.grad, grads[name], rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("kind", ["coca", "bert"])
def test_half_precision_gives_nearly_the_same_parts(kind, whole):
    _, _, values, _ = whole[kind]
    parts = module_of(kind).bfloat16().loss(batch_of(is_masked=kind == "bert"))[1]
    for name, value in values.items():
        if name != "losses_B":
            assert float(parts[name]) == pytest.approx(float(value), rel=0.1), name


def test_two_ranks_give_every_part_and_every_gradient_of_one(whole, tmp_path):
    code, said = on_ranks(terms_of_a_rank, 2, str(tmp_path))
    assert code == 0, said
    results = torch.load(tmp_path / "0.pt", weights_only=True)
    for kind, (_, loss, values, grads) in whole.items():
        expected = {"loss": loss, **{n: v for n, v in values.items() if n.startswith("loss_")}, **grads}
        assert results[kind].keys() == expected.keys()
        for name, value in expected.items():
            torch.testing.assert_close(results[kind][name], value, rtol=1e-8, atol=1e-12)


def test_terms_are_optimised_and_saved_next_to_the_model(whole):
    module = whole["bert"][0]
    groups = module.configure_optimizers()["optimizer"].param_groups
    learning = {id(parameter) for group in groups for parameter in group["params"]}
    assert learning == {id(parameter) for parameter in module.parameters() if parameter.requires_grad}
    assert [group["weight_decay"] for group in groups if group["name"].startswith("auxiliary")] == [0.1, 0.0]
    checkpoint = {"state_dict": module.state_dict(), "global_step": 0}
    module.on_save_checkpoint(checkpoint)
    assert checkpoint["state_dict"].keys() == module.model.state_dict().keys()
    other = module_of("bert")
    with torch.no_grad():
        for parameter in other.auxiliary.parameters():
            parameter.zero_()
    progress = {"fit_loop": {"epoch_loop.batch_progress": {}}}
    other.on_load_checkpoint({**checkpoint, "loops": progress})
    assert all(
        torch.equal(value, module.auxiliary.state_dict()[n]) for n, value in other.auxiliary.state_dict().items()
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"distilation": {}}, "did you mean 'distillation'"),
        ({"distillation": {}}, "teacher is empty"),
        ({"distillation": {"teacher": "x", "on": "both"}}, "Choices: logits, features"),
        ({"captioning": {"weight": 0}}, "objective.auxiliary.captioning.weight=0 must be above 0"),
        ({"captioning": {"wait": 1.0}}, "objective.auxiliary.captioning.wait"),
        ({"masked_language": {"share": 1.5}}, "share above 0 and below 1"),
        ({"masked_language": {"layers": 0}}, "layers=0 must be at least 1"),
    ],
)
def test_a_slip_is_named(options, message):
    with pytest.raises(LossError) as caught:
        auxiliary_losses(options)
    assert message in str(caught.value)
