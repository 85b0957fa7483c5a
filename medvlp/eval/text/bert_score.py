"""BERTScore (Zhang, Kishore, Wu, Weinberger and Artzi 2020) with an encoder that the task names.

T, H: tokens of a text; D: width.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from medvlp.eval.errors import TaskError
from medvlp.models.digests import FileFacts, content_identity, sha256_of
from medvlp.models.hf.folders import content_files, model_folder, refuse_code
from medvlp.models.hf.kinds import ENCODER
from medvlp.models.hf.loading import Loading, load_model
from medvlp.models.hf.readers import load_tokenizer

BATCH_SIZE = 32
"""Texts in a batch."""


class BertScore:
    """Precision, recall and F1 of the best cosines between the tokens of a text and of a reference.

    As the authors' package computes it without idf and without rescaling to a baseline: vectors of one layer; the tokens that
    begin and end a text can be matched, and weigh nothing themselves; of several references the best value of each score
    counts; a text without tokens scores 0.

    Args:
        name: a folder or a name on the Hugging Face hub, with @ and a revision if wanted; `hf:` in front is understood.
        layer: whose vectors are compared: 0 the embeddings, -1 the last.
    Raises:
        WeightsError: nothing there, no safetensors, or code of its own.
    """

    def __init__(self, name: str, layer: int) -> None:
        self.name, self.layer = name.removeprefix("hf:"), layer
        target, _, revision = self.name.partition("@")
        self.folder, gguf = model_folder(target, revision)
        files = content_files(self.folder, gguf)
        refuse_code(self.folder, self.name)
        facts = FileFacts(None)
        self.identity = content_identity([[path.name, sha256_of(path, facts)] for path in files])
        self.texts_cut: set[str] = set()
        """Texts with more tokens than the encoder reads, so far."""

    def protocol(self) -> Mapping[str, Any]:
        """The encoder, by name and content, and its layer."""
        return {
            "definition": "BERTScore without idf and without rescaling; the best reference of each text",
            "model": self.name,
            "weights": self.identity,
            "layer": self.layer,
        }

    def notes(self) -> Mapping[str, Any]:
        """What is known after scoring: the tokens of a text that the encoder reads, and how many texts had more."""
        return {"most_tokens": self._parts[2], "texts_cut": len(self.texts_cut)}

    def score(self, predictions: Sequence[str], references: Sequence[Sequence[str]]) -> Mapping[str, Sequence[float]]:
        """precision, recall and f1 of each text.

        Raises:
            TaskError: a layer that the encoder does not have.
        """
        unique = list(dict.fromkeys([*predictions, *(reference for row in references for reference in row)]))
        vectors: dict[str, tuple[Tensor, Tensor]] = {}
        for start in range(0, len(unique), BATCH_SIZE):
            texts = unique[start : start + BATCH_SIZE]
            vectors |= dict(zip(texts, self._vectors(texts), strict=True))
        triples = [
            best_of([token_scores(*vectors[text], *vectors[reference]) for reference in row])
            for text, row in zip(predictions, references, strict=True)
        ]
        return {name: [triple[i] for triple in triples] for i, name in enumerate(("precision", "recall", "f1"))}

    @cached_property
    def _parts(self) -> tuple[Any, Any, int]:
        """Encoder, tokenizer, and the tokens that it reads at most."""
        device = "cuda" if torch.cuda.is_available() else "cpu"
        model = load_model(ENCODER, self.folder, self.name, Loading(), device)
        tokenizer = load_tokenizer(self.folder, self.name)
        layers = int(model.config.num_hidden_layers)
        if not -layers - 1 <= self.layer <= layers:
            raise TaskError(f"bert_layer={self.layer}: {self.name} has layers 0 to {layers}")
        positions = getattr(model.config, "max_position_embeddings", None) or tokenizer.model_max_length
        longest = int(tokenizer.model_max_length)
        if longest > int(positions):  # the tokenizer does not say; some families number positions from 2
            longest = int(positions) - 2
        return model, tokenizer, longest

    @torch.no_grad()
    def _vectors(self, texts: Sequence[str]) -> list[tuple[Tensor, Tensor]]:
        """For each text (T, D) unit vectors of its tokens, and (T,) whether each has a weight."""
        model, tokenizer, longest = self._parts
        lengths = [len(ids) for ids in tokenizer(list(texts), verbose=False)["input_ids"]]
        self.texts_cut.update(text for text, length in zip(texts, lengths, strict=True) if length > longest)
        inputs = tokenizer(list(texts), padding=True, truncation=True, max_length=longest, return_tensors="pt")
        outputs = model(**{name: value.to(model.device) for name, value in inputs.items()}, output_hidden_states=True)
        vectors_BTD = normalize(outputs.hidden_states[self.layer].float(), dim=-1).cpu()
        edges = torch.tensor([i for i in (tokenizer.cls_token_id, tokenizer.sep_token_id) if i is not None])
        ids_BT, mask_BT = inputs["input_ids"], inputs["attention_mask"].bool()
        weighs_BT = mask_BT & ~torch.isin(ids_BT, edges)
        return [
            (vectors_TD[mask_T], weighs_T[mask_T])
            for vectors_TD, mask_T, weighs_T in zip(vectors_BTD, mask_BT, weighs_BT, strict=True)
        ]


def token_scores(
    text_TD: Tensor, weighs_T: Tensor, reference_HD: Tensor, weighs_H: Tensor
) -> tuple[float, float, float]:
    """Precision, recall and F1 of a text: the mean over its tokens (the reference's) of the best cosine on the other side."""
    if not weighs_T.any() or not weighs_H.any():
        return 0.0, 0.0, 0.0
    cosine_TH = text_TD @ reference_HD.T
    precision = float(cosine_TH.max(dim=1).values[weighs_T].double().mean())
    recall = float(cosine_TH.max(dim=0).values[weighs_H].double().mean())
    total = precision + recall
    return precision, recall, 2 * precision * recall / total if total else 0.0


def best_of(triples: Sequence[tuple[float, float, float]]) -> tuple[float, float, float]:
    """The best value of each score."""
    precision, recall, f1 = (max(values) for values in zip(*triples, strict=True))
    return precision, recall, f1
