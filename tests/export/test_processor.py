"""Stock LlavaProcessor with our template makes the tokens of training, for every family of tokenizers."""

from types import SimpleNamespace

import pytest
from PIL import Image
from transformers import AutoProcessor, CLIPImageProcessorPil

from medvlp.data.chat.encoder import ChatEncoder
from medvlp.data.chat.templates.families import FAMILIES
from medvlp.export.transformers import end_tokens, llava_processor
from medvlp.models.llava.model import Assistant
from medvlp.shards import BadSample, Turn
from medvlp.shards.vocabulary import IMAGE_TOKEN
from tests.data.chat.tiny_tokenizer import PUBLISHED, tiny_tokenizer

SQUARE = {"height": 32, "width": 32}
CONVERSATIONS = {
    "one image": [Turn("user", "<image>\nIs the heart enlarged?")],
    "image last": [Turn("user", "Is the heart enlarged? <image>")],
    "two images": [Turn("user", "<image>\n<image>\nWhich is wider,  left or right?")],
    "no image": [Turn("user", "What is a pneumothorax?")],
    "history": [Turn("user", "<image>\nWhere?"), Turn("assistant", "On the left."), Turn("user", "How large?")],
    "system": [Turn("system", "Answer briefly."), Turn("user", "<image>\nWhere?")],
}


def tiny_assistant(tokenizer) -> Assistant:
    """All of an assistant but its weights: 32 px, patches of 16, a class token that is dropped."""
    model = SimpleNamespace(
        config=SimpleNamespace(vision_feature_select_strategy="default"),
        generation_config=SimpleNamespace(eos_token_id=tokenizer.eos_token_id),
    )
    processor = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size=SQUARE)
    return Assistant(model, "llava", tokenizer, processor, 4, 16, 1, {}, None, {})


@pytest.mark.parametrize("family", sorted(PUBLISHED))
def test_prompts_have_the_tokens_of_training(family, tmp_path):
    tokenizer = tiny_tokenizer(family)
    encoder = ChatEncoder(tokenizer, FAMILIES[family], tokenizer.convert_tokens_to_ids(IMAGE_TOKEN), 4)
    llava_processor(tiny_assistant(tokenizer), encoder).save_pretrained(tmp_path)
    processor = AutoProcessor.from_pretrained(tmp_path)
    accepted = []
    for name, turns in CONVERSATIONS.items():
        images = [Image.new("RGB", (40, 50))] * sum(turn.text.count(IMAGE_TOKEN) for turn in turns)
        try:
            expected = encoder.prompt(turns, len(images)).tolist()
        except BadSample:
            continue
        messages = [{"role": turn.role, "content": turn.text} for turn in turns]
        text = processor.apply_chat_template(messages, add_generation_prompt=True)
        assert processor(images=images or None, text=text)["input_ids"] == [expected], name
        accepted.append(name)
    assert set(accepted) >= set(CONVERSATIONS) - {"system"}


@pytest.mark.parametrize("family", sorted(PUBLISHED))
def test_answers_end_at_the_templates_token(family):
    tokenizer = tiny_tokenizer(family)
    encoder = ChatEncoder(tokenizer, FAMILIES[family], tokenizer.convert_tokens_to_ids(IMAGE_TOKEN), 4)
    last = {"gemma": "<end_of_turn>", "gemma-3": "<end_of_turn>", "phi-3": "<|end|>", "phi-4-mini": "<|end|>"}
    ends = {tokenizer.eos_token, last.get(family, tokenizer.eos_token)}
    assert set(tokenizer.convert_ids_to_tokens(end_tokens(tiny_assistant(tokenizer), encoder))) == ends
