"""Bag-of-words training, an assistant's first stage: image tokens predict the words of the image's texts.

B: samples; N: images; P: tokens an image; D: width of the language model; W: words of the vocabulary.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, normalize

from medvlp.data.bag_of_words import BagOfWordsBatch
from medvlp.models.llava.model import projected_features
from medvlp.training.module import TrainingModule

SCALE = 30.0
"""Inverse temperature of the cosine between an image and a word."""
SIZE_WEIGHT = 0.01
"""Of the pull that brings image tokens to the size of word embeddings."""


class BagOfWords(TrainingModule):
    """Which words are said of an image, read off its projected tokens by the language model's own word embeddings.

    A bag-of-words loss: the mean of an image's tokens is compared with the embedding of each word of a vocabulary, on
    top of how frequent the word is. The language model itself is not run, so that an epoch takes a second where
    captioning takes minutes, and what it will read afterwards are vectors that resemble words of its own.

    Its model is a LlavaForConditionalGeneration or a FastVlmForConditionalGeneration.
    """

    def loss(self, batch: BagOfWordsBatch) -> tuple[Tensor, dict[str, Tensor | float]]:
        model: Any = self.model
        tokens_NPD = projected_features(model, batch.images_N)
        embedding_VD = model.get_input_embeddings().weight.detach()
        sample_index_N = batch.sample_index_N
        count_B = torch.bincount(sample_index_N, minlength=len(batch.words_BW))
        sums_BD = tokens_NPD.new_zeros(len(count_B), tokens_NPD.shape[2]).index_add(
            0, sample_index_N, tokens_NPD.mean(dim=1)
        )
        image_BD = normalize(sums_BD / count_B[:, None], dim=-1)
        logits_BW = SCALE * image_BD @ normalize(embedding_VD[batch.vocabulary_W], dim=-1).T
        logits_BW = logits_BW + batch.prior_W
        words_loss = binary_cross_entropy_with_logits(logits_BW, batch.words_BW)
        usual_size = embedding_VD.square().mean().sqrt()
        sizes_NP = tokens_NPD.square().mean(dim=-1).sqrt()
        size_loss = ((sizes_NP / usual_size - 1) ** 2).mean()
        return words_loss + SIZE_WEIGHT * size_loss, {"size": sizes_NP.detach().mean() / usual_size}
