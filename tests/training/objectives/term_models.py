"""Tiny models with every term, and what each rank does with them."""

import math

import open_clip
import torch
from open_clip.hf_model import HFTextEncoder
from torch import nn
from transformers import BertConfig

from medvlp.data.pairs import PairBatch
from medvlp.losses.captioning import Captioning
from medvlp.losses.distillation import Distillation
from medvlp.losses.info_nce import InfoNCE
from medvlp.losses.masked_language import MaskedLanguage
from medvlp.losses.sigmoid import Sigmoid
from medvlp.models.clip.fusion import FusionHead, start_decoder
from medvlp.training.module import OptimizerSettings
from medvlp.training.objectives.contrastive import Contrastive
from medvlp.training.objectives.terms import CaptionTerm, LabelTerm, MaskedLanguageTerm, TeacherTerm

PAIRS, LENGTH, VOCABULARY, WIDTH = 8, 9, 40, 12
VISION = {"image_size": 16, "layers": 1, "width": 16, "head_width": 8, "patch_size": 8, "output_tokens": True}
TEXT = {"context_length": LENGTH, "vocab_size": VOCABULARY, "width": 16, "heads": 2, "layers": 1}
SETTINGS = OptimizerSettings(1e-3, 0.1, (0.9, 0.98), 1e-6, "constant", 0, 0.0)
MEAN, STD = [0.5] * 3, [0.25] * 3


class BertClip(nn.Module):
    """A linear image tower and a BERT, as open_clip's CustomTextCLIP holds them."""

    def __init__(self, bias: float | None = None) -> None:
        super().__init__()
        self.visual = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, WIDTH))
        config = BertConfig(
            vocab_size=VOCABULARY,
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=24,
            max_position_embeddings=LENGTH,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        )
        self.text = HFTextEncoder("", WIDTH, config, "cls_last_hidden_state_pooler", "linear")
        self.text.transformer.pooler = None
        self.logit_scale = nn.Parameter(torch.tensor(math.log(14.0)))
        self.logit_bias = None if bias is None else nn.Parameter(torch.tensor(bias))

    def encode_image(self, images_BCHW):
        return self.visual(images_BCHW.contiguous())

    def encode_text(self, tokens_BL):
        return self.text(tokens_BL)


def coca() -> nn.Module:
    text = {**TEXT, "embed_cls": True, "output_tokens": True}
    model = open_clip.CoCa(WIDTH, TEXT, text, VISION)
    start_decoder(model)
    return model


def teacher() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(7)
        return open_clip.CLIP(6, {**VISION, "output_tokens": False}, TEXT).double()


def batch_of(share: slice = slice(None), is_masked: bool = True) -> PairBatch:
    """Pairs with everything that a term asks for; captions of different lengths, some labels missing."""
    generator = torch.Generator().manual_seed(3)
    tokens_BL = torch.randint(4, VOCABULARY, (PAIRS, LENGTH), generator=generator)
    tokens_BL[torch.arange(LENGTH) >= torch.randint(4, LENGTH + 1, (PAIRS, 1), generator=generator)] = 0
    is_selected_BL = (torch.rand(PAIRS, LENGTH, generator=generator) < 0.4) & (tokens_BL != 0)
    is_selected_BL[1] = False
    findings_BC = torch.rand(PAIRS, 3, generator=generator).round()
    findings_BC[torch.rand(PAIRS, 3, generator=generator) < 0.4] = torch.nan
    view_B = torch.tensor([0, 1, -1, 1, -1, -1, -1, -1])  # the second of two ranks has none
    return PairBatch(
        keys=[str(number) for number in range(PAIRS)][share],
        positions=list(range(PAIRS))[share],
        bad=[],
        images_BCHW=torch.randint(0, 256, (PAIRS, 3, 16, 16), generator=generator, dtype=torch.uint8)[share],
        tokens_BL=tokens_BL[share],
        text_ids_B=torch.arange(PAIRS)[share] // 2,
        class_ids=[[0], [0, 1], [2], [1], [3], [4], [4, 5], [5]][share],
        masked_tokens_BL=tokens_BL.masked_fill(is_selected_BL, 3)[share] if is_masked else None,
        is_selected_BL=is_selected_BL[share] if is_masked else None,
        teacher_tokens_BL=tokens_BL[share],
        targets={"view": view_B[share], "findings": findings_BC[share]},
    )


def module_of(kind: str) -> Contrastive:
    """coca: captions, a teacher's logits, heads; bert: masked words, a teacher's logits, heads, and a sigmoid loss."""
    torch.manual_seed(0)
    terms = {
        "distillation": TeacherTerm(Distillation(weight=0.7, teacher="x"), teacher(), MEAN, STD, 16),
        "head_view": LabelTerm("view", WIDTH, 2, False, 0.3, 0.1, [1.0, 2.0]),
        "head_findings": LabelTerm("findings", WIDTH, 3, True, 0.4),
    }
    if kind == "coca":
        model, loss, same_text = coca(), InfoNCE(), "masked"
        terms["captioning"] = CaptionTerm(Captioning(), 0)
    else:
        model, loss, same_text = BertClip(-3.0), Sigmoid(exchange="ring"), "positive"
        fusion = FusionHead(16, WIDTH, VOCABULARY, 2, 2)
        terms["masked_language"] = MaskedLanguageTerm(MaskedLanguage(), fusion, 0)
    module = Contrastive(model, loss, SETTINGS, 0, MEAN, STD, 100.0, same_text, "target", terms, 0.9)
    return module.double()


def gradients(module: Contrastive, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    """Of every parameter, those of terms among them."""
    module.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}


def terms_of_a_rank(folder: str) -> None:
    """Saves by model: the loss, its parts, and the gradients, each the mean over ranks, as DDP makes it."""
    torch.distributed.init_process_group("gloo")
    rank, ranks = torch.distributed.get_rank(), torch.distributed.get_world_size()
    results = {}
    for kind in ("coca", "bert"):
        module = module_of(kind)
        share = slice(rank * PAIRS // ranks, (rank + 1) * PAIRS // ranks)
        loss, values = module.loss(batch_of(share, kind == "bert"))
        parts = {name: value for name, value in values.items() if name.startswith("loss_")}
        results[kind] = {"loss": loss.detach(), **parts, **gradients(module, loss)}
        for value in results[kind].values():
            torch.distributed.all_reduce(value)
            value /= ranks
    torch.save(results, f"{folder}/{rank}.pt")
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
